"""The exact probability-flow map of a Gaussian mixture: by quantiles on the line, by an ODE solver elsewhere.

Noise is variance-exploding, x = x0 + sigma z. All arithmetic is float64.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

_MAX_ITERATIONS = 300  # a safeguard: 10 to 30 are usual
_ODE_TOLERANCE = 1e-10  # of one trajectory, relative and absolute


def quantile_flow(x: Tensor, weights: Tensor, means: Tensor, std_from: Tensor, std_to: Tensor) -> Tensor:
    r"""Map points of one mixture on the line to the points of equal quantile of another.

    On the line the trajectories of the probability-flow ODE cannot cross, so each keeps its quantile:

    .. math:: x_{to} = F_{to}^{-1}(F_{from}(x)), \qquad F(x) = \sum_j w_j \Phi((x - m_j) / s_j)

    Near a plateau of F the difference to the plateau's height is what carries the information. So with the
    components sorted and cut after the c-th, the equation is solved for
    :math:`h_c = F - \sum_{j \le c} w_j = U_c - D_c`, where
    :math:`U_c = \sum_{j > c} w_j \Phi(z_j)`, :math:`D_c = \sum_{j \le c} w_j \Phi(-z_j)`, in logarithms,
    with the c that makes :math:`U_c + D_c` least at ``x``. The cuts c = 0 and c = k are the two tails.

    Source: own.

    Args:
        x: points at the first level, shape ``[batch]``, float64.
        weights: of the components, shape ``[k]``, summing to 1.
        means: of the components, ascending, shape ``[k]``, data units.
        std_from: standard deviations at the first level, > 0, shape ``[batch, k]``, data units.
        std_to: standard deviations at the second level, > 0, shape ``[batch, k]``, data units.

    Returns:
        Points at the second level, shape ``[batch]``, float64.

    Raises:
        ValueError: if ``means`` do not ascend.
    """
    if bool((means.diff() < 0).any()):
        raise ValueError(f"means must ascend, got {means.tolist()}")
    z = (x[:, None] - means) / std_from  # [batch, k]
    # Which components lie above each cut: row c is true from column c on.
    above = torch.ones(len(means) + 1, len(means), dtype=torch.bool, device=x.device).triu()
    log_up, log_down = _log_masses(z[:, None, :], weights.log(), above)  # [batch, k + 1]
    cut = torch.logaddexp(log_up, log_down).argmin(dim=1, keepdim=True)
    log_up, log_down = (m.gather(1, cut)[:, 0] for m in (log_up, log_down))
    # No component moves to a larger z than the largest z at x, nor below the least: a bracket.
    low = (means + std_to * z.amin(dim=1, keepdim=True)).amin(dim=1)
    high = (means + std_to * z.amax(dim=1, keepdim=True)).amax(dim=1)
    return _solve(low, high, (log_up, log_down), partial(_sides, weights.log(), means, std_to, above[cut[:, 0]]))


def _log_masses(z: Tensor, log_weights: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of U (components above the cut, left of x) and D (below the cut, right of x)."""
    up = torch.where(above, log_weights + torch.special.log_ndtr(z), -torch.inf)
    down = torch.where(above, -torch.inf, log_weights + torch.special.log_ndtr(-z))
    return up.logsumexp(dim=-1), down.logsumexp(dim=-1)


