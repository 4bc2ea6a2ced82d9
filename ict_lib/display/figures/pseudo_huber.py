"""Figures of the chapter on the distance."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ict_lib.display.explorer import Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.objective import levels
from ict_lib.recipe import Recipe
from ict_lib.techniques.distance import l1, pseudo_huber, squared_l2

Distance = Callable[[Tensor, Tensor], Tensor]
# The batch of the figure: quantiles of a normal distribution around 0 with standard deviation 0.3, data units.
BATCH = 0.3 * torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(14, dtype=torch.float64) + 0.5) / 14)
CONSTANTS = [0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
OUTLIERS = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0]
CAPTION = (
    "Move the outlier. The minimum of squared ℓ₂ is the mean and follows it in proportion, however far it goes; those "
    "of ℓ₁ and of pseudo-Huber soon stop, since beyond c a pull has size 1. Then raise c: pseudo-Huber keeps its "
    "gradient's bound of 1, but bends later, and its minimum moves from the median to the mean."
)


class Pairs(NamedTuple):
    """What student and teacher answered at neighbouring levels, ``[num, ...]``, and how much each pair weighs."""

    student: Tensor
    teacher: Tensor
    weight: Tensor  # ``[num]``


@torch.no_grad()
def pairs(
    model: nn.Module, images: Tensor, recipe: Recipe, num_scales: int, num: int, near: float | None = None
) -> Pairs:
    """Draw pairs of ``[images, ...]`` as the objective does; with ``near``, all at the pair of levels nearest to it.

    The model, in evaluation mode, is student and teacher in one; without ``near`` the recipe's noise schedule draws.
    """
    table, generator = levels(recipe, num_scales, torch.device("cpu")), torch.Generator().manual_seed(0)
    index = torch.multinomial(table.pmf, num, replacement=True, generator=generator)
    if near is not None:
        index = (table.hi.log() - torch.tensor(near).log()).abs().argmin().expand(num)
    x = images[torch.randint(len(images), (num,), generator=generator)]
    noise, column = torch.randn(x.shape, generator=generator), (-1, *[1] * (x.ndim - 1))
    low, high = table.lo[index], table.hi[index]
    student, teacher = (model(x + sigma.view(column) * noise, sigma) for sigma in (high, low))
    return Pairs(student, teacher, table.weight[index])


def pulls(student: Tensor, teacher: Tensor, apart: Distance) -> Tensor:
    """Length of each distance's gradient in the student's output, ``[num]``: how hard a pair pulls."""
    output = student.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(apart(output, teacher).sum(), output)
    return gradient.flatten(1).norm(dim=1)


def share_of_strongest(pull: Tensor, part: float) -> float:
    """Share of all pulls that the strongest part of the pairs has, from 0 to 1."""
    strongest = pull.sort(descending=True).values
    return float(strongest[: max(1, round(part * len(pull)))].sum() / pull.sum())


def minimiser(numbers: Tensor, apart: Distance, weights: Tensor | None = None) -> Tensor:
    """Find the least sum of distances to the numbers of each row, ``[rows, numbers]`` to ``[rows]``, by bisection."""
    low, high = numbers.amin(dim=1), numbers.amax(dim=1)
    weights = torch.ones_like(numbers) if weights is None else weights
    for _ in range(40):
        place = ((low + high) / 2).requires_grad_()
        each = apart(place[:, None].expand_as(numbers).reshape(-1, 1), numbers.reshape(-1, 1))
        (slope,) = torch.autograd.grad((weights.flatten() * each).sum(), place)
        low, high = (torch.where(slope < 0, *ends).detach() for ends in ((place, low), (high, place)))
    return (low + high) / 2


def distance_explorer() -> Explorer:
    """Show three distances of one number, their gradients, and what one outlier does to a small batch."""
    x = torch.linspace(-4, 4, 321, dtype=torch.float64)
    bent = [partial(pseudo_huber, c=c) for c in CONSTANTS]
    rows = torch.stack([torch.cat([BATCH, torch.tensor([far], dtype=torch.float64)]) for far in OUTLIERS])
    kinds = {"squared ℓ₂": ([squared_l2], 1, True), "ℓ₁": ([l1], 2, True), "pseudo-Huber": (bent, 0, False)}
    curve, slope, ends, shares = [], [], [], []
    for label, (functions, color, dashed) in kinds.items():
        style = {"label": label, "color": color, "dashed": dashed}
        values = torch.stack([apart(x[:, None], torch.zeros(321, 1)) for apart in functions])
        gradients = torch.stack([x.sign() * pulls(x[:, None], torch.zeros(321, 1), apart) for apart in functions])
        lowest = torch.stack([minimiser(rows, apart) for apart in functions])  # [1 or constants, outliers]
        pull = torch.stack([pulls(rows.view(-1, 1), torch.zeros(rows.numel(), 1), a).view_as(rows) for a in functions])
        curve.append(Line(x, values[:, None], **style))
        slope.append(Line(x, gradients[:, None], **style))
        here = Points(torch.tensor(OUTLIERS)[None, :, None], lowest[..., None], color=color, size=9)
        ends += [Line(OUTLIERS, lowest[:, None], **style), here]
        shares.append(Readout(f"outlier's share of the pull, {label}", 100 * pull[..., -1] / pull.sum(2), "{:.0f} %"))
    return Explorer(
        sliders=[
            Slider("constant c", CONSTANTS, start=3, text=[f"{c:g}" for c in CONSTANTS]),
            Slider("the outlier's place", OUTLIERS, start=7, text=[f"{far:g}" for far in OUTLIERS]),
        ],
        panels=[
            Panel(slope, "The gradient: the pull", "x − y, one number", "gradient in x", y_range=(-3.0, 3.0)),
            Panel(ends, "14 numbers around 0, and one outlier", "the outlier's place", "where the minimum is"),
            Panel(curve, "The distance", "x − y, one number", "d(x, y)", y_range=(0.0, 4.0)),
        ],
        readouts=shares,
        caption=CAPTION,
    )
