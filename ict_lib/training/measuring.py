"""Measuring a training while it goes on: all processes draw, one computes, and the best weights are kept."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ict_lib.checks import require
from ict_lib.consistency import ConsistencyModel
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.measure import draw, extractor_of, measure, quick
from ict_lib.files import write_atomically
from ict_lib.group import Alone
from ict_lib.training.folder import BEST, LOOKS, best_of
from ict_lib.training.model import save_weights

if TYPE_CHECKING:
    from ict_lib.config import Run
    from ict_lib.training.loop import Training

LOOK = 60  # images of a look, always from the same noise
FINAL, QUICK = 10_000, 20_000  # added to the seed of a training: the noise from which its images are measured


def evaluate(training: "Training", steps_taken: int) -> dict[str, float]:
    """Make the evaluations that are due: quick ones with a look at samples, and full ones.

    All processes call this; that of rank 0 gets what was measured, the others nothing.
    """
    run, average, data, group, found = training.run, training.average, training.data, training.group, {}
    if training.passed(run.evaluate_every, steps_taken):
        found |= quick(average, data, run.recipe.sigma_max, QUICK + training.seed, group)
        drawable = training.place and len(data.shape) == 3
        images = draw(average, data, LOOK, (run.recipe.sigma_max,), 0, group) if drawable else ()
        if len(images):  # in rank 0
            write_picture(training.place / LOOKS / f"step-{training.step:09d}.png", images, columns=20)
    if training.done or training.passed(run.measure_every, steps_taken):
        full = measure_fully(average, data, run, training.seed, group, on_the_way=not training.done)
        found |= full
        if "fid_1_step" in full and training.place and run.measure_every:
            keep_best(training.place, average, training.step, full["fid_1_step"], run.num_samples)
    return found


def measure_fully(
    average: ConsistencyModel,
    data: Dataset,
    run: "Run",
    seed: int,
    group: Alone | None = None,
    on_the_way: bool = False,
) -> dict[str, float]:
    """Measure weights in one step and in two; the numbers do not depend on how many processes there are.

    All images are drawn first: while one process measures, the others wait longer than any exchange lets them. Each
    process of the group calls this; that of rank 0 gets what :func:`ict_lib.evaluation.measure.measure` gives, the
    others nothing. The run says how many images, and where the second step begins. With ``on_the_way`` only the FID of
    one step is measured, by which the best weights are chosen. The seed is that of the training.
    """
    group, top, levels, found = group or Alone(), run.recipe.sigma_max, extractor_of(data.name) == "inception", {}
    asked = {"1_step": (top,)} | ({} if on_the_way else {"2_steps": (top, run.sigma_mid)})
    wanted = average, data, run.num_samples
    drawn = {label: draw(*wanted, sigmas, FINAL + seed, group, levels) for label, sigmas in asked.items()}
    for label, images in drawn.items() if group.rank == 0 else ():
        found |= measure(images, data, label, on_the_way)
    group.wait()
    return found


def keep_best(folder: Path, model: ConsistencyModel, step: int, value: float, num_samples: int) -> None:
    """Write weights if no earlier ones in the folder had a lower value."""
    before = best_of(folder, num_samples)
    if not before or value < before["best_fid_1_step"] or step < before["best_step"]:  # later ones were given up
        notes = {"step": str(step), "fid_1_step": repr(value), "num_samples": str(num_samples)}
        save_weights(folder / BEST, model, notes)


def grid(images: Tensor, columns: int = 10) -> np.ndarray:
    """Tile images into one picture, row by row, ``columns`` of them in each, with a white pixel between them.

    They are in [-1, 1], ``[num >= 1, 1 or 3, height, width]``; the picture has 8-bit levels, ``[rows, columns]`` or
    ``[rows, columns, 3]`` in pixels.
    """
    good = images.ndim == 4 and len(images) > 0 and images.shape[1] in (1, 3)
    require(good, "the shape of images", tuple(images.shape), "[num >= 1, 1 or 3, height, width]")
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    tiles = F.pad(levels, (1, 0, 1, 0, 0, 0, 0, -len(images) % columns), value=255)  # whole rows, white around
    _, channels, height, width = tiles.shape
    sheet = tiles.view(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    sheet = sheet.reshape(-1, columns * width, channels)[1:, 1:].numpy()
    return sheet[..., 0] if channels == 1 else sheet


def write_picture(path: Path, images: Tensor, columns: int = 10) -> None:
    """Write a grid of images in [-1, 1], ``[num, channel, height, width]``, as PNG; small ones are enlarged."""
    zoom = max(1, 64 // (images.shape[-1] * 2))
    picture, content = Image.fromarray(grid(images, columns)).convert("RGB"), io.BytesIO()
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(content, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content.getvalue())
