"""A small U-Net: the pattern of the full-scale networks, in a size that a laptop runs."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        self._check(shape, channels, multipliers, blocks)
        emb = 4 * channels
        self.embedding = nn.Sequential(FourierFeatures(channels, fourier_scale), nn.Linear(channels, emb), nn.SiLU())
        self.classes = nn.Embedding(num_classes, emb) if num_classes else None
        self.first = nn.Conv2d(shape[0], channels, 3, padding=1)
        widths = [channels * m for m in multipliers]
        lows = [False] * (len(widths) - 1) + [True]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, width = [channels], channels
        for target, low in zip(widths, lows, strict=True):
            for _ in range(blocks):
                self.down.append(ResidualBlock(width, target, emb, dropout, attention=low))
                skips.append(width := target)
            if not low:
                self.down.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips.append(width)
        self.middle = ResidualBlock(width, width, emb, dropout, attention=True)
        for target, low in zip(reversed(widths), reversed(lows), strict=True):
            if not low:
                self.up.append(Upsample(width))
            for _ in range(blocks + 1):
                self.up.append(ResidualBlock(width + skips.pop(), target, emb, dropout, attention=low))
                width = target
        self.last = nn.Sequential(group_norm(width), nn.SiLU(), nn.Conv2d(width, shape[0], 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)
        nn.init.zeros_(self.last[-1].bias)

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

    @staticmethod
    def _check(shape: tuple[int, ...], channels: int, multipliers: tuple[int, ...], blocks: int) -> None:
        """Refuse sizes that do not fit together."""
        halvings = 2 ** (len(multipliers) - 1)
        if len(shape) != 3 or shape[1] % halvings or shape[2] % halvings:
            raise ValueError(
                f"shape is {shape}: (channel, height, width), both sides divisible by {halvings}, is needed"
            )
        if channels < 8 or channels % 8:
            raise ValueError(f"channels is {channels}: a multiple of 8 is needed")
        if blocks < 1:
            raise ValueError(f"blocks is {blocks}: at least one is needed")


def group_norm(channels: int) -> nn.GroupNorm:
    """Make eight groups, or fewer of four channels: a group of one channel would subtract the noise embedding again.

    Source: own.

    Args:
        channels: a multiple of 8.

    Returns:
        The layer.
    """
    return nn.GroupNorm(min(8, channels // 4), channels)


class ResidualBlock(nn.Module):
    """Norm, SiLU, convolution, plus embedding, norm, SiLU, dropout, convolution, added to the input; then attention.

    Source: own, after [ADM] arXiv:2105.05233.

    Args:
        inputs: channels in.
        outputs: channels out.
        emb: channels of the embedding.
        dropout: rate.
        attention: let every position look at every other.
    """

    def __init__(self, inputs: int, outputs: int, emb: int, dropout: float, attention: bool):
        super().__init__()
        self.enter = nn.Sequential(group_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.condition = nn.Linear(emb, outputs)
        self.leave = nn.Sequential(
            group_norm(outputs),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention = Attention(outputs) if attention else nn.Identity()
        nn.init.zeros_(self.leave[-1].weight)
        nn.init.zeros_(self.leave[-1].bias)

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Map ``[batch, inputs, height, width]`` and ``[batch, emb]`` to ``[batch, outputs, height, width]``."""
        inner = self.enter(h) + self.condition(emb)[:, :, None, None]
        return self.attention(self.shortcut(h) + self.leave(inner))


class Attention(nn.Module):
    """Self-attention over the positions, one head, added to the input.

    Source: own, after [DDPM] arXiv:2006.11239.

    Args:
        channels: in and out.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.leave = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to the same."""
        q, k, v = self.qkv(self.norm(h)).flatten(2).mT.chunk(3, dim=2)  # each [batch, position, channel]
        mixed = F.scaled_dot_product_attention(q, k, v).mT.reshape(h.shape)
        return h + self.leave(mixed)


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
