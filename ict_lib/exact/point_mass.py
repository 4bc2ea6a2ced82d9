r"""Section 3.2 in closed form: consistency training on a single data point of the line.

The data are the point xi, the student is :math:`f_\theta(x, \sigma) = (\sigma_{min}/\sigma) x +
(1 - \sigma_{min}/\sigma) \theta`, the teacher the same with :math:`\theta^-`, the distance the squared
difference. The student sits at the upper level of a pair, the teacher at the lower, pairs are drawn
uniformly, and :math:`a_i = \sigma_{min} / \sigma_i`. The noise cancels: these are exact, not estimates.
"""

import torch
from torch import Tensor

from ict_lib.exact.point_mass_limit import limit_gradient, limit_loss
from ict_lib.grid import require_ascending

__all__ = [
    "consistency_loss",
    "consistency_map",
    "gradient_parts",
    "limit_gradient",
    "limit_loss",
    "scaled_gradient",
]


def consistency_map(theta: float | Tensor, x: Tensor, sigma: float | Tensor, sigma_min: float = 0.002) -> Tensor:
    r"""Apply the student of the example; with theta = xi it is the exact consistency function.

    .. math:: f_\theta(x, \sigma) = \frac{\sigma_{min}}{\sigma} x
        + \Bigl(1 - \frac{\sigma_{min}}{\sigma}\Bigr) \theta

    Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the only parameter, data units.
        x: points, any shape that broadcasts with ``sigma``, data units.
        sigma: noise levels, at least ``sigma_min``, data units.
        sigma_min: lowest noise level, data units.

    Raises:
        ValueError: if ``sigma_min <= 0`` or a ``sigma`` is below it.
    """
    if not sigma_min > 0 or not bool((torch.as_tensor(sigma) >= sigma_min).all()):
        raise ValueError(f"0 < sigma_min <= sigma is needed, got sigma_min {sigma_min} and sigma {sigma}")
    kept = sigma_min / sigma
    return kept * x + (1 - kept) * theta


def consistency_loss(theta: float | Tensor, theta_minus: float | Tensor, xi: float, sigmas: Tensor) -> Tensor:
    r"""Consistency training loss with weight 1; consistency distillation has the same one here.

    .. math:: L = \frac{1}{N-1} \sum_{i=1}^{N-1}
        \bigl((1 - a_{i+1})(\theta - \xi) - (1 - a_i)(\theta^- - \xi)\bigr)^2

    The teacher is a constant to autograd. Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter, any shape, data units.
        theta_minus: the teacher's parameter, same shape, data units.
        xi: the data point, data units.
        sigmas: ascending noise levels, shape ``[num_scales]``, the first is sigma_min, data units.

    Returns:
        Loss, the shape of ``theta``, float64, in data units squared.

    Raises:
        ValueError: if ``sigmas`` do not ascend from above 0.
    """
    lo, hi = _one_minus_ratio(sigmas)
    student, teacher = _column(theta) - xi, _column(theta_minus).detach() - xi
    return ((hi * student - lo * teacher) ** 2).mean(dim=-1)


def gradient_parts(
    theta: float | Tensor, theta_minus: float | Tensor, xi: float, sigmas: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Split ``scaled_gradient`` into the pull towards the data and the pull towards the teacher.

    .. math:: g_{data} = \frac{2 (\theta - \xi)}{N-1} \sum_i
        \frac{(1 - a_{i+1})(a_i - a_{i+1})}{\sigma_{i+1} - \sigma_i}, \qquad
        g_{teacher} = \frac{2 (\theta - \theta^-)}{N-1} \sum_i
        \frac{(1 - a_{i+1})(1 - a_i)}{\sigma_{i+1} - \sigma_i}

    As N grows the first tends to a limit and the second grows like N: unless :math:`\theta^- = \theta`,
    it drowns the only part that knows xi. Source: own, from [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter, any shape, data units.
        theta_minus: the teacher's parameter, same shape, data units.
        xi: the data point, data units.
        sigmas: ascending noise levels, shape ``[num_scales]``, the first is sigma_min, data units.

    Returns:
        Both parts, each the shape of ``theta``, float64, without unit.

    Raises:
        ValueError: if ``sigmas`` do not ascend from above 0.
    """
    lo, hi = _one_minus_ratio(sigmas)
    sigmas = sigmas.double()
    # (a_lo - a_hi) / (hi - lo) = sigma_min / (hi lo): no cancellation on a fine grid.
    to_data = 2 * (hi * sigmas[0] / (sigmas[1:] * sigmas[:-1])).mean()
    to_teacher = 2 * (hi * lo / sigmas.diff()).mean()
    student, teacher = _column(theta)[..., 0], _column(theta_minus)[..., 0]
    return to_data * (student - xi), to_teacher * (student - teacher)


def scaled_gradient(theta: float | Tensor, theta_minus: float | Tensor, xi: float, sigmas: Tensor) -> Tensor:
    r"""Gradient in theta of the loss whose pairs are weighted by 1 / (difference of their levels).

    .. math:: g = \frac{1}{N-1} \sum_{i=1}^{N-1} \frac{2 (1 - a_{i+1})}{\sigma_{i+1} - \sigma_i}
        \bigl((1 - a_{i+1})(\theta - \xi) - (1 - a_i)(\theta^- - \xi)\bigr)

    The quotient :math:`(1/\Delta\sigma) \, \partial L / \partial\theta` is read pair by pair, inside the
    mean over uniformly drawn pairs. Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter, any shape, data units.
        theta_minus: the teacher's parameter, same shape, data units.
        xi: the data point, data units.
        sigmas: ascending noise levels, shape ``[num_scales]``, the first is sigma_min, data units.

    Returns:
        Gradient, the shape of ``theta``, float64, without unit.

    Raises:
        ValueError: if ``sigmas`` do not ascend from above 0.
    """
    to_data, to_teacher = gradient_parts(theta, theta_minus, xi, sigmas)
    return to_data + to_teacher


def _one_minus_ratio(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """1 - sigma_min / sigma at the lower and the upper level of every pair, each ``[N - 1]``."""
    require_ascending(sigmas)
    values = 1 - sigmas[0].double() / sigmas.double()
    return values[:-1], values[1:]


def _column(theta: float | Tensor) -> Tensor:
    """Parameter in float64 with an axis for the pairs, ``[..., 1]``."""
    return torch.as_tensor(theta, dtype=torch.float64)[..., None]
