"""Figures of the chapter on sampling and editing: the second step."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.data.dataset import Dataset
from ict_lib.display.explorer import Explorer, Image, Line, Panel, Points, Readout, Slider
from ict_lib.evaluation.extractor import features_of
from ict_lib.exact.distances import frechet_distance
from ict_lib.sampling import sample
from ict_lib.training.measuring import grid

SECOND = (
    "Move σ_mid. At the left the second step changes nothing. Then it rubs strokes away and draws them again, and the "
    "distance climbs; farther right it draws another digit from a hint of the first. Where is the lowest point of the "
    "curve, and would you see it in the samples?"
)


def distances(images: Tensor, data: Dataset) -> tuple[float, float]:
    """Measure digits against all data: Frechet distance on features, and on pixels."""
    images = images.clamp(-1, 1)
    return frechet_distance(features_of(images), features_of(data.images)), frechet_distance(images, data.images)


def second_steps(
    model: ConsistencyModel, data: Dataset, sigmas: Sequence[float], num: int = 1000, seeds: Sequence[int] = (0, 1)
) -> dict[str, np.ndarray]:
    """Draw digits in one step, and in two for each level of the second, always from the same noise; measure them.

    Levels ``sigmas`` ``[S]``, ``sheets`` ``[1 + S, height, width]``, ``features`` and ``pixels`` ``[1 + S, seeds]``:
    the first of each is one step.
    """
    sheets, found = [], []
    for levels in [(80.0,), *((80.0, sigma) for sigma in sigmas)]:
        drawn = [sample(model, num, data.shape, levels, torch.Generator().manual_seed(seed)) for seed in seeds]
        sheets.append(grid(drawn[0][:25], columns=5))
        found.append([distances(images, data) for images in drawn])
    features, pixels = np.moveaxis(np.array(found), 2, 0)
    return {"sigmas": np.array(sigmas), "sheets": np.stack(sheets), "features": features, "pixels": pixels}


def second_step_explorer(found: dict[str, np.ndarray], start: int = 0) -> Explorer:
    """Show what :func:`second_steps` gives, for a slider that moves the level of the second step."""
    sigmas, features = found["sigmas"], found["features"]
    mean, one = features.mean(axis=1)[1:], features.mean(axis=1)[0]
    marks = [Points(sigmas, row, size=3, color=0) for row in features[1:].T]
    marks += [
        Line(sigmas, mean, label="two steps, mean of the noises", color=0),
        Line(sigmas, np.full(len(sigmas), one), label="one step", color=2, dashed=True),
        Points(sigmas[:, None], mean[:, None], size=10, color=1),
    ]
    axes = {"x_label": "σ_mid", "y_label": "Fréchet distance on features", "x_scale": "log"}
    return Explorer(
        sliders=[Slider("noise level of the second step, σ_mid", sigmas, start=start)],
        panels=[
            Panel([Image(found["sheets"][0], (0, 255))], title="One step"),
            Panel([Image(found["sheets"][1:], (0, 255))], title="Two steps"),
            Panel(marks, title="Distance from the data", **axes),
        ],
        readouts=[
            Readout("on features", mean, "{:.3f}"),
            Readout("on pixels", found["pixels"].mean(axis=1)[1:], "{:.3f}"),
        ],
        caption=SECOND,
    )
