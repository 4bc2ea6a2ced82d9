"""Improvement: how much each pair of noise levels counts.

A weighting takes ascending noise levels ``[num_scales]``, data units, refuses others with a ``ValueError``, and gives a
weight for each pair of neighbours, ``[num_scales - 1]``.
"""

import torch
from torch import Tensor

from ict_lib.grid import require_ascending


def inverse_gap(sigmas: Tensor) -> Tensor:
    r"""Weight of each pair of neighbouring noise levels: small gaps, at low noise, count more. In 1 / data units.

    .. math:: \lambda(\sigma_i) = \frac{1}{\sigma_{i+1} - \sigma_i}

    Source: [iCT] arXiv:2310.14189 section 3.1.
    """
    require_ascending(sigmas)
    return 1 / sigmas.diff()


def inverse_root_gap(sigmas: Tensor) -> Tensor:
    r"""Halfway from :func:`uniform` to :func:`inverse_gap`: the same gap to the power 1/2, as a trial.

    .. math:: \lambda(\sigma_i) = (\sigma_{i+1} - \sigma_i)^{-1/2}
    """
    return inverse_gap(sigmas).sqrt()


def uniform(sigmas: Tensor) -> Tensor:
    r"""The same weight for every pair, :math:`\lambda(\sigma_i) = 1`.

    Source: [CT] arXiv:2303.01469, the default that [iCT] section 3.1 replaces.
    """
    require_ascending(sigmas)
    return torch.ones_like(sigmas[1:])


CHOICES = {"uniform": uniform, "inverse_root_gap": inverse_root_gap, "inverse_gap": inverse_gap}
