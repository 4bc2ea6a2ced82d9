"""The one form in which every data set arrives: labelled images, as bytes or floats, in memory or in a file."""

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ict_lib.checks import require

MOST_FLOATS = 2**28  # 1 GiB: more than CIFAR-10 as floats, less than ImageNet


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, ready to train on; none, or others than those described here, are a ValueError."""

    # ``[num, channel, height, width]``, or points ``[num, 2]``; uint8 levels p, for p / 127.5 - 1, or floats in [-1, 1]
    pixels: Tensor
    labels: Tensor  # int64, shape ``[num]``, in ``0 .. num_classes - 1``
    num_classes: int
    name: str
    flip: bool = False  # whether an image is as good as its mirror image; training then draws one of the two
    # if the pixels are mapped from a file, in which they stay, the SHA-256 that stands for them
    stored: str | None = None
    _ahead: list[tuple[Tensor, Future[Tensor]]] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self):
        pixels, labels, floats = self.pixels, self.labels, self.pixels.is_floating_point()
        fits = pixels.ndim in (2, 4) and len(pixels) > 0 and (floats or pixels.dtype == torch.uint8)
        rule = "uint8 or floating point [num, channel, height, width] or [num, 2] with num >= 1"
        require(fits, "the form of pixels", f"{pixels.dtype} {list(pixels.shape)}", rule)
        low, high = torch.aminmax(pixels) if floats else (0, 0)
        fits = low >= -1 and high <= 1  # also refuses NaN
        require(fits, "the range of pixels", f"{low:g} to {high:g}", "-1 to 1")
        fits = labels.dtype == torch.int64 and labels.shape == (len(pixels),)
        require(fits, "the form of labels", f"{labels.dtype} {list(labels.shape)}", f"int64 [{len(pixels)}]")
        low, high = torch.aminmax(labels)
        fits = low >= 0 and high < self.num_classes
        require(fits, "the range of labels", f"{low} to {high}", f"0 .. {self.num_classes - 1}")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image, ``(channel, height, width)``, or of a point, ``(2,)``."""
        return tuple(self.pixels.shape[1:])

    @property
    def images(self) -> Tensor:
        """Return all images as floats in [-1, 1], none flipped; a ValueError if they would take more than 1 GiB."""
        if self.pixels.numel() > MOST_FLOATS:
            raise ValueError(f"{len(self)} images {self.shape} are too many floats for memory: use batch(indices)")
        return _floats(self.pixels)

    def batch(
        self, indices: Tensor, device: torch.device | str | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Gather images by indices, int64 ``[batch]``: floating point ``[batch, channel, height, width]``, in [-1, 1].

        They stay where the data are without a device. The generator draws which of them are flipped, if the data set
        allows that; without one none is. The result depends on the indices and on the generator's state alone.
        """
        here = indices.cpu() if self.stored else indices.to(self.pixels.device, non_blocking=True)
        rows = self._read(here) if self.stored else self.pixels[here]
        rows = rows.to(device or rows.device, non_blocking=True)
        if self.flip and generator is not None:
            place, pinned = generator.device, rows.is_cuda and generator.device.type == "cpu"
            flipped = torch.randint(2, (len(rows), 1, 1, 1), generator=generator, device=place, pin_memory=pinned)
            rows = torch.where(flipped.to(rows.device, torch.bool, non_blocking=True), rows.flip(-1), rows)
        return _floats(rows)

    def prefetch(self, indices: Tensor) -> None:
        """Say which batch comes next: from a file it is read meanwhile. Another call replaces this."""
        if self.stored:
            indices = indices.cpu().clone()
            self._ahead[:] = [(indices, self._reader.submit(self._gather, indices))]

    def to(self, device: torch.device | str) -> "Dataset":
        """Move the data to a device, but for pixels in a file, from which batches go there."""
        return replace(
            self, pixels=self.pixels if self.stored else self.pixels.to(device), labels=self.labels.to(device)
        )

    def checksum(self) -> str:
        """Return a SHA-256 that stands for the images: shape, type and every pixel."""
        if self.stored:
            return self.stored
        digest = hashlib.sha256(f"{self.pixels.dtype} {list(self.pixels.shape)} ".encode())
        digest.update(self.pixels.cpu().contiguous().numpy())
        return digest.hexdigest()

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "ict-prefetch")

    def _read(self, indices: Tensor) -> Tensor:
        """Take the batch that was announced, if it is this one; otherwise read it now."""
        announced, found = self._ahead.pop() if self._ahead else (None, None)
        return found.result() if found and torch.equal(announced, indices) else self._gather(indices)

    def _gather(self, indices: Tensor) -> Tensor:
        """Copy images from the file; for CUDA into pinned memory, from which it copies without waiting."""
        rows = torch.empty(len(indices), *self.shape, dtype=self.pixels.dtype, pin_memory=self.labels.is_cuda)
        return torch.index_select(self.pixels, 0, indices, out=rows)


def _floats(pixels: Tensor) -> Tensor:
    return pixels if pixels.is_floating_point() else pixels.to(torch.float32) / 127.5 - 1
