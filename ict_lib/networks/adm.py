"""ADM: the network of ImageNet 64, as guided diffusion brought it and consistency models took it over."""

from functools import partial

from torch import Tensor, nn

from ict_lib.networks.blocks import ResidualBlock, group_norm, level_heights
from ict_lib.networks.unet import Level, UNet
from ict_lib.techniques.embedding import positional


class ADM(UNet):
    """A U-Net with attention of many heads at three resolutions, which halves and doubles inside of residual blocks.

    The defaults are iCT's: with 1000 classes 282,168,003 parameters for 64x64 images, and 472,767,555 with 6 blocks
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
        heights, levels = level_heights(shape, channels, multipliers, blocks, attention_resolutions), []
        if dropout_resolution < heights[-1]:
            raise ValueError(
                f"dropout_resolution is {dropout_resolution}: {heights[-1]}, the lowest, or more is needed"
            )
        for height, multiplier in zip(heights, multipliers, strict=True):
            head = head_channels if height in attention_resolutions else 0
            rate = dropout if height <= dropout_resolution else 0.0
            levels.append(Level(channels * multiplier, rate, down=blocks * [head], up=(blocks + 1) * [head]))
        norm = partial(group_norm, most=groups)
        block = partial(ResidualBlock, emb=4 * channels, adaptive=adaptive_norm, norm=norm)
        double = partial(nn.Upsample, scale_factor=2, mode="nearest")
        super().__init__(
            shape,
            num_classes,
            embedding=PositionalEmbedding(channels, 4 * channels, embedding_scale),
            emb=4 * channels,
            first=levels[0].width,
            levels=levels,
            middle=[head_channels, 0],
            block=block,
            shrink=lambda width, dropout: block(width, width, dropout=dropout, resample=nn.AvgPool2d(2)),
            grow=lambda width, dropout: block(width, width, dropout=dropout, resample=double()),
            norm=norm,
        )


class PositionalEmbedding(nn.Sequential):
    """Positional features of c_noise, then two linear layers.

    Source: [ADM] arXiv:2105.05233.

    Args:
        channels: of the features.
        emb: channels out.
        scale: multiplies c_noise.
    """

    def __init__(self, channels: int, emb: int, scale: float):
        super().__init__(nn.Linear(channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.channels, self.scale = channels, scale

    def forward(self, c_noise: Tensor) -> Tensor:
        """Map ``[batch]`` to ``[batch, emb]``."""
        return super().forward(positional(c_noise, self.channels, self.scale))
