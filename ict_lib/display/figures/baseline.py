"""Figures of the notebook that compares variants of a run."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ict_lib.display.explorer import Explorer, Image, Line, Panel, Points, Slider
from ict_lib.display.figures.reproduce import levels
from ict_lib.run.study import SAMPLES, Study

ONE_SEED = "One dot a variant, of one seed: small differences may be chance."


def study_explorer(
    study: Study,
    key: str,
    label: str,
    variants: Sequence[str] = (),
    floor: float = 0.0,
    floor_label: str = "fresh data",
) -> Explorer:
    """Step through these variants of a study, else all: samples from the same noise, and a distance of all seeds.

    ``key`` is a result such as ``frechet_features_1_step``; a ``floor`` is drawn as a dashed line, 0 is none.
    """
    variants = list(variants) or list(study.run.variants)
    values = [study.result(key, variant) for variant in variants]
    most = max(map(len, values))
    seeds = np.array([[*found, *[np.nan] * (most - len(found))] for found in values]).T  # [seed, variant]
    place, now = np.arange(1, len(variants) + 1, dtype=float), np.arange(1, len(variants) + 1)[:, None]
    marks = [Points(place, row, size=5, color=0) for row in seeds]
    marks += [Line(place, np.full(len(place), floor), label=floor_label, color=2, dashed=True)] if floor else []
    marks += [Points(now * np.ones(most), seeds.T, size=10, color=1)]
    axes = {"x_label": "position of the slider", "x_scale": "count", "y_label": label, "y_scale": "log"}
    return Explorer(
        sliders=[Slider("variant", variants, start=len(variants) - 1)],
        panels=[_samples(study, variants), Panel(marks, title="All seeds", **axes)],
        caption="Each sample keeps its place, because all variants start from the same noise. "
        + ("One dot a seed: where those of two variants mix, this study does not part them." if most > 1 else ONE_SEED),
    )


def _samples(study: Study, variants: list[str]) -> Panel:
    """Draw the samples that are kept of each variant: a sheet of images, or points."""
    folder, title = study.folder / SAMPLES, "One-step samples of the first seed"
    if (folder / f"{variants[0]}.npy").exists():
        return kept_points(study, variants, title)
    sheets = np.stack([levels(plt.imread(folder / f"{variant}.png")) for variant in variants])
    return Panel([Image(sheets, (0, 255), sheets.ndim == 4)], title=title)


def kept_points(study: Study, variants: Sequence, title: str) -> Panel:
    """Draw the points that are kept of each variant; the names are nested once a slider."""
    names = np.array(variants)
    drawn = np.stack([np.load(study.folder / SAMPLES / f"{name}.npy")[0] for name in names.flat]).astype(np.float32)
    drawn = drawn.reshape(*names.shape, *drawn.shape[1:])  # [*sliders, points, 2]
    ends = {"x_range": (-1.2, 1.2), "y_range": (-1.2, 1.2), "square": True}
    return Panel([Points(drawn[..., 0], drawn[..., 1], size=2.5, color=0)], title=title, **ends)


def dots(ax: Axes, study: Study, key: str, variants: Sequence[str] = (), marks: dict[str, float] | None = None) -> None:
    """Draw one result of each variant, a dot a seed and a bar at the median, from top to bottom; log scale.

    Without a choice of variants all are drawn; ``marks``, name -> value, are dashed lines.
    """
    variants = list(variants) or list(study.run.variants)
    for row, variant in enumerate(variants):
        values = study.result(key, variant)
        ax.plot(values, [row] * len(values), "o", color="C0", alpha=0.7, markersize=5)
        ax.plot([np.median(values)] * 2, [row - 0.35, row + 0.35], color="C1", linewidth=2)
    for name, value in (marks or {}).items():
        ax.axvline(value, color="0.5", linestyle="--", linewidth=1)
        ax.text(value, -0.7, name, fontsize=8, ha="center", va="bottom")
    ax.set(xscale="log", ylim=(len(variants) - 0.4, -0.6))
    ax.set_yticks(range(len(variants)), variants, fontsize=8)
