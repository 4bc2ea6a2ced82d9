"""ADM: the network of ImageNet 64, as guided diffusion brought it and consistency models took it over."""

from functools import partial

from torch import Tensor, nn

from ict_lib.networks.blocks import ResidualBlock, Unrounded, group_norm
from ict_lib.networks.unet import UNet, plan_levels
from ict_lib.techniques.embedding import positional


class ADM(UNet):
    """A U-Net with attention of many heads at three resolutions, which halves and doubles inside of residual blocks.

    The defaults are iCT's: with 1000 classes 282,168,003 parameters for 64x64 images, and 472,767,555 with 6 blocks
    (iCT-deep); with AdaGN, as in CT, 295,899,267. Attention follows every residual block of its resolution and stands
    in the middle. The last layer of every block, of attention and of the network starts at zero. The embedding takes no
    scale from the recipe: ``embedding_scale`` is its switch.

    Source: [ADM] arXiv:2105.05233; [CT] arXiv:2303.01469; [iCT] arXiv:2310.14189 (no AdaGN; dropout at 16x16 and
    below). Whether iCT multiplied c_noise is not known.

    Sizes, ``dropout`` and ``head_channels`` are those of :func:`~ict_lib.networks.unet.plan_levels`.

    Args:
        num_classes: of the labels; 0 for none.
        adaptive_norm: the embedding scales and shifts after the normalisation (AdaGN) instead of being added.
        embedding_scale: multiplies c_noise in the positional embedding; 1000 in CT's released code and in diffusers.
        groups: of the normalisation, at most.
        normalise_qk: in the attention; see :class:`~ict_lib.networks.blocks.Attention`.

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
        normalise_qk: bool = False,
    ):
        sizes = shape, channels, multipliers, blocks, dropout
        levels = plan_levels(*sizes, attention_resolutions, head_channels, dropout_resolution)
        norm = partial(group_norm, most=groups)
        switches = {"adaptive": adaptive_norm, "norm": norm, "normalise_qk": normalise_qk}
        block = partial(ResidualBlock, emb=4 * channels, **switches)
        super().__init__(
            shape,
            num_classes,
            embedding=PositionalEmbedding(channels, 4 * channels, embedding_scale),
            first=levels[0].width,
            levels=levels,
            middle=[head_channels, 0],
            block=block,
            shrink=partial(block, resample=nn.AvgPool2d(2)),
            grow=partial(block, resample=nn.Upsample(scale_factor=2, mode="nearest")),
            norm=norm,
        )


class PositionalEmbedding(nn.Sequential):
    """As many positional features of ``scale`` times c_noise as ``channels``, then two linear layers.

    Source: [ADM] arXiv:2105.05233.
    """

    def __init__(self, channels: int, emb: int, scale: float):
        super().__init__(Unrounded(channels, emb), nn.SiLU(), Unrounded(emb, emb))
        self.channels, self.scale = channels, scale

    def forward(self, c_noise: Tensor) -> Tensor:
        """Map ``[batch]`` to ``[batch, emb]``."""
        return super().forward(positional(c_noise, self.channels, self.scale))
