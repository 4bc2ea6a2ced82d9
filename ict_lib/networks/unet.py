"""The one forward pass of the U-Nets; `ncsnpp`, `adm` and `small_unet` list what stands in it."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.checks import require
from ict_lib.networks.blocks import Norm, UnroundedConv, zeroed
from ict_lib.networks.options import check_sizes


class Level(NamedTuple):
    """One resolution: channels, rate of dropout, and the blocks, each told by its attention."""

    width: int  # channels
    dropout: float  # rate
    # for each block on the way down, channels of a head of the attention that follows; 0 for no attention
    down: list[int]
    up: list[int]  # the same on the way up, with one block more


def plan_levels(
    shape: tuple[int, int, int],
    channels: int,
    multipliers: Sequence[int],
    blocks: int,
    dropout: float,
    attention_resolutions: Sequence[int] | None = None,
    head_channels: int | None = None,
    dropout_resolution: float = math.inf,
    divisor: int = 4,
) -> list[Level]:
    """Return the levels of a U-Net, from the highest resolution to the lowest, and refuse what does not fit.

    Args:
        shape: of one image, ``(channel, height, width)``.
        channels: that the multipliers multiply.
        multipliers: of the channels, one a level.
        blocks: residual blocks a level on the way down; one more on the way up.
        dropout: rate.
        attention_resolutions: heights of the feature maps that have attention; None for the lowest alone.
        head_channels: of one head of attention; None for a single head.
        dropout_resolution: height of the largest feature map that has dropout.
        divisor: of the channels.

    Raises:
        ValueError: if the image cannot be halved often enough, ``channels`` is no multiple of ``divisor``,
            ``blocks < 1``, attention or dropout is wanted at a height that no feature map has, or ``head_channels``
            does not divide the channels with attention.
    """
    sizes = shape, channels, multipliers, attention_resolutions
    require(blocks >= 1, "blocks", blocks, "at least one")
    heights = check_sizes(*sizes, head_channels, dropout_resolution, divisor)
    attends = heights[-1:] if attention_resolutions is None else attention_resolutions
    levels = []
    for height, multiplier in zip(heights, multipliers, strict=True):
        width = channels * multiplier
        head = (head_channels or width) if height in attends else 0
        rate = dropout if height <= dropout_resolution else 0.0
        levels.append(Level(width, rate, blocks * [head], (blocks + 1) * [head]))
    return levels


class UNet(nn.Module):
    r"""Residual blocks at falling and rising resolution, each told the noise level and the label by e.

    .. math:: e = \mathrm{SiLU}(\mathrm{embedding}(c_{\mathrm{noise}}) + E_{\mathrm{label}})

    A raw network F(x, c_noise, label): no scalings inside (see :class:`ict_lib.consistency.ConsistencyModel`). The way
    up sees every feature map of the way down again, from the last to the first. The last layer starts at zero.

    Source: [DDPM] arXiv:2006.11239; the pyramid [score SDE] arXiv:2011.13456 appendix H; labels [ADM] arXiv:2105.05233.

    Args:
        shape: of one image, ``(channel, height, width)``.
        num_classes: of the labels; 0 for none.
        embedding: maps c_noise ``[batch]`` to ``[batch, emb]``, by a linear layer at the end.
        first: channels of the first layer.
        levels: of :func:`plan_levels`.
        middle: channels of a head of attention of each block between the ways.
        block: makes a :class:`~ict_lib.networks.blocks.ResidualBlock`, given inputs, outputs, dropout, head_channels.
        shrink: makes what halves the resolution, given inputs, outputs and dropout; a module ``(h, e) -> h``.
        grow: makes what doubles it.
        norm: makes the last normalisation, given channels.
        pyramid: makes what halves the input, given channels in and out, to be added to the feature map; None for no
            pyramid.
        gain: of that sum.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        embedding: nn.Sequential,
        first: int,
        levels: list[Level],
        middle: list[int],
        block: Callable[..., nn.Module],
        shrink: Callable[..., nn.Module],
        grow: Callable[..., nn.Module],
        norm: Norm,
        pyramid: Callable[[int, int], nn.Module] | None = None,
        gain: float = 1.0,
    ):
        super().__init__()
        self.shape, self.gain, low = tuple(shape), gain, levels[-1]
        self.embedding = embedding
        self.classes = nn.Embedding(num_classes, embedding[-1].out_features) if num_classes else None
        self.first = UnroundedConv(shape[0], first, 3, padding=1)
        skips = self._build_down(levels, block, shrink, pyramid)
        between = partial(block, low.width, low.width, dropout=low.dropout)
        self.middle = nn.ModuleList(between(head_channels=head) for head in middle)
        self._build_up(levels, block, grow, skips)
        last = zeroed(UnroundedConv(levels[0].width, shape[0], 3, padding=1))
        self.last = nn.Sequential(norm(levels[0].width), nn.SiLU(), last)

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Map ``[batch, channel, height, width]``, ``[batch]`` and labels ``[batch]`` to the shape of ``x``."""
        emb = self._embed(c_noise, label)
        h, pyramid = self.first(x), x
        skips = [h]
        for level, blocks in enumerate(self.down):
            if level:
                h = self.shrink[level - 1](h, emb)
                if self.pyramid:
                    pyramid = h = self.gain * (self.pyramid[level - 1](pyramid) + h)
                skips.append(h)
            for block in blocks:
                h = block(h, emb)
                skips.append(h)
        for block in self.middle:
            h = block(h, emb)
        for level, blocks in enumerate(self.up):
            if level:
                h = self.grow[level - 1](h, emb)
            for block in blocks:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
        return self.last(h)

    def _embed(self, c_noise: Tensor, label: Tensor | None) -> Tensor:
        """Map noise level ``[batch]`` and label ``[batch]`` to what every block is told, ``[batch, emb]``."""
        emb = self.embedding(c_noise)
        return F.silu(emb if self.classes is None or label is None else emb + self.classes(label))

    def _build_down(
        self, levels: list[Level], block: Callable, shrink: Callable, pyramid: Callable | None
    ) -> list[int]:
        """Build the way down; return the channels of every feature map that the way up will see again."""
        self.down, self.shrink, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        seen, skips = self.first.in_channels, [self.first.out_channels]
        for level in levels:
            if self.down:
                self.shrink.append(shrink(skips[-1], skips[-1], dropout=level.dropout))
                if pyramid:
                    self.pyramid.append(pyramid(seen, skips[-1]))
                seen = skips[-1]
                skips.append(seen)
            self.down.append(nn.ModuleList())
            for head in level.down:
                self.down[-1].append(block(skips[-1], level.width, dropout=level.dropout, head_channels=head))
                skips.append(level.width)
        return skips

    def _build_up(self, levels: list[Level], block: Callable, grow: Callable, skips: list[int]) -> None:
        """Build the way up, which takes the feature maps of the way down from the last to the first."""
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        width = levels[-1].width
        for level in reversed(levels):
            if self.up:
                self.grow.append(grow(width, width, dropout=level.dropout))
            self.up.append(nn.ModuleList())
            for head in level.up:
                inputs = width + skips.pop()
                self.up[-1].append(block(inputs, level.width, dropout=level.dropout, head_channels=head))
                width = level.width
