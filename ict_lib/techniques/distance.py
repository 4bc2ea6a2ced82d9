"""Improvement: how far two outputs are apart.

Every distance takes two batches ``x`` and ``y`` of one shape, ``[batch, ...]``, computes in float32 or better and gives
one number a sample, ``[batch]``. Shapes that differ are a ``ValueError``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ict_lib.checks import require, whole


def huber_c(num_dims: int) -> float:
    r"""The pseudo-Huber constant, which grows with the root of the number of dimensions.

    .. math:: c = 0.00054 \sqrt{d}

    Source: [iCT] arXiv:2310.14189 section 3.3.

    Args:
        num_dims: d, numbers in one sample (3072 for CIFAR-10), at least 1.

    Returns:
        c, in data units.

    Raises:
        ValueError: if ``num_dims < 1``.
    """
    require(whole(num_dims, 1), "num_dims", num_dims, "1 or more")
    return 0.00054 * math.sqrt(num_dims)


def pseudo_huber(x: Tensor, y: Tensor, c: float) -> Tensor:
    r"""Quadratic for small differences, linear for large ones; one norm over the whole sample.

    .. math:: d(x, y) = \sqrt{\lVert x - y \rVert_2^2 + c^2} - c

    Computed as :math:`n / (\sqrt{n + c^2} + c)` with :math:`n = \lVert x - y \rVert_2^2`: the same number, without
    the cancellation that eats small differences in float32.

    Source: [iCT] arXiv:2310.14189 section 3.3.

    Args:
        x: one output.
        y: the other.
        c: where quadratic turns linear, data units, positive.

    Returns:
        Distances, data units.

    Raises:
        ValueError: if not ``1e-18 <= c <= 1e18``.
    """
    require(1e-18 <= c <= 1e18, "c", c, "a positive number, without which x = y has no gradient, 1e-18 to 1e18,")
    n = squared_l2(x, y)
    return n / ((n + c**2).sqrt() + c)


def squared_l2(x: Tensor, y: Tensor) -> Tensor:
    r"""Squared Euclidean distance, :math:`d(x, y) = \lVert x - y \rVert_2^2`, summed over a sample, squared data units.

    Source: [CT] arXiv:2303.01469.
    """
    return _difference(x, y).square().sum(dim=1)


def l1(x: Tensor, y: Tensor) -> Tensor:
    r"""Sum of absolute differences, :math:`d(x, y) = \lVert x - y \rVert_1`, data units.

    Source: [CT] arXiv:2303.01469.
    """
    return _difference(x, y).abs().sum(dim=1)


def lpips(x: Tensor, y: Tensor, network: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Learned perceptual distance on images resized to 224 by 224, as consistency models were first published.

    In float32, also where the rest of a training is in a shorter format.

    Source: [CT] arXiv:2303.01469 and its released code for CIFAR-10. That for ImageNet 64 does the same, except that it
    puts average pooling in the place of VGG16's max pooling.

    Args:
        x: images in [-1, 1], shape ``[batch, 1 or 3, height, width]``.
        y: images, same shape.
        network: ``network(x, y) -> [batch, 1, 1, 1]`` of images with 3 channels.

    Returns:
        Distances, shape ``[batch]``, no unit.

    Raises:
        ValueError: if they are not images.
    """
    fits = x.shape == y.shape and x.ndim == 4 and x.shape[1] in (1, 3)
    require(fits, "shapes", [tuple(x.shape), tuple(y.shape)], "two equal [batch, 1 or 3, height, width]")
    with torch.autocast(x.device.type, enabled=False):
        x, y = (
            nn.functional.interpolate(z.float().expand(-1, 3, -1, -1), size=224, mode="bilinear", align_corners=False)
            for z in (x, y)
        )
        return network(x, y).flatten(1).mean(dim=1)


def _difference(x: Tensor, y: Tensor) -> Tensor:
    """Flatten x - y to ``[batch, num_dims]``, in float32 or better."""
    require(x.shape == y.shape, "shapes", [tuple(x.shape), tuple(y.shape)], "one shape")
    dtype = torch.promote_types(x.dtype, torch.float32)
    return (x.to(dtype) - y.to(dtype)).flatten(1)


CHOICES = {"squared_l2": squared_l2, "l1": l1, "lpips": lpips, "pseudo_huber": pseudo_huber}
