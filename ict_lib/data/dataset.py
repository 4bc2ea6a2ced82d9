"""The one form in which every data set arrives: all images, all labels, in memory."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, ready to train on.

    Source: own.

    Attributes:
        images: floating point, shape ``[num, channel, height, width]``, in [-1, 1].
        labels: int64, shape ``[num]``, in ``0 .. num_classes - 1``.
        num_classes: how many classes there are.
        name: the name that `load_dataset` knows it by.

    Raises:
        ValueError: if the images are not 4-D, not floating point or leave [-1, 1], if there are none, or if
            the labels are not int64, not one per image, or out of range.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    name: str

    def __post_init__(self):
        _check_images(self.images)
        _check_labels(self.labels, len(self.images), self.num_classes)

    def __len__(self) -> int:
        return len(self.images)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or len(images) == 0 or not images.is_floating_point():
        raise ValueError(
            "images must be floating point [num, channel, height, width] with num >= 1, "
            f"got {images.dtype} {list(images.shape)}"
        )
    low, high = torch.aminmax(images)
    if not (low >= -1 and high <= 1):  # also refuses NaN
        raise ValueError(f"images must be in [-1, 1], got {low:g} to {high:g}")


def _check_labels(labels: Tensor, num: int, num_classes: int) -> None:
    if labels.dtype != torch.int64 or labels.shape != (num,):
        raise ValueError(f"labels must be int64 [{num}], got {labels.dtype} {list(labels.shape)}")
    low, high = torch.aminmax(labels)
    if low < 0 or high >= num_classes:
        raise ValueError(f"labels must be in 0 .. {num_classes - 1}, got {low} to {high}")
