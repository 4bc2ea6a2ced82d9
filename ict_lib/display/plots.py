"""Static figures of the pages: one look, and grids of images. The only place where training meets matplotlib."""

from pathlib import Path
from typing import BinaryIO

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from torch import Tensor

from ict_lib.run.record import Record


def use_style() -> None:
    """Set the look of every figure of the book: seaborn's quiet theme and colour-blind-safe palette.

    Source: own.
    """
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", rc={"axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "figure.dpi": 110, "figure.constrained_layout.use": True})


def grid(images: Tensor, columns: int = 10) -> np.ndarray:
    """Tile images into one picture, row by row, with a pixel between them.

    Source: own.

    Args:
        images: in [-1, 1], shape ``[num, 1 or 3, height, width]``.
        columns: images in a row.

    Returns:
        8-bit levels, shape ``[rows, columns]`` or ``[rows, columns, 3]`` in pixels.

    Raises:
        ValueError: if there are no images or they have not 1 or 3 channels.
    """
    if images.ndim != 4 or len(images) == 0 or images.shape[1] not in (1, 3):
        raise ValueError(f"images have shape {tuple(images.shape)}: [num >= 1, 1 or 3, height, width] is needed")
    num, channels, height, width = images.shape
    rows = -(-num // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 255, dtype=np.uint8)
    levels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    for index, level in enumerate(levels):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top : top + height, left : left + width] = level
    return sheet.squeeze(-1) if channels == 1 else sheet


def save_grid(path: Path | BinaryIO, images: Tensor, columns: int = 10, zoom: int = 4) -> None:
    """Write a grid of images as PNG, each pixel ``zoom`` by ``zoom``.

    Source: own.

    Args:
        path: of the file, or an open one.
        images: in [-1, 1], shape ``[num, 1 or 3, height, width]``.
        columns: images in a row.
        zoom: whole number.
    """
    sheet = grid(images, columns).repeat(zoom, axis=0).repeat(zoom, axis=1)
    colours = sheet if sheet.ndim == 3 else np.stack([sheet] * 3, axis=2)  # as it is, not through a colour map
    plt.imsave(path, colours, format="png")


def show_grid(ax: Axes, sheet: np.ndarray, title: str = "") -> None:
    """Show a picture without axes, pixels crisp.

    Source: own.

    Args:
        ax: where.
        sheet: from :func:`grid`, or read from a run's ``samples.png``.
        title: above it.
    """
    top = 255 if sheet.dtype == np.uint8 else 1.0
    ax.imshow(sheet, cmap="gray", interpolation="nearest", vmin=0, vmax=top)
    ax.set_axis_off()
    ax.set_title(title)


def curves(ax: Axes, record: Record, key: str, label: str) -> None:
    """Draw one quantity of a run against the step: the median over the seeds, and a band from lowest to highest.

    Source: own.

    Args:
        ax: where.
        record: of the run.
        key: such as ``loss`` or ``frechet_pixels_1_step``; lines without it are passed over.
        label: in the legend.

    Raises:
        ValueError: if no line of the record has the key.
    """
    steps = sorted({line["step"] for line in record.metrics if key in line})
    if not steps:
        raise ValueError(f"run {record.name!r} has no metric {key!r}")
    values = [[line[key] for line in record.metrics if line["step"] == step and key in line] for step in steps]
    (line,) = ax.plot(steps, [np.median(v) for v in values], label=label)
    ax.fill_between(steps, [min(v) for v in values], [max(v) for v in values], color=line.get_color(), alpha=0.2)
