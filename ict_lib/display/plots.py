"""Static figures of the pages: one look, grids of images, curves of runs."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from ict_lib.checks import require

if TYPE_CHECKING:
    from ict_lib.run.record import Record


def use_style() -> None:
    """Set the look of every figure of the book: seaborn's quiet theme and colour-blind-safe palette."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", rc={"axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "figure.dpi": 110, "figure.constrained_layout.use": True})


def grid(images: Tensor, columns: int = 10) -> np.ndarray:
    """Tile images into one picture, row by row, with a white pixel between them.

    Args:
        images: in [-1, 1], shape ``[num, 1 or 3, height, width]``.
        columns: images in a row.

    Returns:
        8-bit levels, shape ``[rows, columns]`` or ``[rows, columns, 3]`` in pixels.

    Raises:
        ValueError: if there are no images or they have not 1 or 3 channels.
    """
    good = images.ndim == 4 and len(images) > 0 and images.shape[1] in (1, 3)
    require(good, "the shape of images", tuple(images.shape), "[num >= 1, 1 or 3, height, width]")
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
    tiles = F.pad(levels, (1, 0, 1, 0, 0, 0, 0, -len(images) % columns), value=255)  # whole rows, white around
    _, channels, height, width = tiles.shape
    sheet = tiles.view(-1, columns, channels, height, width).permute(0, 3, 1, 4, 2)
    sheet = sheet.reshape(-1, columns * width, channels)[1:, 1:].numpy()
    return sheet[..., 0] if channels == 1 else sheet


def show_grid(ax: Axes, sheet: np.ndarray, title: str = "") -> None:
    """Show a picture without axes, pixels crisp: one from :func:`grid`, or a run's ``samples.png`` as it was read."""
    top = 255 if sheet.dtype == np.uint8 else 1.0
    ax.imshow(sheet, cmap="gray", interpolation="nearest", vmin=0, vmax=top)
    ax.set_axis_off()
    ax.set_title(title)


def curves(ax: Axes, record: "Record", key: str, label: str) -> None:
    """Draw one quantity of a run against the step: the median over the seeds, and a band from lowest to highest.

    Lines of the record without the key, such as ``frechet_pixels_1_step``, are passed over.

    Raises:
        ValueError: if no line of the record has the key.
    """
    values: dict[int, list[float]] = {}
    for line in record.metrics:
        if key in line:
            values.setdefault(line["step"], []).append(line[key])
    if not values:
        raise ValueError(f"run {record.name!r} has no metric {key!r}")
    steps = sorted(values)
    (line,) = ax.plot(steps, [np.median(values[step]) for step in steps], label=label)
    low, high = ([end(values[step]) for step in steps] for end in (min, max))
    ax.fill_between(steps, low, high, color=line.get_color(), alpha=0.2)
