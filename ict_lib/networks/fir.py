r"""Halving and doubling the resolution with a short smoothing filter, so that no aliasing arises.

The filter is [1, 3, 3, 1] along each side. Outside of the image there are zeros, so a constant stays itself but near
the border. It is written as sums of shifted images, which a compiler fuses with what stands before and after.

Source: [score SDE] arXiv:2011.13456; the filter is that of [StyleGAN2] arXiv:1912.04958.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.networks.blocks import full


def shifted(x: Tensor, side: int, low: int, high: int) -> Tensor:
    """Put zeros at the two ends of a side, -1 or -2; a negative number takes positions away."""
    return F.pad(x, (low, high) if side == -1 else (0, 0, low, high))


class FIRSmooth(nn.Module):
    r"""Smooth with two zeros at each end, so that each side has one position more.

    .. math:: y_i = \sum_{j=0}^{3} k_j x_{i + j - 2}, \qquad k = [1, 3, 3, 1] / 8, \quad \text{along each side}
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to one more in height and width; sums have 32 bits."""
        h = full(x)
        for side in (-2, -1):
            h = self.along(h, side)
        return h.to(x.dtype)

    def along(self, x: Tensor, side: int) -> Tensor:
        """Filter along one side."""
        a, b, c, d = (shifted(x, side, 2 - j, j - 1) for j in range(4))
        return (3 * (b + c) + a + d) / 8


class FIRDownsample(FIRSmooth):
    r"""Smooth and take every second position.

    .. math:: y_i = \sum_{j=0}^{3} k_j x_{2i + j - 1}, \quad \text{along each side}
    """

    def along(self, x: Tensor, side: int) -> Tensor:
        """Filter along one side, which becomes half as long."""
        even, odd = x.unflatten(side, (-1, 2)).unbind(side)
        return (3 * (even + odd) + shifted(odd, side, 1, -1) + shifted(even, side, -1, 1)) / 8


class FIRUpsample(FIRSmooth):
    r"""Put zeros between the positions and smooth: the transpose of :class:`FIRDownsample`, four times.

    .. math:: y_{2i} = (3 x_i + x_{i-1}) / 4, \quad y_{2i+1} = (3 x_i + x_{i+1}) / 4, \quad \text{along each side}
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to twice the height and width."""
        return super().forward(F.interpolate(x, scale_factor=2.0))

    def along(self, x: Tensor, side: int) -> Tensor:
        """Filter along one side, in which each position stands twice."""
        return (2 * x + shifted(x, side, 1, -1) + shifted(x, side, -1, 1)) / 4


class FIRConvDownsample(nn.Sequential):
    """Smooth at full resolution, then a 3x3 convolution at every second position.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(OrderedDict(smooth=FIRSmooth(), convolve=nn.Conv2d(inputs, outputs, 3, stride=2)))