def _sides(
    log_weights: Tensor, means: Tensor, stds: Tensor, above: Tensor, y: Tensor, minus: Tensor, plus: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides of the equation at y, and the derivative of their difference: each ``[batch]``."""
    z = (y[:, None] - means) / stds  # [batch, k]
    up, down = _log_masses(z, log_weights, above)
    left, right = torch.logaddexp(up, minus), torch.logaddexp(down, plus)
    log_density = log_weights - stds.log() - z**2 / 2 - 0.5 * np.log(2 * np.pi)
    slope = (log_density - torch.where(above, left[:, None], right[:, None])).exp().sum(dim=1)
    return left, right, slope


def _solve(low: Tensor, high: Tensor, target: tuple[Tensor, Tensor], function: Callable) -> Tensor:
    """Root in y of log(U(y) + h-) - log(D(y) + h+), where h = U - D at x: Newton's step, else halving."""
    log_up, log_down = target
    gap = _log_difference(log_up, log_down)
    plus = torch.where(log_up > log_down, gap, -torch.inf)
    minus = torch.where(log_up < log_down, gap, -torch.inf)
    y, last = (low + high) / 2, high - low
    done = torch.zeros_like(y, dtype=torch.bool)
    for _ in range(_MAX_ITERATIONS):
        left, right, slope = function(y, minus, plus)
        low, high = torch.where(left < right, y, low), torch.where(left > right, y, high)
        newton = y - (left - right) / slope
        # As long as Newton's steps at least halve, they are taken: else the bracket is halved.
        take = (newton >= low) & (newton <= high) & ((newton - y).abs() <= last / 2)
        step = torch.where(take, newton, (low + high) / 2) - y
        y, last = torch.where(done, y, y + step), step.abs()
        done |= ((left - right).abs() <= 1e-15 * (1 + left.abs())) | (last <= 4e-16 * y.abs())
        if bool(done.all()):
            break
    return y


def _log_difference(a: Tensor, b: Tensor) -> Tensor:
    """Log of |exp(a) - exp(b)|, -inf where they are equal."""
    larger, less = torch.maximum(a, b), torch.minimum(a, b)
    return larger + torch.log(-torch.expm1(less - larger))


def ode_flow(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigma_from: Tensor,
    sigma_to: Tensor,
    fractions: Sequence[float] = (1.0,),
) -> Tensor:
    r"""Solve the probability-flow ODE in the logarithm of the noise level, to about 1e-9.

    .. math:: \frac{dx}{d \ln\sigma} = x - D(x, \sigma)

    Each point moves between its own two levels: :math:`\ln\sigma(\tau)` is linear in the fraction
    :math:`\tau \in [0, 1]` of the way, so that a batch is one system (Dormand-Prince, order 8, adaptive).

    Source: [EDM] arXiv:2206.00364 section 2 for the equation; the change of variable is own.

    Args:
        denoiser: E[x0 | x], from points ``[batch, d]`` and noise levels ``[batch]`` to points.
        x: points at ``sigma_from``, shape ``[batch, d]``, float64.
        sigma_from: noise levels of the start, > 0, shape ``[batch]``, data units.
        sigma_to: noise levels of the end, > 0, shape ``[batch]``, data units.
        fractions: where on the way to report, ascending in [0, 1].

    Returns:
        Points, shape ``[len(fractions), batch, d]``, float64.

    Raises:
        RuntimeError: if the solver gives up, or a point or the denoiser is not finite.
    """
    start, width = sigma_from.log(), sigma_to.log() - sigma_from.log()

    def velocity(tau: float, flat: np.ndarray) -> np.ndarray:
        points = torch.from_numpy(flat).view(x.shape)
        change = width[:, None] * (points - denoiser(points, (start + tau * width).exp()))
        if not bool(change.isfinite().all()):  # scipy would halve its step for ever
            raise RuntimeError(f"the probability-flow ODE was not solved: not finite at fraction {tau}")
        return change.numpy().ravel()

    # scipy's error is a mean over the batch: the root of its size makes it hold for each point.
    tolerance = max(_ODE_TOLERANCE / np.sqrt(max(len(x), 1)), 3e-14)
    options = {"method": "DOP853", "t_eval": np.asarray(fractions), "rtol": tolerance, "atol": tolerance}
    solution = solve_ivp(velocity, (0.0, 1.0), x.numpy().ravel(), **options)
    if not solution.success:
        raise RuntimeError(f"the probability-flow ODE was not solved: {solution.message}")
    return torch.from_numpy(solution.y.T.copy()).view(-1, *x.shape)
