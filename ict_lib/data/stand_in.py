"""Random bytes in the form of a data set: to measure speed where the real one is not there."""

import torch

from ict_lib.checks import require_known
from ict_lib.data import DATASETS
from ict_lib.data.dataset import Dataset


def stand_in(name: str, num: int | None = None) -> Dataset:
    """Make a data set of random bytes, the same each time, in the form of a real one: as fast to train on.

    Without ``num`` it has as many images as the real one, which is 16 GB for ImageNet.

    Raises:
        ValueError: if the name is unknown, with the nearest right one.
    """
    require_known("data set", name, DATASETS)
    entry, generator = DATASETS[name], torch.Generator().manual_seed(0)
    num = entry.num if num is None else num
    pixels = torch.randint(256, (num, *entry.shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(entry.num_classes, (num,), generator=generator)
    return Dataset(pixels, labels, entry.num_classes, f"stand-in of {name}", entry.flip)
