"""Improvement: where the teacher's weights come from. In iCT they are the student's own."""

import copy
import math

import torch
from torch import nn

from ict_lib.checks import require, whole
from ict_lib.recipe import Recipe
from ict_lib.techniques.curriculum import num_scales_at


def itself(student: nn.Module) -> nn.Module:
    r"""Let the student teach: :math:`\theta^- = \mathrm{stopgrad}(\theta)`; the objective stops the gradient.

    Source: [iCT] arXiv:2310.14189 section 3.2.
    """
    return student


def follower(student: nn.Module) -> nn.Module:
    r"""Make a copy without gradient, which moves by :func:`ema_update` alone: CT's teacher, and what is sampled.

    Source: [CT] arXiv:2303.01469; as a teacher removed by [iCT] arXiv:2310.14189 section 3.2.
    """
    return copy.deepcopy(student).requires_grad_(False)


def make_teacher(student: nn.Module, recipe: Recipe) -> nn.Module:
    """Make the recipe's teacher of a student that has not been trained yet."""
    return CHOICES[recipe.teacher](student)


def follow(teacher: nn.Module, student: nn.Module, recipe: Recipe, num_scales: int) -> None:
    """Let a teacher with weights of its own take one step after the student's; one that is the student stays.

    Source: [CT] arXiv:2303.01469, algorithm "consistency training".

    Args:
        teacher: what :func:`make_teacher` made, changed in place.
        student: after its own step.
        recipe: sets the decay, by mu0 and N at the start.
        num_scales: N at this step.
    """
    if teacher is not student:
        ema_update(teacher, student, ema_decay(num_scales, num_scales_at(recipe, 0, 1), recipe.mu0))


def ema_decay(num_scales: int, s0: int = 2, mu0: float = 0.9, released_code: bool = False) -> float:
    r"""Decay of the teacher's moving average in CT, chosen so that it slows down as N grows.

    .. math:: \mu(k) = \exp\Bigl(\frac{s_0 \ln \mu_0}{N(k)}\Bigr)

    The paper divides by N(k), the released code by N(k) - 1; ``released_code`` chooses. iCT sets the decay to 0: the
    teacher is the student with its gradient stopped.

    Source: [CT] arXiv:2303.01469; removed by [iCT] arXiv:2310.14189 section 3.2.

    Args:
        num_scales: N(k), the present number of noise levels, at least 2.
        s0: levels at the start of the curriculum, N(0).
        mu0: decay at the start, between 0 and 1.
        released_code: divide by N(k) - 1.

    Returns:
        The decay, between 0 and 1.

    Raises:
        ValueError: if ``num_scales < 2`` or not ``0 < mu0 < 1``.
    """
    require(whole(num_scales, 2), "num_scales", num_scales, "a pair of levels, 2 or more,")
    require(whole(s0, 1), "s0", s0, "1 or more")
    require(0 < mu0 < 1, "mu0", mu0, "0 < mu0 < 1")
    return math.exp(s0 * math.log(mu0) / (num_scales - released_code))


def lag(recipe: Recipe, total_steps: int) -> float:
    r"""Steps by which a recipe's teacher lags at the end of training, :math:`1 / (1 - \mu)`; 0 without EMA.

    It depends on N alone, not on K: CT's 717 steps at N = 151 are a thousandth of its 800,000, and 12 % of 6,000.

    Source: [CT] arXiv:2303.01469 for the decay; derived.
    """
    if recipe.teacher == "student":
        return 0.0
    first, last = (num_scales_at(recipe, step, total_steps) for step in (0, total_steps))
    return 1 / (1 - ema_decay(last, first, recipe.mu0))


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    r"""One step of an exponential moving average of weights, in place; buffers are copied.

    .. math:: \theta^- \leftarrow \mu\, \theta^- + (1 - \mu)\, \theta

    Source: [CT] arXiv:2303.01469.

    Args:
        average: the module that moves.
        model: the module that it follows, of the same architecture.
        decay: :math:`\mu`; 0 copies the model, 1 would never move.

    Raises:
        ValueError: if not ``0 <= decay < 1``.
    """
    require(0 <= decay < 1, "decay", decay, "0 <= decay < 1")
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)


CHOICES = {"ema": follower, "student": itself}
