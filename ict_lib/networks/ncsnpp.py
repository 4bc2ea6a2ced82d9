"""NCSN++: the network of CIFAR-10, as score-based models brought it and consistency models took it over."""

import math
from functools import partial

from torch import nn

from ict_lib.networks.blocks import Attention, ResidualBlock, Unrounded, group_norm, zeroed
from ict_lib.networks.fir import FIRConvDownsample, FIRDownsample, FIRUpsample
from ict_lib.networks.unet import UNet, plan_levels
from ict_lib.techniques.embedding import FourierFeatures

GAIN = math.sqrt(0.5)  # of every sum of two branches
NORM = partial(group_norm, eps=1e-6)


class NCSNpp(UNet):
    """A U-Net that sees its input again at every resolution (the pyramid), with smooth resampling.

    The defaults are those of CT's released code: 56,395,523 parameters for 32x32 images, and 97,610,499 with 8 blocks
    (iCT-deep). On the way down, attention of a single head follows every residual block of its resolution; on the way
    up, the last one. It always stands in the middle. Every sum of two branches is divided by the root of 2. The last
    layer of every block, of attention and of the network starts at zero.

    Source: [score SDE] arXiv:2011.13456 appendix H, with Fourier embedding, BigGAN blocks, FIR resampling and residual
    input pyramid; [CT] arXiv:2303.01469; [iCT] arXiv:2310.14189 (``fourier_scale`` 0.02, dropout). Labels: own.

    Sizes and ``dropout`` are those of :func:`~ict_lib.networks.unet.plan_levels`.

    Args:
        fourier_scale: of the noise embedding.
        num_classes: of the labels; 0 for none.

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
        levels = plan_levels(shape, channels, multipliers, blocks, dropout, attention_resolutions)
        emb, fourier = 4 * channels, FourierFeatures(2 * channels, fourier_scale)
        block = partial(ResidualBlock, emb=emb, gain=GAIN, norm=NORM)
        super().__init__(
            shape,
            num_classes,
            embedding=nn.Sequential(fourier, Unrounded(2 * channels, emb), nn.SiLU(), Unrounded(emb, emb)),
            first=channels,
            levels=[level._replace(up=[*blocks * [0], level.up[-1]]) for level in levels],
            middle=[levels[-1].width, 0],
            block=block,
            shrink=partial(block, resample=FIRDownsample(), project=True),
            grow=partial(block, resample=FIRUpsample(), project=True),
            norm=NORM,
            pyramid=FIRConvDownsample,
            gain=GAIN,
        )
        self._initialise()

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
