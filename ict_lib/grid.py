"""The grid of noise levels."""

import torch
from torch import Tensor

from ict_lib.checks import require, whole


def karras_sigmas(num_scales: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    r"""Noise levels that are equally spaced in :math:`\sigma^{1/\rho}`.

    .. math:: \sigma_i = \Bigl(\sigma_{\min}^{1/\rho}
        + \tfrac{i-1}{N-1} \bigl(\sigma_{\max}^{1/\rho} - \sigma_{\min}^{1/\rho}\bigr)\Bigr)^{\rho},
        \qquad i = 1, \dots, N

    N levels make N - 1 neighbouring pairs. The two ends are exact, not rounded.

    Source: [EDM] arXiv:2206.00364; used by [iCT] arXiv:2310.14189 section 2.

    Args:
        num_scales: N, the number of levels, at least 2.
        sigma_min: lowest level, data units, positive.
        sigma_max: highest level, data units.
        rho: how much the grid favours low noise; 1 is equal spacing.

    Returns:
        Ascending levels, shape ``[num_scales]``, float64, data units.

    Raises:
        ValueError: if ``num_scales < 2``, not ``0 < sigma_min < sigma_max <= 1e6``, or not
            ``0.1 <= rho <= 1000``.
    """
    require(whole(num_scales, 2), "num_scales", num_scales, "a pair of levels, 2 or more,")
    require(0 < sigma_min < sigma_max <= 1e6, "sigma_min, sigma_max", (sigma_min, sigma_max), "0 < min < max <= 1e6")
    require(0.1 <= rho <= 1000, "rho", rho, "0.1 <= rho <= 1000")
    ramp = torch.linspace(0, 1, num_scales, dtype=torch.float64)  # [num_scales]
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (low + ramp * (high - low)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    return sigmas


def require_ascending(sigmas: Tensor) -> None:
    """Refuse anything that is not a grid: one axis, two levels or more, positive, ascending.

    Raises:
        ValueError: naming the first pair that does not ascend.
    """
    fits = sigmas.ndim == 1 and len(sigmas) >= 2
    require(fits, "the shape of sigmas", tuple(sigmas.shape), "a grid [num_scales] of two levels or more")
    require(sigmas[0] > 0, "sigmas[0]", sigmas[0].item(), "a positive noise level")  # NaN is none
    falls = (~(sigmas.diff() > 0)).nonzero()  # NaN too
    if len(falls):
        i = int(falls[0])
        pair = f"sigmas[{i}] = {float(sigmas[i])} and [{i + 1}] = {float(sigmas[i + 1])}"
        raise ValueError(f"sigmas must ascend, but {pair}")
