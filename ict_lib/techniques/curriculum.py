"""Improvement: how the number of noise levels N grows during training."""

import math
from typing import TYPE_CHECKING

from ict_lib.checks import require, whole

if TYPE_CHECKING:  # a recipe imports this file
    from ict_lib.recipe import Recipe


def doubling(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    r"""Number of noise levels that doubles at equal intervals and then stays at ``s1 + 1``.

    .. math:: N(k) = \min\bigl(s_0 2^{\lfloor k / K' \rfloor},\, s_1\bigr) + 1, \qquad
        K' = \Bigl\lfloor \frac{K}{\log_2 \lfloor s_1 / s_0 \rfloor + 1} \Bigr\rfloor

    Source: [iCT] arXiv:2310.14189 section 3.4.

    Args:
        step: k, training steps taken so far, from 0 to ``total_steps``.
        total_steps: K, at least 1; with fewer steps than stages each stage takes one, and ``s1`` may not be reached.
        s0: pairs of levels at the start.
        s1: pairs of levels at the end.

    Returns:
        N, the number of levels (one more than the number of pairs).

    Raises:
        ValueError: if not ``0 <= step <= total_steps`` or not ``1 <= s0 <= s1``.
    """
    _check(step, total_steps, s0, s1)
    stages = math.log2(s1 // s0) + 1
    stage_steps = max(1, math.floor(total_steps / stages))
    return min(s0 * 2 ** (step // stage_steps), s1) + 1


def square_root(step: int, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    r"""Number of noise levels that grows like the root of the step.

    .. math:: N(k) = \Bigl\lceil \sqrt{\tfrac{k}{K} \bigl((s_1 + 1)^2 - s_0^2\bigr) + s_0^2} - 1 \Bigr\rceil + 1

    Source: [CT] arXiv:2303.01469, the default that [iCT] section 3.4 replaces.

    Args:
        step: k, training steps taken so far, from 0 to ``total_steps``.
        total_steps: K, at least 1.
        s0: levels at the start, at least 2.
        s1: pairs of levels at the end.

    Returns:
        N, the number of levels.

    Raises:
        ValueError: if not ``0 <= step <= total_steps`` or not ``2 <= s0 <= s1``.
    """
    _check(step, total_steps, s0, s1)
    require(s0 >= 2, "s0", s0, "2 or more, as here it counts levels,")
    squared = s0**2 - (-step * ((s1 + 1) ** 2 - s0**2) // total_steps)  # whole: a rounded root can miss by one
    return math.isqrt(squared - 1) + 1


def _check(step: int, total_steps: int, s0: int, s1: int) -> None:
    """Refuse a step outside of training and an empty or falling curriculum."""
    within = whole(total_steps, 1) and whole(step, 0, total_steps)
    require(within, "step, total_steps", (step, total_steps), "0 <= step <= total_steps, 1 <= total_steps")
    require(whole(s1, 1) and whole(s0, 1, s1), "s0, s1", (s0, s1), "1 <= s0 <= s1")


def num_scales_at(recipe: "Recipe", step: int, total_steps: int) -> int:
    """Number of noise levels N at a training step, by the recipe's curriculum and its ends.

    Source: [iCT] arXiv:2310.14189 section 3.4.

    Args:
        recipe: names the curriculum; ends that it leaves open are the curriculum's own.
        step: training steps taken so far, from 0 to ``total_steps``; N at step 0 does not depend on ``total_steps``.
        total_steps: training steps in all.

    Raises:
        ValueError: if the step lies outside of training, or the curriculum refuses its ends.
    """
    ends = {"s0": recipe.s0, "s1": recipe.s1}
    return CHOICES[recipe.curriculum](step, total_steps, **{k: v for k, v in ends.items() if v is not None})


CHOICES = {"square_root": square_root, "doubling": doubling}
