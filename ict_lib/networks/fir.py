r"""Halving and doubling the resolution with a short smoothing filter, so that no aliasing arises.

The filter is [1, 3, 3, 1] along each side. Outside of the image there are zeros, so a constant stays itself but near
the border.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TAPS = (1.0, 3.0, 3.0, 1.0)


class FIRDownsample(nn.Module):
    r"""Smooth and take every second position.

    .. math:: y_i = \sum_{j=0}^{3} k_j x_{2i + j - 1}, \qquad k = [1, 3, 3, 1] / 8, \quad \text{along each side}

    Source: [score SDE] arXiv:2011.13456; the filter is that of [StyleGAN2] arXiv:1912.04958.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", fir_kernel(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to half the height and width."""
        channels = x.shape[1]
        return F.conv2d(x, self.kernel.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)


class FIRUpsample(nn.Module):
    r"""Put zeros between the positions and smooth: the transpose of :class:`FIRDownsample`, four times.

    .. math:: y_{2i} = (3 x_i + x_{i-1}) / 4, \quad y_{2i+1} = (3 x_i + x_{i+1}) / 4, \quad \text{along each side}

    Source: [score SDE] arXiv:2011.13456; the filter is that of [StyleGAN2] arXiv:1912.04958.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", 4 * fir_kernel(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, channel, height, width]`` to twice the height and width."""
        channels = x.shape[1]
        return F.conv_transpose2d(x, self.kernel.expand(channels, 1, 4, 4), stride=2, padding=1, groups=channels)


class FIRConvDownsample(nn.Module):
    """Smooth at full resolution, then a 3x3 convolution at every second position.

    Source: [score SDE] arXiv:2011.13456; [StyleGAN2] arXiv:1912.04958.

    Args:
        inputs: channels in.
        outputs: channels out.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.register_buffer("kernel", fir_kernel(), persistent=False)
        self.convolve = nn.Conv2d(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[batch, inputs, height, width]`` to ``[batch, outputs, height / 2, width / 2]``."""
        channels = x.shape[1]
        smooth = F.conv2d(x, self.kernel.expand(channels, 1, 4, 4), padding=2, groups=channels)  # one more a side
        return self.convolve(smooth)


def fir_kernel() -> Tensor:
    """Return the filter, shape ``[1, 1, 4, 4]``, of sum 1.

    Source: [StyleGAN2] arXiv:1912.04958.
    """
    taps = torch.tensor(TAPS) / sum(TAPS)
    return torch.outer(taps, taps)[None, None]
