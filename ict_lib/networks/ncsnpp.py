"""NCSN++: the network of CIFAR-10, as score-based models brought it and consistency models took it over."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from ict_lib.networks.blocks import Attention, ResidualBlock, group_norm, level_heights, zeroed
from ict_lib.networks.fir import FIRConvDownsample, FIRDownsample, FIRUpsample
from ict_lib.techniques.embedding import FourierFeatures

GAIN = math.sqrt(0.5)  # of every sum of two branches


class NCSNpp(nn.Module):
    """A U-Net that sees its input again at every resolution (the pyramid), with smooth resampling.

    A raw network F(x, c_noise, label): no scalings inside (see :class:`ict_lib.consistency.ConsistencyModel`). The
    defaults are the paper's: 56,395,523 parameters for 32x32 images, and 97,610,499 with 8 blocks (iCT-deep). On the
    way down, attention follows every residual block of its resolution; on the way up, the last one. It always stands in
    the middle. Every sum of two branches is divided by the root of 2. The last layer of every block, of attention and
    of the network starts at zero.

    Source: [score SDE] arXiv:2011.13456 appendix H, with Fourier embedding, BigGAN blocks, FIR resampling and residual
    input pyramid; [CT] arXiv:2303.01469; [iCT] arXiv:2310.14189 (``fourier_scale`` 0.02, dropout). Labels: own.

    Args:
        shape: of one image, ``(channel, height, width)``; both sides divisible by ``2 ** (len(multipliers) - 1)``.
        fourier_scale: of the noise embedding.
        dropout: rate, in every residual block.
        num_classes: of the labels; 0 for none.
        channels: that the multipliers multiply, and of the first layer.
        multipliers: of the channels, one a resolution.
        blocks: residual blocks per resolution; one more on the way up.
        attention_resolutions: heights of the feature maps that have attention.

    Raises:
        ValueError: if the sizes do not fit together.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        fourier_scale: float,
        dropout: float = 0.0,
        num_classes: int = 0,
        channels: int = 128,
        multipliers: tuple[int, ...] = (2, 2, 2),
        blocks: int = 4,
        attention_resolutions: tuple[int, ...] = (16,),
    ):
        super().__init__()
        heights = level_heights(shape, channels, multipliers, blocks, attention_resolutions)
        widths, emb = [channels * m for m in multipliers], 4 * channels
        heads = [width * (height in attention_resolutions) for width, height in zip(widths, heights, strict=True)]
        levels = list(zip(widths, heads, strict=True))
        block = partial(ResidualBlock, emb=emb, dropout=dropout, gain=GAIN)
        self.embedding = nn.Sequential(
            FourierFeatures(2 * channels, fourier_scale), nn.Linear(2 * channels, emb), nn.SiLU(), nn.Linear(emb, emb)
        )
        self.classes = nn.Embedding(num_classes, emb) if num_classes else None
        self.first = nn.Conv2d(shape[0], channels, 3, padding=1)
        skips = self._build_down(block, levels, blocks, channels, shape[0])
        low = partial(block, widths[-1], widths[-1])
        self.middle = nn.ModuleList([low(head_channels=widths[-1]), low()])
        self._build_up(block, levels, blocks, skips)
        self.last = nn.Sequential(
            group_norm(widths[0]), nn.SiLU(), zeroed(nn.Conv2d(widths[0], shape[0], 3, padding=1))
        )
        self._initialise()

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Map ``[batch, channel, height, width]``, ``[batch]`` and labels ``[batch]`` to the shape of ``x``."""
        emb = self._embed(c_noise, label)
        h, pyramid = self.first(x), x
        skips = [h]
        for level, blocks in enumerate(self.down):
            if level:
                h = self.shrink[level - 1](h, emb)
                pyramid = h = GAIN * (self.pyramid[level - 1](pyramid) + h)
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
        emb = self.embedding(c_noise)
        if self.classes is not None and label is not None:
            emb = emb + self.classes(label)
        return nn.functional.silu(emb)

    def _build_down(
        self, block: partial, levels: list[tuple[int, int]], blocks: int, width: int, inputs: int
    ) -> list[int]:
        """Build the way down; return the channels of every feature map that the way up will see again."""
        self.down, self.shrink, self.pyramid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        skips = [width]
        for level, (target, head) in enumerate(levels):
            if level:
                self.shrink.append(block(width, width, resample=FIRDownsample(), project=True))
                self.pyramid.append(FIRConvDownsample(inputs, width))
                inputs = width
                skips.append(width)
            here = partial(block, outputs=target, head_channels=head)
            self.down.append(nn.ModuleList(here(target if i else width) for i in range(blocks)))
            width = target
            skips += blocks * [width]
        return skips

    def _build_up(self, block: partial, levels: list[tuple[int, int]], blocks: int, skips: list[int]) -> None:
        """Build the way up, which takes the feature maps of the way down from the last to the first."""
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        width = levels[-1][0]
        for target, head in reversed(levels):
            if self.up:
                self.grow.append(block(width, width, resample=FIRUpsample(), project=True))
            self.up.append(nn.ModuleList())
            for i in range(blocks + 1):
                attention = head if i == blocks else 0
                self.up[-1].append(block(width + skips.pop(), target, head_channels=attention))
                width = target

    def _initialise(self) -> None:
        """Draw the weights as the released code does: Glorot's uniform, smaller for queries, keys and values."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                zeroed(module.leave[-1])
            if isinstance(module, Attention):
                zeroed(module.leave)
                for part in module.qkv.weight.detach().chunk(3):
                    nn.init.xavier_uniform_(part, gain=math.sqrt(0.1))
        zeroed(self.last[-1])
