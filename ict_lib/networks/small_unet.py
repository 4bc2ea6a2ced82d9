"""A small U-Net: the pattern of the full-scale networks, in a size that a laptop runs."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.networks.blocks import ResidualBlock, group_norm, level_heights, zeroed
from ict_lib.techniques.embedding import FourierFeatures


class SmallUNet(nn.Module):
    """Residual blocks at falling and rising resolution with skip connections, each told the noise level and the class.

    A raw network F(x, c_noise, label): no scalings inside (see :class:`ict_lib.consistency.ConsistencyModel`).
    Self-attention stands at the lowest resolution. The last layer starts at zero.

    Source: own, after the U-Nets of [EDM] arXiv:2206.00364 and [ADM] arXiv:2105.05233.

    Args:
        shape: of one image, ``(channel, height, width)``; both sides divisible by ``2 ** (len(multipliers) - 1)``.
        fourier_scale: of the noise embedding.
        dropout: rate, in every residual block.
        num_classes: of the labels; 0 for none.
        channels: at the highest resolution, a multiple of 8.
        multipliers: of the channels, one a resolution.
        blocks: residual blocks per resolution.

    Raises:
        ValueError: if the image cannot be halved often enough, ``blocks < 1``, or ``channels`` is no multiple of 8.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        fourier_scale: float,
        dropout: float = 0.0,
        num_classes: int = 0,
        channels: int = 32,
        multipliers: tuple[int, ...] = (1, 2),
        blocks: int = 2,
    ):
        super().__init__()
        level_heights(shape, channels, multipliers, blocks)
        if channels % 8:
            raise ValueError(f"channels is {channels}: a multiple of 8 is needed")
        emb = 4 * channels
        block = partial(ResidualBlock, emb=emb, dropout=dropout, groups=8)
        self.embedding = nn.Sequential(FourierFeatures(channels, fourier_scale), nn.Linear(channels, emb), nn.SiLU())
        self.classes = nn.Embedding(num_classes, emb) if num_classes else None
        self.first = nn.Conv2d(shape[0], channels, 3, padding=1)
        widths = [channels * m for m in multipliers]
        lows = [False] * (len(widths) - 1) + [True]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [channels], channels
        for target, low in zip(widths, lows, strict=True):
            for _ in range(blocks):
                self.down.append(block(width, target, head_channels=target if low else 0))
                skips.append(width := target)
            if not low:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
        self.middle = block(width, width, head_channels=width)
        for target, low in zip(reversed(widths), reversed(lows), strict=True):
            if not low:
                self.up.append(Upsample(width))
            for _ in range(blocks + 1):
                self.up.append(block(width + skips.pop(), target, head_channels=target if low else 0))
                width = target
        last = nn.Conv2d(width, shape[0], 3, padding=1)
        self.last = nn.Sequential(group_norm(width, 8), nn.SiLU(), zeroed(last))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Map ``[batch, channel, height, width]``, ``[batch]`` and labels ``[batch]`` to the shape of ``x``."""
        emb = self.embedding(c_noise)  # [batch, 4 * channels]
        if self.classes is not None and label is not None:
            emb = emb + self.classes(label)
        h = self.first(x)
        skips = [h]
        for layer in self.down:
            h = layer(h, emb) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)
        h = self.middle(h, emb)
        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), emb) if isinstance(layer, ResidualBlock) else layer(h)
        return self.last(h)


class Upsample(nn.Module):
    """Double the resolution, then smooth by a convolution.

    Source: own, after [DDPM] arXiv:2006.11239.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to ``[batch, channel, 2 height, 2 width]``."""
        return self.smooth(F.interpolate(h, scale_factor=2.0, mode="nearest"))
