r"""Section 3.2 in closed form: consistency training on a single data point of the line.

The data are the point xi, the student is :math:`f_\theta(x, \sigma) = (\sigma_{min}/\sigma) x + (1 -
\sigma_{min}/\sigma) \theta`, the teacher the same with :math:`\theta^-`, the distance the squared difference. The
student sits at the upper level of a pair, the teacher at the lower, pairs are drawn uniformly, and :math:`a_i =
\sigma_{min} / \sigma_i`. The noise cancels: these are exact, not estimates.

Everywhere ``theta`` is the student's parameter and ``theta_minus`` the teacher's, numbers or tensors of one shape,
``xi`` the data point and ``sigmas`` the noise levels, shape ``[num_scales]``, the first of which is sigma_min, all in
data units. Results are float64, of the shape of ``theta``. Levels that do not ascend from above 0 are a ``ValueError``,
and so are other numbers out of range: a limit wants ``0 < sigma_min < sigma_max`` and ``rho > 0``.

Source of all: [iCT] arXiv:2310.14189 section 3.2.
"""

import math

import torch
from torch import Tensor

from ict_lib.checks import require, whole
from ict_lib.grid import require_ascending


def consistency_loss(theta: float | Tensor, theta_minus: float | Tensor, xi: float, sigmas: Tensor) -> Tensor:
    r"""Consistency training loss with weight 1; consistency distillation has the same one here.

    .. math:: L = \frac{1}{N-1} \sum_{i=1}^{N-1}
        \bigl((1 - a_{i+1})(\theta - \xi) - (1 - a_i)(\theta^- - \xi)\bigr)^2

    In data units squared. The teacher is a constant to autograd.
    """
    lo, hi = _one_minus_ratio(sigmas)
    student, teacher = _double(theta)[..., None] - xi, _double(theta_minus).detach()[..., None] - xi
    return ((hi * student - lo * teacher) ** 2).mean(dim=-1)


def gradient_parts(
    theta: float | Tensor, theta_minus: float | Tensor, xi: float, sigmas: Tensor
) -> tuple[Tensor, Tensor]:
    r"""Split :func:`scaled_gradient` into the pull towards the data and the pull towards the teacher.

    .. math:: g_{data} = \frac{2 (\theta - \xi)}{N-1} \sum_i
        \frac{(1 - a_{i+1})(a_i - a_{i+1})}{\sigma_{i+1} - \sigma_i}, \qquad
        g_{teacher} = \frac{2 (\theta - \theta^-)}{N-1} \sum_i
        \frac{(1 - a_{i+1})(1 - a_i)}{\sigma_{i+1} - \sigma_i}

    As N grows the first tends to a limit and the second grows like N: unless :math:`\theta^- = \theta`, it drowns the
    only part that knows xi.
    """
    lo, hi = _one_minus_ratio(sigmas)
    sigmas = sigmas.double()
    # (a_lo - a_hi) / (hi - lo) = sigma_min / (hi lo): no cancellation on a fine grid.
    to_data = 2 * (hi * sigmas[0] / (sigmas[1:] * sigmas[:-1])).mean()
    to_teacher = 2 * (hi * lo / sigmas.diff()).mean()
    student, teacher = _double(theta), _double(theta_minus)
    return to_data * (student - xi), to_teacher * (student - teacher)


def scaled_gradient(theta: float | Tensor, theta_minus: float | Tensor, xi: float, sigmas: Tensor) -> Tensor:
    r"""Gradient in theta of the loss whose pairs are weighted by 1 / (difference of their levels).

    .. math:: g = \frac{1}{N-1} \sum_{i=1}^{N-1} \frac{2 (1 - a_{i+1})}{\sigma_{i+1} - \sigma_i}
        \bigl((1 - a_{i+1})(\theta - \xi) - (1 - a_i)(\theta^- - \xi)\bigr)

    The quotient :math:`(1/\Delta\sigma) \, \partial L / \partial\theta` is read pair by pair, inside the mean over
    uniformly drawn pairs. It has no unit.
    """
    to_data, to_teacher = gradient_parts(theta, theta_minus, xi, sigmas)
    return to_data + to_teacher


