"""Figure of the chapter on precision: rounding against signal."""

from typing import Any

import torch
from torch import Tensor

from ict_lib.display.explorer import Explorer, Line, Panel, Readout, Slider

LEVELS = {"x_label": "noise level σ", "x_scale": "log", "y_scale": "log"}
CAPTION = (
    "Lower N and raise it again: the two outputs come closer, the rounding stays. Then move the other slider. Where "
    "the lines cross, rounding is as long as the signal."
)


def rounding_explorer(found: dict[str, Any], choice: str = "precision of the passes") -> Explorer:
    """Compare what training learns from, the difference between neighbouring levels, with what rounding puts there.

    ``found`` is what ``rounding.json`` of a run holds; ``choice`` says what ``precision`` of a row tells apart there.
    Most rounding comes last.
    """
    rows, shares = found["rows"], found["share_above_signal"]
    scales, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("num_scales", "precision"))
    precisions = sorted(names, key=lambda name: sum(row["rounding"] for row in rows if row["precision"] == name))
    sigma, signal, error = (_table(rows, scales, precisions, key) for key in ("sigma_hi", "signal", "rounding"))
    above = torch.tensor([[100 * shares[str(n)][p] for p in precisions] for n in scales])
    return Explorer(
        sliders=[
            Slider("noise levels N", scales, start=len(scales) - 1),
            Slider(choice, precisions, start=len(precisions) - 1),
        ],
        panels=[_lengths(sigma, signal, error), _ratio(sigma, error / signal)],
        readouts=[Readout("share of the drawn pairs with more rounding than signal", above, "{:.1f} %")],
        caption=CAPTION,
    )


def _lengths(sigma: Tensor, signal: Tensor, error: Tensor) -> Panel:
    """Draw signal and rounding over the noise level."""
    marks = [
        Line(sigma, signal, label="signal: the two outputs differ by", color=0),
        Line(sigma, error, label="rounding of that difference", color=1),
    ]
    return Panel(marks, title="The difference that is learned from", y_label="norm, data units", **LEVELS)


def _ratio(sigma: Tensor, ratio: Tensor) -> Panel:
    """Draw their ratio."""
    known = sigma[sigma.isfinite()]
    marks = [
        Line(sigma, ratio, label="rounding / signal", color=1),
        Line([known.min(), known.max()], [1, 1], label="as much rounding as signal", color=2, dashed=True),
    ]
    return Panel(marks, title="How much of it is rounding", y_label="ratio", **LEVELS)


def _table(rows: list[dict[str, Any]], scales: list[int], precisions: list[str], key: str) -> Tensor:
    """Gather one quantity, ``[scales, precisions, points]``; NaN after the last point of a grid with fewer."""
    found = {(n, p): [] for n in scales for p in precisions}
    for row in rows:
        found[row["num_scales"], row["precision"]].append(row[key])
    table = torch.full((len(scales), len(precisions), max(map(len, found.values()))), torch.nan, dtype=torch.float64)
    for (n, precision), values in found.items():
        table[scales.index(n), precisions.index(precision), : len(values)] = torch.tensor(values, dtype=torch.float64)
    return table
