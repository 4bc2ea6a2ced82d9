"""The one form in which every data set arrives: labelled images, as bytes or floats, in memory or in a file."""

import hashlib
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from ict_lib.data.mapped import MappedPixels

MOST_FLOATS = 2**28  # 1 GiB: more than CIFAR-10 as floats, less than ImageNet


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, ready to train on.

    Attributes:
        pixels: shape ``[num, channel, height, width]``; uint8 levels p that stand for p / 127.5 - 1, in memory or
            mapped from a file, or floating point in [-1, 1].
        labels: int64, shape ``[num]``, in ``0 .. num_classes - 1``.
        flip: whether an image is as good as its mirror image; training then draws one of the two.

    Raises:
        ValueError: if there are no images, or these or the labels are not as above.
    """

    pixels: Tensor | MappedPixels
    labels: Tensor
    num_classes: int
    name: str
    flip: bool = False

    def __post_init__(self):
        _check_pixels(self.pixels)
        _check_labels(self.labels, len(self.pixels), self.num_classes)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image, ``(channel, height, width)``."""
        return tuple(self.pixels.shape[1:])

    @property
    def images(self) -> Tensor:
        """Return all images as floats in [-1, 1], none flipped; a ValueError if they would take more than 1 GiB."""
        if prod(self.pixels.shape) > MOST_FLOATS:
            raise ValueError(f"{len(self)} images {self.shape} are too many floats for memory: use batch(indices)")
        return _floats(self.pixels.tensor if isinstance(self.pixels, MappedPixels) else self.pixels)

    def batch(
        self, indices: Tensor, device: torch.device | str | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Gather images by their indices; the result depends on these and on the generator's state alone.

        Args:
            indices: int64, shape ``[batch]``.
            device: they stay where the data are without one.
            generator: draws which images are flipped, if the data set allows that; without one none is.

        Returns:
            Floating point, shape ``[batch, channel, height, width]``, in [-1, 1].

        Raises:
            IndexError: if an index is out of range.
        """
        mapped = isinstance(self.pixels, MappedPixels)
        rows = self.pixels[indices if mapped else indices.to(self.pixels.device)]
        rows = rows.to(device or rows.device, non_blocking=True)
        if self.flip and generator is not None:
            flipped = torch.randint(2, (len(rows), 1, 1, 1), generator=generator, device=generator.device)
            rows = torch.where(flipped.to(rows.device, torch.bool), rows.flip(-1), rows)
        return _floats(rows)

    def prefetch(self, indices: Tensor) -> None:
        """Say which batch comes next, so that it is read meanwhile if the data lie in a file."""
        if isinstance(self.pixels, MappedPixels):
            self.pixels.prefetch(indices)

    def to(self, device: torch.device | str) -> "Dataset":
        """Move the data to a device, but for a mapped file, from which batches go there."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def checksum(self) -> str:
        """Return a SHA-256 that stands for the images: shape, type and every pixel."""
        if isinstance(self.pixels, MappedPixels):
            return self.pixels.checksum
        digest = hashlib.sha256(f"{self.pixels.dtype} {list(self.pixels.shape)} ".encode())
        digest.update(self.pixels.cpu().contiguous().numpy())
        return digest.hexdigest()


def _floats(pixels: Tensor) -> Tensor:
    return pixels if pixels.is_floating_point() else pixels.to(torch.float32) / 127.5 - 1


def _check_pixels(pixels: Tensor | MappedPixels) -> None:
    known = pixels.dtype == torch.uint8 or pixels.dtype.is_floating_point
    if len(pixels.shape) != 4 or len(pixels) == 0 or not known:
        rule = "uint8 or floating point [num, channel, height, width] with num >= 1"
        raise ValueError(f"pixels must be {rule}, got {pixels.dtype} {list(pixels.shape)}")
    if pixels.dtype.is_floating_point:
        low, high = torch.aminmax(pixels)
        if not (low >= -1 and high <= 1):  # also refuses NaN
            raise ValueError(f"floating pixels must be in [-1, 1], got {low:g} to {high:g}")


def _check_labels(labels: Tensor, num: int, num_classes: int) -> None:
    if labels.dtype != torch.int64 or labels.shape != (num,):
        raise ValueError(f"labels must be int64 [{num}], got {labels.dtype} {list(labels.shape)}")
    low, high = torch.aminmax(labels)
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels must be in 0 .. {num_classes - 1}, got {low} to {high}")
