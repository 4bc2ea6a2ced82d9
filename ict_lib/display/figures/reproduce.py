"""Figure of the notebook that trains."""

import matplotlib.pyplot as plt
import numpy as np

from ict_lib.display.explorer import Explorer, Image, Line, Panel, Points, Slider
from ict_lib.run.record import Record
from ict_lib.training.folder import LOOKS

KEY = "frechet_pixels_1_step"


def learning_explorer(record: Record, seed: int | None = None) -> Explorer | None:
    """Watch a training: samples from the same noise, and their distance from the data, at each of its evaluations.

    The pictures are those of the training of a seed, else of the run's first, below ``seed-<seed>/looks``; None where
    there are fewer than two.
    """
    seed = record.run.seeds[0] if seed is None else seed
    place = record.folder / f"seed-{seed}" / LOOKS
    distances = {line["step"]: line[KEY] for line in record.of_seed(seed) if KEY in line}
    pictures = {step: path for step in distances if (path := place / f"step-{step:09d}.png").exists()}
    if len(pictures) < 2:
        return None
    sheets = np.stack([levels(plt.imread(path)) for path in pictures.values()])
    return _explorer(list(pictures), sheets, [distances[step] for step in pictures])


def _explorer(steps: list[int], sheets: np.ndarray, distances: list[float]) -> Explorer:
    """Make the figure of 8-bit sheets, ``[steps, rows, columns]`` or ``[..., 3]``."""
    now = np.array(steps, dtype=float)[:, None]
    curve = [
        Line(steps, distances, color=0),
        Points(now, np.array(distances)[:, None], size=10, color=1),
    ]
    labels = {"x_label": "training step", "y_label": "Fréchet distance on pixels", "y_scale": "log"}
    return Explorer(
        sliders=[Slider("training step", steps, start=len(steps) - 1)],
        panels=[
            Panel([Image(sheets, (0, 255), sheets.ndim == 4)], title="One-step samples, always from the same noise"),
            Panel(curve, title="Distance from the data", **labels),
        ],
        caption="Step through the training: grey first, then strokes. Each sample keeps its place from step to step, "
        "because it starts from the same noise.",
    )


def levels(picture: np.ndarray) -> np.ndarray:
    """Reduce an enlarged picture, from 0 to 1, ``[rows, columns, 3]``, to its own pixels, grey to one channel."""
    levels = np.rint(picture[..., :3] * 255).astype(np.uint8)
    for zoom in (4, 2):
        small = levels[::zoom, ::zoom]
        if np.array_equal(small.repeat(zoom, axis=0).repeat(zoom, axis=1), levels):
            levels = small
            break
    return levels[..., 0] if (levels == levels[..., :1]).all() else levels
