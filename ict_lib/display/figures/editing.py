"""Figure of the chapter on sampling and editing: edits of images."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.explorer import Explorer, Image, Line, Panel, Points, Slider
from ict_lib.editing import inpaint, super_resolve
from ict_lib.grid import karras_sigmas
from ict_lib.training.measuring import grid

COUNTS = [1, 2, 4, 8, 16, 32]  # of levels
EDITS = (
    "Left in each row what was measured, then three answers from different noise, right the digit itself. Raise the "
    "number of levels: in one the model hardly sees what was measured; with many its answers come nearer to the digit. "
    "Where much is unknown they still differ, and each agrees with the measurement."
)


def edits(
    model: ConsistencyModel, images: Tensor, counts: Sequence[int] = COUNTS, factor: int = 2
) -> dict[str, tuple[Tensor, Tensor]]:
    """Measure a part of images, ``[num, *shape]``, in three ways, and let the model answer three times to each.

    Each answer takes one of these ``counts`` of levels; ``factor`` is the side of the squares whose means are measured.
    Of each way: what was measured ``[num, *shape]``, and the answers ``[counts, 3, num, *shape]``.
    """
    height, width = images.shape[2:]
    upper = torch.arange(height)[:, None].expand(height, width) < height // 2
    spots = torch.rand(height, width, generator=torch.Generator().manual_seed(1)) < 0.3
    small = torch.nn.functional.avg_pool2d(images, factor)
    grey, enlarged = torch.zeros(()), small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    ways = {
        "upper half known": (images.where(upper, grey), lambda *a: inpaint(model, images, upper, *a)),
        "30 % of the pixels": (images.where(spots, grey), lambda *a: inpaint(model, images, spots, *a)),
        f"{small.shape[2]}x{small.shape[3]} means": (enlarged, lambda *a: super_resolve(model, small, factor, *a)),
    }

    def answers(way: Callable[..., Tensor], count: int) -> Tensor:
        levels = karras_sigmas(count + 1).flip(0)[:-1].tolist()
        return torch.stack([way(levels, torch.Generator().manual_seed(seed)) for seed in range(3)])

    return {name: (seen, torch.stack([answers(way, n) for n in counts])) for name, (seen, way) in ways.items()}


def errors_of(found: dict[str, tuple[Tensor, Tensor]], images: Tensor) -> dict[str, list[float]]:
    """Say of each way of :func:`edits` how far its answers are from the truth, root mean square, for each count."""
    return {way: (a - images).square().flatten(1).mean(dim=1).sqrt().tolist() for way, (_, a) in found.items()}


def edits_explorer(found: dict[str, tuple[Tensor, Tensor]], images: Tensor, counts: Sequence[int] = COUNTS) -> Explorer:
    """Show what :func:`edits` gives, for sliders that choose the edit and the number of levels."""
    num, sheets = len(images), []
    for seen, answers in found.values():
        columns = [torch.stack([seen, *tries, images], dim=1).flatten(0, 1) for tries in answers]  # each [num * 5, ...]
        sheets.append([grid(column, columns=5) for column in columns])
    errors, steps = np.array(list(errors_of(found, images).values())), np.array(counts, dtype=float)
    marks = [
        Line(steps, errors[:, None], label="distance of an answer from the digit", color=0),
        Points(steps[None, :, None], errors[..., None], size=10, color=1),
    ]
    axes = {"x_label": "levels", "y_label": "root mean square, a pixel", "x_scale": "log"}
    return Explorer(
        sliders=[
            Slider("what is known", list(found)),
            Slider("noise levels, one evaluation each", list(counts), start=len(counts) - 1),
        ],
        panels=[
            Panel([Image(np.array(sheets), (0, 255))], title=f"{num} digits: measured, three answers, true"),
            Panel(marks, title="How far the answers are from the truth", **axes),
        ],
        caption=EDITS,
    )
