"""Figures of the chapter that climbs from CT to iCT, one technique at a time, and down again."""

import math
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ict_lib.config import Run, variants_of
from ict_lib.display.figures.reproduce import levels
from ict_lib.display.plots import show_grid
from ict_lib.run.record import spread
from ict_lib.run.study import SAMPLES, Study

COLUMNS = 4  # of a sheet of 20 that are shown
STEPS = {"1 step": "1_step", "2 steps": "2_steps"}
FLOOR = "a perfect model, about"
Field = str | Callable[[Run], float]  # of the recipe, or what is swept of a run
Panels = dict[str, tuple[Field, Sequence[str]]]  # what stands under a panel -> what is swept, and the variants


def ladder_figure(study: Study, key: str, label: str, variants: dict[str, str], floor: float) -> Figure:
    """Draw the samples of each rung, from the same noise, over its distances: a dot a seed, a bar at the median.

    ``key`` is of the distance without its steps, such as ``frechet_features``; each of the variants, from left to
    right, has its text under its samples; the floor is what a perfect model would have. The figure's words are the
    caller's.
    """
    fig = plt.figure(figsize=(1.1 * len(variants), 5.2), facecolor="white")  # samples must stay as they are in the dark
    places = fig.add_gridspec(2, len(variants), height_ratios=[1, 2.2])
    for column, variant in enumerate(variants):
        sheet = levels(plt.imread(study.folder / SAMPLES / f"{variant}.png"))
        show_grid(fig.add_subplot(places[0, column]), sheet[:, : COLUMNS * sheet.shape[1] // 20])
    ax = fig.add_subplot(places[1, :])
    for color, (steps, ending) in enumerate(STEPS.items()):
        for place, variant in enumerate(variants):
            values, x = study.result(f"{key}_{ending}", variant), place + 0.24 * color - 0.12
            (seeds,) = ax.plot([x] * len(values), values, "o", color=f"C{color}", alpha=0.6, markersize=4)
            ax.plot([x - 0.1, x + 0.1], [np.median(values)] * 2, color=f"C{color}", linewidth=2.5)
        seeds.set_label(steps)
    ax.axhline(floor, color="0.5", linestyle="--", linewidth=1, label=FLOOR)
    ax.set(yscale="log", ylabel=label, xlim=(-0.5, len(variants) - 0.5))
    ax.set_xticks(range(len(variants)), variants.values(), fontsize=11)
    ax.legend(fontsize=11, frameon=False)
    return fig


def apart(first: Sequence[float], second: Sequence[float]) -> bool:
    """Tell whether all seeds of one side lie below all of the other."""
    return max(first) < min(second) or max(second) < min(first)


def by_chance(seeds: int, others: int | None = None) -> float:
    """Return how often variants that are alike are :func:`apart`, with so many seeds, and as many or ``others``."""
    return 2 / math.comb(seeds + (others or seeds), seeds)


def chances(seeds: int, comparisons: int) -> str:
    """Say how many comparisons of variants that are alike are :func:`apart`, or go one way :func:`seed_by_seed`."""
    parted, one_way = (comparisons * share for share in (by_chance(seeds), 2 / 2**seeds))
    return (
        f"if nothing differed, {parted:.2g} of these {comparisons} comparisons would be apart on average, and "
        f"{one_way - parted:.2g} overlap but go one way with every seed"
    )


def seed_by_seed(first: Sequence[float], second: Sequence[float]) -> str:
    """Tell whether with every seed the second side is ``nearer`` to the data or ``farther``; empty where seeds differ.

    Both sides hold the same seeds in the same order. Of n seeds all go one way by chance in 2 / 2^n of all cases.
    """
    ways = {np.sign(before - after) for before, after in zip(first, second, strict=True)}
    return {1: "nearer", -1: "farther"}.get(ways.pop(), "") if len(ways) == 1 else ""


def by_choice(seeds: int, values: int) -> float:
    """Return how often one of equal values is :func:`apart` from that with the lowest median, chosen by the same seeds.

    It is a mean over 20,000 draws.
    """
    drawn = np.random.default_rng(0).random((20_000, values, seeds))
    best = drawn[range(len(drawn)), np.median(drawn, axis=2).argmin(axis=1)]  # [draws, seeds]
    return float((drawn.min(axis=2) > best.max(axis=1)[:, None]).mean() * values / (values - 1))


def verdict(before: Sequence[float], after: Sequence[float]) -> str:
    """Say whether a change lowers the median over the seeds, and whether they part both sides: ``lower, apart``."""
    lower = "lower" if np.median(after) < np.median(before) else "higher"
    if min(len(before), len(after)) < 2:
        return f"{lower} (one seed, so not parted)"
    if apart(before, after):
        return f"{lower}, apart"
    one_way = len(before) == len(after) and seed_by_seed(before, after)
    return f"{lower}, overlapping" + f", but {lower} with every seed" * bool(one_way)


def worth(study: Study, before: str, after: str, key: str) -> str:
    """Write how many times the distance of one variant another has, by medians, and whether their ranges overlap.

    Where the ratios of single seeds differ by more than a factor of two, the lowest and the highest stand in brackets.
    """
    sides = study.result(key, before), study.result(key, after)
    each = sorted(first / second for first, second in zip(*sides, strict=False))  # of equal seeds
    ratio, low, high = (
        f"{value:.{0 if value >= 10 else 2}f}"
        for value in (np.median(sides[0]) / np.median(sides[1]), each[0], each[-1])
    )
    wide = f" ({low} to {high})" if each[-1] > 2 * each[0] else ""
    return f"{ratio}{wide}{'' if apart(*sides) else ', overlap'}"


def sweep_figure(
    study: Study,
    key: str,
    label: str,
    panels: Panels,
    floor: float,
    usual: str = "iCT",
    floor_label: str = "fresh data",
) -> Figure:
    """Draw a distance over what is swept, in one step and in two: a dot a seed, a line through the medians.

    ``key`` is without the steps, such as ``sliced_wasserstein``. Where ``ict`` is among a panel's variants, a dotted
    line marks its value, which is that of ``usual``. The figure's words are the caller's.
    """
    fig, axes = plt.subplots(1, len(panels), figsize=(4.5 * len(panels), 3.2), sharey=True, squeeze=False)
    for ax, (title, (field, variants)) in zip(axes[0], panels.items(), strict=True):
        at = swept(study, field, variants)
        for color, (steps, ending) in enumerate(STEPS.items()):
            found = [study.result(f"{key}_{ending}", variant) for variant in at]
            ax.plot(list(at.values()), [np.median(seeds) for seeds in found], color=f"C{color}", label=steps)
            for value, seeds in zip(at.values(), found, strict=True):
                ax.plot([value] * len(seeds), seeds, "o", color=f"C{color}", alpha=0.6, markersize=4)
        ax.axhline(floor, color="0.5", linestyle="--", linewidth=1, label=floor_label)
        if "ict" in at:
            ax.axvline(at["ict"], color="0.5", linestyle=":", label=usual)
        ax.set(xlabel=title, xscale="log" if min(at.values()) > 0 else "linear", yscale="log")
        ax.set_xticks(list(at.values()), [short(value) for value in at.values()], fontsize=8)
        ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        ax.yaxis.set_minor_formatter("{x:.2g}")
        ax.yaxis.set_major_formatter("{x:.2g}")
        ax.tick_params(axis="y", which="both", labelsize=9)
    axes[0, 0].set_ylabel(label)
    axes[0, -1].legend(fontsize=9, frameon=False)
    return fig


def swept(study: Study, field: Field, variants: Sequence[str]) -> dict[str, float]:
    """Map variants to what is swept, which ascends."""
    runs = {name: variants_of(study.run)[name] for name in variants}
    values = {name: field(run) if callable(field) else getattr(run.recipe, field) for name, run in runs.items()}
    return dict(sorted(values.items(), key=lambda pair: pair[1]))


def short(value: float) -> str:
    """Write a swept value, to two digits where it is small."""
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.2g}"


def best_of_sweep(study: Study, key: str, panels: Panels) -> str:
    """Say what is :func:`lowest` in each panel of a sweep, in one step and in two."""
    found = {
        title: [lowest(study, f"{key}_{ending}", *panel) for ending in STEPS.values()]
        for title, panel in panels.items()
    }
    return ". ".join(f"*{title}*: in one step {one}. In two steps {two}" for title, (one, two) in found.items())


def lowest(study: Study, key: str, field: Field, variants: Sequence[str]) -> str:
    """Say at which value the median is lowest, and which values the seeds do not part from that."""
    at = swept(study, field, variants)
    best = min(at, key=lambda name: np.median(study.result(key, name)))
    close = [short(at[v]) for v in at if v != best and not apart(study.result(key, v), study.result(key, best))]
    parted = f"the seeds of {', '.join(close)} overlap with it" if close else "apart from all others"
    edge = " (the edge of what was tried)" if best in (min(at, key=at.get), max(at, key=at.get)) else ""
    return f"lowest at {short(at[best])}{edge}, with {spread(study.result(key, best))}; {parted}"


def about_sweep(study: Study, panels: Panels) -> str:
    """Say how a sweep was made, and how often values that are alike would stand apart in all its panels."""
    run, seeds, sizes = study.run, len(study.run.seeds), [len(variants) for _, variants in panels.values()]
    parted = len(STEPS) * sum((size - 1) * by_choice(seeds, size) for size in sizes)
    return (
        f"`make run RUN={run.name}`: the {run.data}, {run.steps:,} steps of {run.batch_size} samples, {seeds} seeds a "
        "value; the dashed line is what fresh data have. If all values were equal, and trained independently, "
        f"{parted:.1f} of the {len(STEPS) * sum(size - 1 for size in sizes)} others would stand apart from the lowest, "
        "which the same seeds choose"
    )