def limit_loss(
    theta: float, theta_minus: float, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> float:
    r"""Loss as the number of levels of a Karras grid grows without bound: it no longer depends on the data.

    .. math:: \lim_{N \to \infty} L = (\theta - \theta^-)^2 \, E[(1 - \sigma_{min} / \sigma)^2]

    where :math:`\sigma^{1/\rho}` is uniform. In data units squared.
    """
    first, second = (_mean_power(k, sigma_min, sigma_max, rho) for k in (1, 2))
    return (theta - theta_minus) ** 2 * (1 - 2 * sigma_min * first + sigma_min**2 * second)


def limit_gradient(
    theta: float, theta_minus: float, xi: float, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> float:
    r"""Give the limit of :func:`scaled_gradient` as N grows without bound: finite only without an EMA.

    .. math:: \lim_{N \to \infty} g = 2 (\theta - \xi) \,
        E\Bigl[\frac{\sigma_{min}}{\sigma^2} \Bigl(1 - \frac{\sigma_{min}}{\sigma}\Bigr)\Bigr]
        \text{ if } \theta^- = \theta, \quad +\infty \text{ if } \theta^- < \theta, \quad
        -\infty \text{ if } \theta^- > \theta

    where :math:`\sigma^{1/\rho}` is uniform.
    """
    second, third = (_mean_power(k, sigma_min, sigma_max, rho) for k in (2, 3))
    if theta_minus != theta:
        return math.copysign(math.inf, theta - theta_minus)
    return 2 * (theta - xi) * sigma_min * (second - sigma_min * third)


def descent(theta: float, xi: float, sigmas: Tensor, decay: float, learning_rate: float, num_steps: int) -> Tensor:
    r"""Plain gradient descent of the student on :func:`scaled_gradient`, its teacher an EMA that starts equal.

    .. math:: \theta \leftarrow \theta - \eta \, g(\theta, \theta^-), \qquad
        \theta^- \leftarrow \mu \theta^- + (1 - \mu) \theta

    With :math:`g = G_{data} (\theta - \xi) + G_{teacher} (\theta - \theta^-)` both still reach xi, but a teacher that
    lags slows them by about :math:`1 + \eta G_{teacher} \mu / (1 - \mu)`, and G_teacher grows like N. It diverges when
    :math:`\eta G_{teacher}` exceeds about :math:`(1 + \mu) / \mu`.

    The decay is mu in [0, 1), 0 for iCT's teacher; the learning rate is eta > 0. Student and teacher after every step,
    the start first, are ``[num_steps + 1, 2]``.
    """
    fits = 0 <= decay < 1 and 0 < learning_rate < math.inf and whole(num_steps, 0)
    rule = "0 <= decay < 1, learning_rate > 0, num_steps >= 0"
    require(fits, "decay, learning_rate, num_steps", (decay, learning_rate, num_steps), rule)
    data, lag = (float(part) for part in gradient_parts(1.0, 0.0, 0.0, sigmas))
    student = teacher = float(theta)
    path = [(student, teacher)]
    for _ in range(num_steps):
        student -= learning_rate * (data * (student - xi) + lag * (student - teacher))
        teacher = decay * teacher + (1 - decay) * student
        path.append((student, teacher))
    return torch.tensor(path, dtype=torch.float64)


def _one_minus_ratio(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """1 - sigma_min / sigma at the lower and the upper level of every pair, each ``[N - 1]``."""
    require_ascending(sigmas)
    values = 1 - sigmas[0].double() / sigmas.double()
    return values[:-1], values[1:]


def _double(theta: float | Tensor) -> Tensor:
    return torch.as_tensor(theta, dtype=torch.float64)


def _mean_power(k: int, sigma_min: float, sigma_max: float, rho: float) -> float:
    """Mean of sigma^-k where sigma^(1/rho) is uniform between the two ends."""
    ends = 0 < sigma_min < sigma_max < math.inf and 0 < rho < math.inf
    require(ends, "sigma_min, sigma_max, rho", (sigma_min, sigma_max, rho), "0 < sigma_min < sigma_max and rho > 0")
    low, high, power = sigma_min ** (1 / rho), sigma_max ** (1 / rho), 1 - rho * k
    if power == 0:
        return math.log(high / low) / (high - low)
    return (high**power - low**power) / (power * (high - low))
