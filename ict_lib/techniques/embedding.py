"""Improvement: how finely the network is told the noise level."""

import math

import torch
from torch import Tensor, nn

from ict_lib.checks import require


class FourierFeatures(nn.Module):
    r"""Random Fourier features of the conditioning number, with the frequencies' scale as the dial.

    .. math:: \phi(c) = \bigl[\sin(2\pi w_1 c), \dots, \cos(2\pi w_1 c), \dots\bigr], \qquad w_j \sim \mathcal N(0, s^2)

    With :math:`s = 16` a tiny change of noise level changes every feature; with :math:`s = 0.02` the features are
    nearly linear in it, and the network's output changes smoothly from one level to the next.

    Source: [iCT] arXiv:2310.14189 section 3.1 (scale 0.02); [CT] arXiv:2303.01469 (scale 16).

    Args:
        num_channels: number of features, even.
        scale: s, standard deviation of the frequencies, positive.
        generator: draws the frequencies, which are fixed for ever after.

    Raises:
        ValueError: if ``num_channels`` is odd or less than 2, or ``scale <= 0``.
    """

    def __init__(self, num_channels: int, scale: float, generator: torch.Generator | None = None):
        super().__init__()
        require(num_channels >= 2 and num_channels % 2 == 0, "num_channels", num_channels, "an even number")
        require(0 < scale < math.inf, "scale", scale, "a positive, finite number")
        self.register_buffer("frequencies", scale * torch.randn(num_channels // 2, generator=generator))

    def forward(self, c_noise: Tensor) -> Tensor:
        """Map ``[batch]`` to ``[batch, num_channels]``."""
        angles = 2 * math.pi * c_noise[:, None] * self.frequencies  # [batch, num_channels / 2]
        return torch.cat([angles.sin(), angles.cos()], dim=1)


def positional(c_noise: Tensor, num_channels: int, scale: float = 1.0) -> Tensor:
    r"""Transformer-style features at geometrically spaced frequencies, as ADM uses on ImageNet 64.

    .. math:: \phi(c) = \bigl[\cos(\omega_j s c), \sin(\omega_j s c)\bigr]_j, \qquad
        \omega_j = 10000^{-j / (C/2)}, \quad j = 0, \dots, C/2 - 1

    Source: [ADM] arXiv:2105.05233; kept by [iCT] section 3.1. The released ADM code feeds 1000 times c_noise
    (``scale=1000``); whether iCT did is not known.

    Args:
        c_noise: conditioning numbers, shape ``[batch]``.
        num_channels: C, number of features, even.
        scale: s, multiplies c_noise.

    Returns:
        Features, shape ``[batch, num_channels]``.

    Raises:
        ValueError: if ``num_channels`` is odd or less than 2, or ``scale`` is not positive and finite.
    """
    require(num_channels >= 2 and num_channels % 2 == 0, "num_channels", num_channels, "an even number")
    require(0 < scale < math.inf, "scale", scale, "a positive, finite number")
    half = num_channels // 2
    ramp = torch.arange(half, dtype=torch.float32, device=c_noise.device) / half
    angles = scale * c_noise[:, None] * torch.exp(-math.log(10_000) * ramp)  # [batch, num_channels / 2]
    return torch.cat([angles.cos(), angles.sin()], dim=1)
