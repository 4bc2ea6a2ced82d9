"""Still picture and tables of the chapter in which the reader trains."""

import json
import statistics
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from ict_lib.data import load_dataset
from ict_lib.files import project_root

NAMES = {
    "CT": "CT, constants as published",
    "CT-tuned": "CT, constants tuned here",
    "plus-weighting": "CT + weighting",
    "plus-fourier_scale": "+ noise embedding",
    "plus-teacher": "+ no-EMA teacher",
    "plus-distance": "+ pseudo-Huber",
    "plus-curriculum": "+ doubling curriculum",
    "iCT": "+ lognormal noise = iCT",
    "without-weighting": "iCT without weighting",
    "without-fourier_scale": "iCT without noise embedding",
    "without-teacher": "iCT with CT's EMA teacher",
    "without-distance": "iCT with squared l2",
    "without-curriculum": "iCT with the square-root curriculum",
    "without-noise_schedule": "iCT with uniform noise",
}


def still(runs: list[dict[str, Any]], titles: tuple[str, ...] = ("CT", "iCT")) -> None:
    """Draw samples of finished runs over the data, in one step and in two, and the way of their distances."""
    _, axes = plt.subplots(1, 2 * len(runs) + 1, figsize=(13, 2.9), width_ratios=[1] * 2 * len(runs) + [1.4])
    data = load_dataset(runs[0]["data"]).images[:1000]
    for i, (run, title) in enumerate(zip(runs, titles, strict=True)):
        color = f"C{1 - i}"
        for ax, samples, how in zip(axes[2 * i :], run["samples"], ("one step", "two steps"), strict=False):
            ax.scatter(*data.T, s=2, color="0.7")
            ax.scatter(*np.reshape(samples, (-1, 2)).T, s=2, color=color)
            ax.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", xticks=[], yticks=[], title=f"{title}, {how}")
        step, one, two = np.transpose(run["distances"])
        axes[-1].plot(step, one, color=color, label=f"{title}, one step")
        axes[-1].plot(step, two, "--", color=color, label=f"{title}, two steps")
    axes[-1].axhline(runs[0]["floor"], color="0.4", linestyle=":", label="fresh data")
    axes[-1].set(yscale="log", xlabel="step", title="distance to the data")
    axes[-1].legend(fontsize=7, frameon=False)
    plt.show()


def recorded_rows() -> list[dict[str, Any]]:
    """Read ``runs/playground.json``: for each preset, data set and seed what was there after 10,000 steps."""
    return json.loads((project_root() / "runs" / "playground.json").read_text("utf8"))


def values(rows: list[dict[str, Any]], preset: str, key: str, data: str = "ring") -> list[float]:
    """Pick one number of a preset's runs, a seed each; a ValueError if there is no such run."""
    found = [row[key] for row in rows if row["preset"] == preset and row["data"] == data]
    if not found:
        raise ValueError(f"no run of preset {preset!r} on {data!r} is recorded")
    return found


def spread(numbers: list[float]) -> str:
    """Write the mean, and in brackets the lowest and the highest."""
    return f"{statistics.mean(numbers):.3f} ({min(numbers):.3f} to {max(numbers):.3f})"


def table(rows: list[dict[str, Any]], presets: list[str], data: str = "ring") -> list[dict[str, str]]:
    """Make the lines of a table of presets: distance in one step and in two."""
    keys = {"one step": "one_step", "two steps": "two_steps"}
    return [
        {"recipe": NAMES[preset], **{name: spread(values(rows, preset, key, data)) for name, key in keys.items()}}
        for preset in presets
    ]
