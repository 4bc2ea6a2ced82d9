"""Static figures of the pages: one look, grids of images, curves of runs."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

if TYPE_CHECKING:
    from ict_lib.run.record import Record


def use_style() -> None:
    """Set the look of every figure of the book: seaborn's quiet theme and colour-blind-safe palette."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", rc={"axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "figure.dpi": 110, "figure.constrained_layout.use": True})


def show_grid(ax: Axes, sheet: np.ndarray, title: str = "") -> None:
    """Show a picture without axes, pixels crisp: a grid, or a run's ``samples.png`` as it was read."""
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
