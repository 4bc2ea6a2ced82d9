"""The one forward pass of the U-Nets; `ncsnpp`, `adm` and `small_unet` list what stands in it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.networks.blocks import zeroed


class Level(NamedTuple):
    """One resolution: channels, rate of dropout, and the blocks, each told by its attention.

    Attributes:
        width: channels.
        dropout: rate.
        down: for each block on the way down, channels of a head of the attention that follows; 0 for no attention.
        up: the same on the way up, with one block more.
    """

    width: int
    dropout: float
    down: list[int]
    up: list[int]


class UNet(nn.Module):
    r"""Residual blocks at falling and rising resolution, each told the noise level and the label by e.

    .. math:: e = \mathrm{SiLU}(\mathrm{embedding}(c_{\mathrm{noise}}) + E_{\mathrm{label}})

    A raw network F(x, c_noise, label): no scalings inside (see :class:`ict_lib.consistency.ConsistencyModel`). The way
    up sees every feature map of the way down again, from the last to the first. The last layer starts at zero.

    Source: [DDPM] arXiv:2006.11239; the pyramid [score SDE] arXiv:2011.13456 appendix H; labels [ADM] arXiv:2105.05233.

    Args:
        shape: of one image, ``(channel, height, width)``.
        num_classes: of the labels; 0 for none.
        embedding: maps c_noise ``[batch]`` to ``[batch, emb]``.
        emb: channels of e.
        first: channels of the first layer.
        levels: from the highest resolution to the lowest.
        middle: channels of a head of attention of each block between the ways.
        block: a :class:`~ict_lib.networks.blocks.ResidualBlock`, given inputs, outputs, dropout, head_channels.
        shrink: what halves the resolution, given channels and dropout; a module ``(h, e) -> h``.
        grow: what doubles it.
        norm: the last normalisation, given channels.
        pyramid: what halves the input, given channels in and out, to be added to the feature map; None for no pyramid.
        gain: of that sum.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        embedding: nn.Module,
        emb: int,
        first: int,
        levels: list[Level],
        middle: list[int],
        block: Callable[..., nn.Module],
        shrink: Callable[[int, float], nn.Module],
        grow: Callable[[int, float], nn.Module],
        norm: Callable[[int], nn.Module],
        pyramid: Callable[[int, int], nn.Module] | None = None,
        gain: float = 1.0,
    ):
        super().__init__()
        self.shape, self.gain, low = tuple(shape), gain, levels[-1]
        self.embedding = embedding
        self.classes = nn.Embedding(num_classes, emb) if num_classes else None
        self.first = nn.Conv2d(shape[0], first, 3, padding=1)
        skips = self._build_down(levels, block, shrink, pyramid)
        self.middle = nn.ModuleList(block(low.width, low.width, dropout=low.dropout, head_channels=n) for n in middle)
        self._build_up(levels, block, grow, skips)
        last = zeroed(nn.Conv2d(levels[0].width, shape[0], 3, padding=1))
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
        if self.classes is not None and label is not None:
            emb = emb + self.classes(label)
        return F.silu(emb)

    def _build_down(
        self, levels: list[Level], block: Callable, shrink: Callable, pyramid: Callable | None
    ) -> list[int]:
        """Build the way down; return the channels of every feature map that the way up will see again."""
        self.down, self.shrink, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inputs, width = self.first.in_channels, self.first.out_channels
        skips = [width]
        for level in levels:
            if self.down:
                self.shrink.append(shrink(width, level.dropout))
                if pyramid:
                    self.pyramid.append(pyramid(inputs, width))
                    inputs = width
                skips.append(width)
            self.down.append(nn.ModuleList())
            for head_channels in level.down:
                self.down[-1].append(block(width, level.width, dropout=level.dropout, head_channels=head_channels))
                width = level.width
                skips.append(width)
        return skips

    def _build_up(self, levels: list[Level], block: Callable, grow: Callable, skips: list[int]) -> None:
        """Build the way up, which takes the feature maps of the way down from the last to the first."""
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        width = levels[-1].width
        for level in reversed(levels):
            if self.up:
                self.grow.append(grow(width, level.dropout))
            self.up.append(nn.ModuleList())
            here = partial(block, outputs=level.width, dropout=level.dropout)
            for head_channels in level.up:
                self.up[-1].append(here(width + skips.pop(), head_channels=head_channels))
                width = level.width
