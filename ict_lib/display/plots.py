"""Static figures of the pages: one look, words for who does not see them, grids of images, curves of runs."""

import io
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ict_lib.display.packing import gaps_of
from ict_lib.training.measuring import grid

if TYPE_CHECKING:
    from ict_lib.run.record import Record


def use_style() -> None:
    """Set the look of every figure of the book: seaborn's quiet theme and colour-blind-safe palette."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", rc={"axes.spines.top": False})
    paper = {"figure.facecolor": "none", "axes.facecolor": "none"}  # the page itself, light or dark
    plt.rcParams.update({"axes.spines.right": False, "figure.dpi": 110, "figure.constrained_layout.use": True} | paper)


def still(figure: Figure, alt: str) -> Image:
    """Finish a figure, and keep inside of the picture what it shows, in words; the page reads them from there."""
    picture, words = io.BytesIO(), " ".join(alt.split())
    figure.savefig(picture, format="png", bbox_inches="tight", metadata={"Description": words})
    plt.close(figure)
    return Image(picture.getvalue(), alt=words)


def show_grid(ax: Axes, sheet: np.ndarray, title: str = "") -> None:
    """Show a picture without axes, pixels crisp, nothing between tiles: a grid, or a run's ``samples.png`` as read."""
    levels = sheet / (255 if sheet.dtype == np.uint8 else 1)
    levels = levels[..., :3] if levels.ndim == 3 else np.stack([levels] * 3, axis=-1)
    rows, columns = gaps_of((levels == 1).all(axis=-1))
    shown = np.dstack([levels, np.ones(levels.shape[:2])])
    shown[rows], shown[:, columns] = 0, 0
    ax.imshow(shown, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title)


def show_samples(ax: Axes, samples: Tensor, title: str = "") -> None:
    """Show what a model drew: images ``[num, channel, height, width]`` as a grid, points ``[num, 2]`` as dots."""
    if samples.ndim == 4:
        show_grid(ax, grid(samples), title)
        return
    ax.plot(*samples.T, ".", markersize=3)
    ax.set(title=title, aspect="equal")


def curves(ax: Axes, record: "Record", key: str, label: str) -> None:
    """Draw one quantity of a run against the step: the median over the seeds, and a band from lowest to highest.

    Lines of the record without the key, such as ``frechet_pixels_1_step``, are passed over; none with it is a
    ValueError.
    """
    if not any(key in line for line in record.metrics):
        raise ValueError(f"run {record.name!r} has no metric {key!r}")
    lines, names = pd.DataFrame(record.metrics), {"x": "step", "y": key, "label": label}
    sns.lineplot(lines, **names, estimator="median", errorbar=("pi", 100), legend=False, ax=ax)
