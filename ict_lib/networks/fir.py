r"""Halving and doubling the resolution with a short smoothing filter, so that no aliasing arises.

The filter is [1, 3, 3, 1] along each side. Outside of the image there are zeros, so a constant stays itself but near
the border.

Source: [score SDE] arXiv:2011.13456; the filter is that of [StyleGAN2] arXiv:1912.04958.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FIRDownsample(nn.Module):
    r"""Smooth and take every second position.

    .. math:: y_i = \sum_{j=0}^{3} k_j x_{2i + j - 1}, \qquad k = [1, 3, 3, 1] / 8, \quad \text{along each side}

    Args:
        stride: of the positions taken; 1 takes all.
        padding: zeros on each side.
    """

    def __init__(self, stride: int = 2, padding: int = 1):
        super().__init__()
        self.stride, self.padding = stride, padding
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(taps, taps)[None, None], persistent=False)  # [1, 1, 4, 4], of sum 1

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to half the height and width."""
        kernel = self.kernel.expand(x.shape[1], 1, 4, 4)
        return F.conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=x.shape[1])


class FIRUpsample(FIRDownsample):
    r"""Put zeros between the positions and smooth: the transpose of :class:`FIRDownsample`, four times.

    .. math:: y_{2i} = (3 x_i + x_{i-1}) / 4, \quad y_{2i+1} = (3 x_i + x_{i+1}) / 4, \quad \text{along each side}
    """

    def __init__(self):
        super().__init__()
        self.kernel *= 4

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to twice the height and width."""
        kernel = self.kernel.expand(x.shape[1], 1, 4, 4)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


class FIRConvDownsample(nn.Sequential):
    """Smooth at full resolution, with one position more a side, then a 3x3 convolution at every second position.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int):
        smooth = FIRDownsample(stride=1, padding=2)
        super().__init__(OrderedDict(smooth=smooth, convolve=nn.Conv2d(inputs, outputs, 3, stride=2)))
