"""The interactive figure of the chapter on running at scale."""

from typing import Any

import torch
from torch import Tensor

from ict_lib.display.explorer import Explorer
from ict_lib.display.explorer_parts import Line, Panel, Readout, Slider


def rounding_explorer(found: dict[str, Any]) -> Explorer:
    """Compare what training learns from, the difference between neighbouring levels, with what rounding puts there.

    Source: own.

    Args:
        found: what ``rounding.json`` of a run holds; see :func:`ict_lib.evaluation.rounding.of_run`.

    Returns:
        The figure: two sliders, two pictures.
    """
    rows = found["rows"]
    scales, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("num_scales", "precision"))
    precisions = sorted(names, key=lambda name: sum(row["rounding"] for row in rows if row["precision"] == name))
    sigma, signal, error = (
        torch.stack([_on_one_grid(rows, n, scales, precisions, key) for n in scales])
        for key in ("sigma_hi", "signal", "rounding")
    )  # each [scales, precisions, points]
    above = torch.tensor([[found["share_above_signal"][str(n)][p] for p in precisions] for n in scales])
    levels = {"x_label": "noise level σ", "x_scale": "log", "y_scale": "log"}
    ends = torch.tensor([float(sigma.nan_to_num(1).min()), float(sigma.nan_to_num(1).max())])
    return Explorer(
        sliders=[
            Slider("noise levels N", scales, start=len(scales) - 1),
            Slider("precision of the passes", precisions, start=len(precisions) - 1),
        ],
        panels=[
            Panel(
                [
                    Line(sigma, signal, label="signal: the two outputs differ by", color=0),
                    Line(sigma, error, label="rounding of that difference", color=1),
                ],
                title="The difference that is learned from",
                y_label="norm, data units",
                **levels,
            ),
            Panel(
                [
                    Line(sigma, error / signal, label="rounding / signal", color=1),
                    Line(ends, torch.ones(2), label="as much rounding as signal", color=2, dashed=True),
                ],
                title="How much of it is rounding",
                y_label="ratio",
                **levels,
            ),
        ],
        readouts=[
            Readout("share of the drawn pairs with more rounding than signal", 100 * above, "{:.1f} %"),
        ],
        caption="Lower N and raise it again: the two outputs come closer, the rounding stays. Then change the "
        "precision: the fewer digits, the more rounding. Where the lines cross, rounding is as long as the signal.",
    )


def _on_one_grid(
    rows: list[dict[str, Any]], num_scales: int, scales: list[int], precisions: list[str], key: str
) -> Tensor:
    """Gather one quantity of one grid, shape ``[precisions, points]``; NaN after the last point of a short grid."""
    most = max(sum(row["num_scales"] == n for row in rows) // len(precisions) for n in scales)
    found = torch.full((len(precisions), most), torch.nan, dtype=torch.float64)
    for place, precision in zip(found, precisions, strict=True):
        here = [row[key] for row in rows if (row["num_scales"], row["precision"]) == (num_scales, precision)]
        place[: len(here)] = torch.tensor(here, dtype=torch.float64)
    return found
