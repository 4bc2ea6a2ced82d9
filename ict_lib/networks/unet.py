"""The one forward pass of the U-Nets; `ncsnpp`, `adm` and `small_unet` list what stands in it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.networks.blocks import Norm, UnroundedConv, zeroed
from ict_lib.networks.options import Level, plan_levels

__all__ = ["Level", "UNet", "plan_levels"]


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
