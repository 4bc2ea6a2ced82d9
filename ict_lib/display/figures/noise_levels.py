"""Figure of the chapter on the noise levels: what a lognormal draws, and what small networks trained with it learn."""

import torch
from torch import Tensor

from ict_lib.display.explorer import Area, Explorer, Line, Panel, Readout, Slider
from ict_lib.display.figures.baseline import kept_points
from ict_lib.grid import karras_sigmas
from ict_lib.run.study import Study
from ict_lib.techniques.noise_schedule import lognormal_pmf

P_MEANS, P_STDS = [-3.1, -1.1, 1.1], [1.0, 2.0, 4.0]
ICT = (1, 1)  # the positions of the published constants
LOW = 0.1  # what the page calls a low noise level
SLICED = "sliced_wasserstein_1_step"
LEVEL = {"x_label": "noise level σ", "x_scale": "log", "x_range": (0.002, 80.0)}
CAPTION = (
    "One network was trained for each position. Go to P_mean = −3.1, P_std = 1: hardly anything above σ = 1 is drawn. "
    "Where does the error rise, and what does it do from there to σ = 80? Then P_mean = 1.1, P_std = 1: low noise is "
    "missing now. Last, compare the two upper pictures: the same P_mean and P_std on a coarse grid and on a fine one."
)


def label(p_mean: float, p_std: float) -> str:
    """Name the variant of a study."""
    return f"mean{p_mean:+g}-std{p_std:g}"


def variants() -> dict[str, dict]:
    """Write a study's variants, one for each position of the sliders."""
    return {label(m, s): {"recipe": {"p_mean": m, "p_std": s}} for m in P_MEANS for s in P_STDS}


def share_between(pmf: Tensor, sigmas: Tensor, low: float, high: float) -> float:
    """Sum the probability of the pairs whose lower level is within ``[low, high)``."""
    return float(pmf[(sigmas[:-1] >= low) & (sigmas[:-1] < high)].sum())


def median_level(pmf: Tensor, sigmas: Tensor) -> float:
    """Find the lower level of the pair that holds the middle of the mass."""
    return float(sigmas[:-1][pmf.cumsum(0) >= 0.5][0])


def stairs(pmf: Tensor, sigmas: Tensor, groups: int = 64) -> tuple[Tensor, Tensor]:
    """Spread each pair's probability over its gap: levels and share per decade, ``[2 * stairs]``.

    The pairs of a fine grid are taken together, in equal groups.
    """
    stride = max(1, len(pmf) // groups)
    edges, mass = sigmas[::stride], pmf.view(-1, stride).sum(1)
    return edges.repeat_interleave(2)[1:-1], (mass / edges.log10().diff()).repeat_interleave(2)


def noise_explorer(study: Study, errors: dict[str, Tensor], sigmas: Tensor) -> Explorer:
    """Show draws, errors and samples for each position of P_mean and P_std, of a study whose `variants` are done.

    ``errors``: variant -> distance to the exact end point at these ``sigmas``, ``[levels]``: each level but the lowest.

    Source: [iCT] arXiv:2310.14189 section 3.5 for the schedule.
    """
    found = torch.stack([torch.stack([errors[label(m, s)] for s in P_STDS]) for m in P_MEANS])
    published = found[ICT]
    marks = [Line(sigmas, found, "these draws", color=0)]
    marks += [Line(sigmas, published, "P_mean = −1.1, P_std = 2 (iCT)", color=1, dashed=True)]
    axes = {"y_range": (0.0, 1.05 * float(found.max())), "y_label": "error, root mean square"}
    panels = [_draws(11), _draws(1281), Panel(marks, "Distance to the exact end point", **axes, **LEVEL)]
    readouts = _readouts(1281)
    distance = torch.tensor([[study.result(SLICED, label(m, s))[0] for s in P_STDS] for m in P_MEANS])
    readouts += [Readout("error at σ = 80", found[..., -1], "{:.3f}"), Readout("samples: distance", distance, "{:.3f}")]
    sliders = [
        Slider("P_mean", P_MEANS, start=ICT[0], text=[f"{m:.1f}".replace("-", "−") for m in P_MEANS]),
        Slider("P_std", P_STDS, start=ICT[1], text=[f"{s:g}" for s in P_STDS]),
    ]
    names = [[label(m, s) for s in P_STDS] for m in P_MEANS]
    return Explorer(sliders, [*panels, kept_points(study, names, "One-step samples")], readouts, CAPTION)


def _draws(num_scales: int) -> Panel:
    """Draw the share of each level for all positions, on one grid."""
    sigmas = karras_sigmas(num_scales)
    drawn = [[stairs(lognormal_pmf(sigmas, m, s), sigmas) for s in P_STDS] for m in P_MEANS]
    shares = torch.stack([torch.stack([share for _, share in row]) for row in drawn])
    axes = {"y_label": "share per decade of σ", "y_range": (0.0, 1.0)}
    return Panel([Area(drawn[0][0][0], shares, color=0)], f"What is drawn, N = {num_scales:,}", **axes, **LEVEL)


def _readouts(num_scales: int) -> list[Readout]:
    """Describe what is drawn, on one grid."""
    sigmas = karras_sigmas(num_scales)
    pmfs = [[lognormal_pmf(sigmas, m, s) for s in P_STDS] for m in P_MEANS]
    ends = {f"below σ = {LOW:g}": (0.0, LOW), "above σ = 10": (10.0, 80.0)}
    medians = [[median_level(pmf, sigmas) for pmf in row] for row in pmfs]
    shares = {name: [[100 * share_between(pmf, sigmas, *e) for pmf in row] for row in pmfs] for name, e in ends.items()}
    return [Readout("median σ", medians)] + [Readout(f"drawn {n}", share, "{:.1f} %") for n, share in shares.items()]
