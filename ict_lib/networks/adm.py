"""ADM: the network of ImageNet 64, as guided diffusion brought it and consistency models took it over."""

from functools import partial

import torch
from torch import Tensor, nn

from ict_lib.networks.blocks import ResidualBlock, group_norm, level_heights, zeroed
from ict_lib.techniques.embedding import positional


class ADM(nn.Module):
    """A U-Net with attention of many heads at three resolutions, which halves and doubles inside of residual blocks.

    A raw network F(x, c_noise, label): no scalings inside (see :class:`ict_lib.consistency.ConsistencyModel`). The
    defaults are iCT's: with 1000 classes 282,168,003 parameters for 64x64 images, and 472,767,555 with 6 blocks
    (iCT-deep); with AdaGN, as in CT, 295,899,267. Attention follows every residual block of its resolution and stands
    in the middle. The last layer of every block, of attention and of the network starts at zero. The embedding takes no
    scale from the recipe: ``embedding_scale`` is its switch.

    Source: [ADM] arXiv:2105.05233; [CT] arXiv:2303.01469; [iCT] arXiv:2310.14189 (no AdaGN; dropout at 16x16 and
    below). Whether iCT multiplied c_noise is not known.

    Args:
        shape: of one image, ``(channel, height, width)``; both sides divisible by ``2 ** (len(multipliers) - 1)``.
        dropout: rate, in the residual blocks that give feature maps of height ``dropout_resolution`` or less.
        num_classes: of the labels; 0 for none.
        channels: that the multipliers multiply.
        multipliers: of the channels, one a resolution.
        blocks: residual blocks per resolution; one more on the way up.
        attention_resolutions: heights of the feature maps that have attention.
        head_channels: channels of one head of attention.
        dropout_resolution: height of the largest feature map that has dropout.
        adaptive_norm: the embedding scales and shifts after the normalisation (AdaGN) instead of being added.
        embedding_scale: multiplies c_noise in the positional embedding; 1000 in CT's released code and in diffusers.
        groups: of the normalisation, at most.

    Raises:
        ValueError: if the sizes do not fit together.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dropout: float = 0.0,
        num_classes: int = 0,
        channels: int = 192,
        multipliers: tuple[int, ...] = (1, 2, 3, 4),
        blocks: int = 3,
        attention_resolutions: tuple[int, ...] = (32, 16, 8),
        head_channels: int = 64,
        dropout_resolution: int = 16,
        adaptive_norm: bool = False,
        embedding_scale: float = 1.0,
        groups: int = 32,
    ):
        super().__init__()
        heights = level_heights(shape, channels, multipliers, blocks, attention_resolutions)
        rates = [dropout if height <= dropout_resolution else 0.0 for height in heights]
        heads = [head_channels if height in attention_resolutions else 0 for height in heights]
        if dropout_resolution < heights[-1]:
            raise ValueError(
                f"dropout_resolution is {dropout_resolution}: {heights[-1]}, the lowest, or more is needed"
            )
        widths, emb = [channels * m for m in multipliers], 4 * channels
        levels = list(zip(widths, heads, rates, strict=True))
        block = partial(ResidualBlock, emb=emb, adaptive=adaptive_norm, groups=groups)
        self.shape, self.channels, self.embedding_scale = tuple(shape), channels, embedding_scale
        self.embedding = nn.Sequential(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.classes = nn.Embedding(num_classes, emb) if num_classes else None
        self.first = nn.Conv2d(shape[0], widths[0], 3, padding=1)
        skips = self._build_down(block, levels, blocks)
        low = partial(block, widths[-1], widths[-1], dropout=dropout)
        self.middle = nn.ModuleList([low(head_channels=head_channels), low()])
        self._build_up(block, levels, blocks, skips)
        self.last = nn.Sequential(
            group_norm(widths[0], groups), nn.SiLU(), zeroed(nn.Conv2d(widths[0], shape[0], 3, padding=1))
        )

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Map ``[batch, channel, height, width]``, ``[batch]`` and labels ``[batch]`` to the shape of ``x``."""
        emb = self._embed(c_noise, label)
        h = self.first(x)
        skips = [h]
        for level, blocks in enumerate(self.down):
            if level:
                h = self.shrink[level - 1](h, emb)
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
        """Map noise level ``[batch]`` and label ``[batch]`` to what every block is told, ``[batch, 4 * channels]``."""
        emb = self.embedding(positional(c_noise, self.channels, self.embedding_scale))
        if self.classes is not None and label is not None:
            emb = emb + self.classes(label)
        return nn.functional.silu(emb)

    def _build_down(self, block: partial, levels: list[tuple[int, int, float]], blocks: int) -> list[int]:
        """Build the way down; return the channels of every feature map that the way up will see again."""
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        width = levels[0][0]
        skips = [width]
        for level, (target, head, rate) in enumerate(levels):
            if level:
                self.shrink.append(block(width, width, dropout=rate, resample=nn.AvgPool2d(2)))
                skips.append(width)
            here = partial(block, outputs=target, dropout=rate, head_channels=head)
            self.down.append(nn.ModuleList(here(target if i else width) for i in range(blocks)))
            width = target
            skips += blocks * [width]
        return skips

    def _build_up(self, block: partial, levels: list[tuple[int, int, float]], blocks: int, skips: list[int]) -> None:
        """Build the way up, which takes the feature maps of the way down from the last to the first."""
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        width = levels[-1][0]
        for target, head, rate in reversed(levels):
            if self.up:
                double = nn.Upsample(scale_factor=2, mode="nearest")
                self.grow.append(block(width, width, dropout=rate, resample=double))
            self.up.append(nn.ModuleList())
            for _ in range(blocks + 1):
                self.up[-1].append(block(width + skips.pop(), target, dropout=rate, head_channels=head))
                width = target
