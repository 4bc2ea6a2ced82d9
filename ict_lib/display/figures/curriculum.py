"""Figures of the chapter on the number of noise levels: how it grows, and what it does."""

import torch
from torch import Tensor

from ict_lib.display.explorer import Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.grid import karras_sigmas
from ict_lib.techniques.curriculum import doubling, square_root

RULES = {"square root (CT)": square_root, "doubling (iCT)": doubling}
LENGTHS = [4, 60, 1_500, 6_000, 50_000, 400_000, 800_000]  # K
SHARES = torch.linspace(0, 1, 33, dtype=torch.float64)  # of the training
GROWTH = (
    "Move k: the square root climbs steadily to 151 levels, doubling waits and then jumps, and ends with more than "
    "eight times as many. Beside it the levels themselves: each doubling keeps the old ones and puts a new one between "
    "every two. Then change K: the shape stays, stretched to any length, as long as there are steps enough."
)
MEANS = (
    "Left is the best possible student, right its error and the noise of its training. Start at N = 2: the student is "
    "nearly a straight line, the denoiser. Raise N: the line becomes the staircase, its error falls, and from 11 on "
    "the draws that it learns from grow noisier."
)


def growth_explorer() -> Explorer:
    """Show N over the training for both rules, and the levels at step k, for sliders k and K."""
    steps = [[int(share * total) for share in SHARES.tolist()] for total in LENGTHS]
    found = {
        name: torch.tensor([[rule(k, total) for k in row] for total, row in zip(LENGTHS, steps, strict=True)])
        for name, rule in RULES.items()
    }  # each [lengths, shares]
    marks, grids, readouts = [], [], [Readout("k", [list(column) for column in zip(*steps, strict=True)], "{:,.0f}")]
    for color, (name, counts) in enumerate(found.items()):
        marks += [
            Line(SHARES, counts[None].double(), label=name, color=color),
            Points(SHARES[:, None, None], counts.T[..., None].double(), size=10, color=color),
        ]
        row, sigmas = float(color), _padded(counts.T)  # [shares, lengths, levels]
        grids.append(Points(sigmas, torch.full(sigmas.shape[-1:], row), label=name, size=4, color=color))
        readouts.append(Readout(f"N, {name}", counts.T, "{:,.0f}"))
    levels = {
        "x_label": "noise level σ",
        "x_scale": "log",
        "y_label": "0: square root, 1: doubling",
        "y_range": (-1.0, 2.0),
    }
    return Explorer(
        sliders=[
            Slider("share of the training, k / K", SHARES, start=12, text=[f"{share:.1%}" for share in SHARES]),
            Slider("steps in all, K", LENGTHS, start=5, text=[f"{total:,}" for total in LENGTHS]),
        ],
        panels=[
            Panel(marks, "Number of levels N", "k / K", "N", y_scale="log"),
            Panel(grids, "The levels at this k (at most 61 are drawn)", **levels),
        ],
        readouts=readouts,
        caption=GROWTH,
    )


def _padded(counts: Tensor, most: int = 61) -> Tensor:
    """Lay out the levels of each N of ``counts``, ``[*, most]``; of more than ``most`` some are left out."""
    rows = {}
    for n in counts.unique().tolist():
        sigmas = karras_sigmas(n)
        rows[n] = torch.full((most,), torch.nan, dtype=torch.float64)
        chosen = sigmas[torch.linspace(0, n - 1, min(n, most)).round().long()]
        rows[n][: len(chosen)] = chosen
    return torch.stack([rows[n] for n in counts.flatten().tolist()]).view(*counts.shape, most)


def bias_explorer(found: dict[str, Tensor]) -> Explorer:
    """Show what :func:`ict_lib.exact.levels.bias_and_noise` gives, for a slider that moves N."""
    scales, bias = found["scales"].double(), found["bias"]
    noise = found["scatter"] / found["pull"]
    answers = [
        Line(found["u"], found["exact"], label="exact consistency function", color=2, dashed=True),
        Line(found["u"], found["student"], label="ideal student at this N", color=0),
    ]
    over = [
        Line(scales, bias, label="bias: its distance from the truth", color=0),
        Line(scales, noise, label="noise of one draw / pull of the data", color=1),
        Points(scales[:, None], bias[:, None], size=10, color=0),
        Points(scales[:, None], noise[:, None], size=10, color=1),
    ]
    return Explorer(
        sliders=[Slider("noise levels N", found["scales"].tolist(), start=min(3, len(scales) - 1))],
        panels=[
            Panel(answers, "The answer at σ = 80", "c_in(σ) · x", "answer, data units"),
            Panel(over, "Bias against noise", "noise levels N", "data units", x_scale="log", y_scale="log"),
        ],
        readouts=[Readout("bias", bias), Readout("noise / pull", noise)],
        caption=MEANS,
    )
