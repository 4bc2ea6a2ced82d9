"""Images as 8-bit levels, the form in which every published FID compares them."""

import torch
from torch import Tensor

from ict_lib.data.mapped import MappedPixels


def to_uint8(images: Tensor) -> Tensor:
    r"""Images as 8-bit levels, clipped to [-1, 1] and rounded.

    .. math:: p = \mathrm{round}(127.5 (x + 1))

    Source: own.

    Args:
        images: floating point, shape ``[num, channel, height, width]``.

    Returns:
        Levels 0 to 255, uint8, same shape, on the CPU.

    Raises:
        ValueError: if the images are not floating point or not finite.
    """
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floating point [n, c, h, w], got {images.dtype} {list(images.shape)}")
    if not images.isfinite().all():
        raise ValueError(f"images must be finite, got {(~images.isfinite()).sum()} NaN or infinite values")
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to("cpu", torch.uint8)


def stored_levels(pixels: Tensor | MappedPixels) -> Tensor:
    """Levels of a data set's pixels: as stored, if they are stored as levels; a mapped file stays mapped.

    Source: own.

    Args:
        pixels: of a `Dataset`.

    Returns:
        Levels 0 to 255, uint8, same shape, on the CPU.

    Raises:
        ValueError: if floating pixels are not finite.
    """
    if isinstance(pixels, MappedPixels):
        return pixels.tensor
    return pixels.cpu() if pixels.dtype == torch.uint8 else to_uint8(pixels)
