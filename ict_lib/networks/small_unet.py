"""A small U-Net: the pattern of the full-scale networks, in a size that a laptop runs."""

from functools import partial

from torch import Tensor, nn

from ict_lib.networks.blocks import ResidualBlock, group_norm, level_heights
from ict_lib.networks.unet import Level, UNet
from ict_lib.techniques.embedding import FourierFeatures

NORM = partial(group_norm, most=8)


class SmallUNet(UNet):
    """A U-Net with self-attention at the lowest resolution, which halves and doubles by one convolution each.

    Source: own, after the U-Nets of [EDM] arXiv:2206.00364 and [ADM] arXiv:2105.05233.

    Args:
        shape: of one image, ``(channel, height, width)``; both sides divisible by ``2 ** (len(multipliers) - 1)``.
        fourier_scale: of the noise embedding.
        dropout: rate, in every residual block.
        num_classes: of the labels; 0 for none.
        channels: at the highest resolution, a multiple of 8.
        multipliers: of the channels, one a resolution.
        blocks: residual blocks per resolution; one more on the way up.

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
        level_heights(shape, channels, multipliers, blocks)
        if channels % 8:
            raise ValueError(f"channels is {channels}: a multiple of 8 is needed")
        widths = [channels * multiplier for multiplier in multipliers]
        heads = [*(len(widths) - 1) * [0], widths[-1]]
        super().__init__(
            shape,
            num_classes,
            embedding=nn.Sequential(FourierFeatures(channels, fourier_scale), nn.Linear(channels, 4 * channels)),
            emb=4 * channels,
            first=channels,
            levels=[
                Level(width, dropout, down=blocks * [head], up=(blocks + 1) * [head])
                for width, head in zip(widths, heads, strict=True)
            ],
            middle=[widths[-1]],
            block=partial(ResidualBlock, emb=4 * channels, norm=NORM),
            shrink=lambda width, _: Untold(nn.Conv2d(width, width, 3, stride=2, padding=1)),
            grow=lambda width, _: Untold(nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1)),
            norm=NORM,
        )


class Untold(nn.Sequential):
    """Layers that stand among the blocks of a U-Net and are told nothing of the noise level."""

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` by the layers alone."""
        return super().forward(h)
