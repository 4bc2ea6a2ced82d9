"""Improvement: which noise levels are trained on, and how often.

A schedule takes ascending noise levels ``[num_scales]``, data units, refuses others with a ``ValueError``, and gives
the probabilities of the pairs ``(i, i + 1)``, float64 ``[num_scales - 1]``, sum 1.
"""

import math

import torch
from torch import Tensor

from ict_lib.checks import require
from ict_lib.grid import require_ascending


def lognormal_pmf(sigmas: Tensor, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    r"""Probability of each pair when :math:`\ln\sigma` is normal and then rounded to the grid.

    .. math:: p(\sigma_i) \propto
        \operatorname{erf}\Bigl(\frac{\ln\sigma_{i+1} - P_{\text{mean}}}{\sqrt2\,P_{\text{std}}}\Bigr)
        - \operatorname{erf}\Bigl(\frac{\ln\sigma_i - P_{\text{mean}}}{\sqrt2\,P_{\text{std}}}\Bigr)

    ``p_mean`` is negative: half of the mass lies below :math:`e^{-1.1} \approx 0.33`.

    Source: [iCT] arXiv:2310.14189 section 3.5.

    Args:
        sigmas: ascending noise levels.
        p_mean: mean of the logarithm of the noise level.
        p_std: its standard deviation, positive.

    Raises:
        ValueError: if ``p_std <= 0``, or no pair has any mass.
    """
    require_ascending(sigmas)
    require(p_std > 0, "p_std", p_std, "a positive number")
    mass = torch.erf((sigmas.double().log() - p_mean) / (math.sqrt(2) * p_std)).diff()
    require(mass.sum() > 0, "p_mean, p_std", (p_mean, p_std), "some mass on the grid")  # NaN is none
    return mass / mass.sum()


def uniform_pmf(sigmas: Tensor) -> Tensor:
    r"""The same probability for every pair, :math:`p(\sigma_i) = 1 / (N - 1)`.

    Source: [CT] arXiv:2303.01469, the default that [iCT] section 3.5 replaces.
    """
    require_ascending(sigmas)
    pairs = len(sigmas) - 1
    return torch.full((pairs,), 1 / pairs, dtype=torch.float64, device=sigmas.device)


CHOICES = {"uniform": uniform_pmf, "lognormal": lognormal_pmf}
