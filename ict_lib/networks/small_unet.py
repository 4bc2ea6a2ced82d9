"""A small U-Net: the pattern of the full-scale networks, in a size that a laptop runs."""

from functools import partial

from torch import Tensor, nn

from ict_lib.networks.blocks import ResidualBlock, Unrounded, convolution, group_norm
from ict_lib.networks.unet import UNet, plan_levels
from ict_lib.techniques.embedding import FourierFeatures

NORM = partial(group_norm, most=8)


class SmallUNet(UNet):
    """A U-Net with self-attention at the lowest resolution, which halves and doubles by one convolution each.

    Source: own, after the U-Nets of [EDM] arXiv:2206.00364 and [ADM] arXiv:2105.05233.

    Sizes and ``dropout`` are those of :func:`~ict_lib.networks.unet.plan_levels`.

    Args:
        fourier_scale: of the noise embedding.
        num_classes: of the labels; 0 for none.

    Raises:
        ValueError: if the sizes do not fit together, or ``channels`` is no multiple of 8.
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
        levels = plan_levels(shape, channels, multipliers, blocks, dropout, divisor=8)
        super().__init__(
            shape,
            num_classes,
            embedding=nn.Sequential(FourierFeatures(channels, fourier_scale), Unrounded(channels, 4 * channels)),
            first=channels,
            levels=levels,
            middle=[levels[-1].width],
            block=partial(ResidualBlock, emb=4 * channels, norm=NORM),
            shrink=lambda width, _, dropout: Untold(convolution(width, width, stride=2)),
            grow=lambda width, _, dropout: Untold(nn.Upsample(scale_factor=2), convolution(width, width)),
            norm=NORM,
        )


class Untold(nn.Sequential):
    """Layers that stand among the blocks of a U-Net and are told nothing of the noise level."""

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` by the layers alone."""
        return super().forward(h)
