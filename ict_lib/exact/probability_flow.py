"""The exact probability-flow map of a Gaussian mixture: by quantiles on the line, by an ODE solver elsewhere.

Noise is variance-exploding, x = x0 + sigma z. All is float64, points, means and levels in data units.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize.elementwise import find_root
from torch import Tensor

_ODE_TOLERANCE = 1e-10  # of one trajectory, relative and absolute


def quantile_flow(x: Tensor, weights: Tensor, means: Tensor, std_from: Tensor, std_to: Tensor) -> Tensor:
    r"""Map points ``[batch]`` of one mixture on the line to the points of equal quantile of another, ``[batch]``.

    On the line the trajectories of the probability-flow ODE cannot cross, so each keeps its quantile:

    .. math:: x_{to} = F_{to}^{-1}(F_{from}(x)), \qquad F(x) = \sum_j w_j \Phi((x - m_j) / s_j)

    Weights w, which sum to 1, and means m are ``[k]``, standard deviations s > 0, at both levels, ``[batch, k]``.

    Near a plateau of F the difference to the plateau's height is what carries the information. So with the components
    sorted and cut after the c-th, the equation is solved for :math:`h_c = F - \sum_{j \le c} w_j = U_c - D_c`, where
    :math:`U_c = \sum_{j > c} w_j \Phi(z_j)`, :math:`D_c = \sum_{j \le c} w_j \Phi(-z_j)`, in logarithms, with the c
    that makes :math:`U_c + D_c` least at ``x``. The cuts c = 0 and c = k are the two tails. scipy finds the root, by
    Chandrupatla's method.
    """
    order = means.argsort()
    log_weights, means, std_from, std_to = weights[order].log(), means[order], std_from[:, order], std_to[:, order]
    # Which components lie above each cut: row c is true from column c on.
    above = torch.ones(len(means) + 1, len(means), dtype=torch.bool).triu()
    z = (x[:, None] - means) / std_from  # [batch, k]
    log_up, log_down = _log_masses(z[:, None], log_weights, above)  # [batch, k + 1]
    cut = torch.logaddexp(log_up, log_down).argmin(dim=1, keepdim=True)
    log_up, log_down = (m.gather(1, cut)[:, 0] for m in (log_up, log_down))
    larger, less = torch.maximum(log_up, log_down), torch.minimum(log_up, log_down)
    gap = larger + torch.log(-torch.expm1(less - larger))  # ln |h_c|
    minus, plus = gap.where(log_up < log_down, -torch.inf), gap.where(log_up > log_down, -torch.inf)

    def excess(y: np.ndarray, point: np.ndarray) -> np.ndarray:  # ln(U + h-) - ln(D + h+), at some of the points
        z = (torch.from_numpy(y)[:, None] - means) / std_to[point]
        up, down = _log_masses(z, log_weights, above[cut[point, 0]])
        return (torch.logaddexp(up, minus[point]) - torch.logaddexp(down, plus[point])).numpy()

    # No component moves to a larger z than the largest z at x, nor below the least: a bracket, and room for rounding.
    room = 1e-9 * (1 + z.abs().amax(dim=1, keepdim=True))
    low = (means + std_to * (z.amin(dim=1, keepdim=True) - room)).amin(dim=1)
    high = (means + std_to * (z.amax(dim=1, keepdim=True) + room)).amax(dim=1)
    bracket = low.numpy(), high.numpy()
    return torch.from_numpy(find_root(excess, bracket, args=(np.arange(len(x)),), tolerances={"xatol": 1e-16}).x)


def _log_masses(z: Tensor, log_weights: Tensor, above: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of U (components above the cut, left of x) and D (below the cut, right of x)."""
    up = (log_weights + torch.special.log_ndtr(z)).where(above, -torch.inf)
    down = (log_weights + torch.special.log_ndtr(-z)).where(~above, -torch.inf)
    return up.logsumexp(dim=-1), down.logsumexp(dim=-1)


def ode_flow(
    denoiser: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigma_from: Tensor,
    sigma_to: Tensor,
    fractions: Sequence[float] = (1.0,),
) -> Tensor:
    r"""Solve the probability-flow ODE in the logarithm of the noise level, to about 1e-9.

    .. math:: \frac{dx}{d \ln\sigma} = x - D(x, \sigma)

    Each point, of ``[batch, d]``, moves between its own two levels > 0, ``[batch]``: :math:`\ln\sigma(\tau)` is linear
    in the fraction :math:`\tau \in [0, 1]` of the way, so that a batch is one system (Dormand-Prince, order 8,
    adaptive). It is reported at ascending fractions, ``[len(fractions), batch, d]``.

    The denoiser D maps points and levels to points. If one or a point is not finite, or the solver gives up, there is a
    RuntimeError.

    Source: [EDM] arXiv:2206.00364 section 2 for the equation.
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
