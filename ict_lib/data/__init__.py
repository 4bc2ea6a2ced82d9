"""Data sets, by name: one entry says all of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from ict_lib.checks import require, require_known
from ict_lib.data import imagenet64, small
from ict_lib.data.cache import data_folder
from ict_lib.data.dataset import Dataset

__all__ = ["DATASETS", "Dataset", "Entry", "fetch", "load_dataset", "stand_in"]


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before it is there, and how it is read and fetched."""

    name: str
    num: int  # images of the training part
    shape: tuple[int, ...]  # of one image, ``(channel, height, width)``, or of a point, ``(2,)``
    num_classes: int
    flip: bool  # whether an image is as good as its mirror image
    # the network whose features measure images of this kind; points are measured as they are
    extractor: Literal["digits", "inception", "none"]
    load: Callable[..., Dataset]  # reads it from a folder, else from the `data_folder`
    hub_name: str | None = None  # on the Hugging Face hub, if it is there
    torchvision: str | None = None  # the class that downloads it, if it can be downloaded
    packed: bool = False  # whether it is made from a source, by `imagenet64.pack`


FASHION, CIFAR, IMAGENET = "zalando-datasets/fashion_mnist", "uoft-cs/cifar10", "ILSVRC/imagenet-1k"
_ENTRIES = (
    *(Entry(name, small.POINTS, (2,), 1, False, "none", partial(small.points, name)) for name in small.TOYS),
    Entry("digits", 1_797, (1, 8, 8), 10, False, "digits", small.digits),
    Entry("fashion_mnist", 60_000, (1, 32, 32), 10, False, "inception", small.fashion_mnist, FASHION, "FashionMNIST"),
    Entry("cifar10", 50_000, (3, 32, 32), 10, True, "inception", small.cifar10, CIFAR, "CIFAR10"),
    Entry("imagenet64", 1_281_167, (3, 64, 64), 1_000, True, "inception", imagenet64.load, IMAGENET, packed=True),
)
DATASETS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def load_dataset(name: str) -> Dataset:
    """Load a data set by its name, from the `data_folder`.

    Raises:
        ValueError: if there is no data set of that name, with the nearest one; or if a file of it is damaged.
        FileNotFoundError: if a file of it is missing, with the command that makes it.
    """
    require_known("data set", name, DATASETS)
    return DATASETS[name].load()


def fetch(name: str, folder: str | Path | None = None, source: str | Path | None = None) -> Iterator[tuple[int, int]]:
    """Bring a data set into a folder, unless it is there, and check every byte; iterate over the result to run it.

    It may be stopped at any moment: the same call goes on. ImageNet is packed from a ``source``: a folder with a folder
    of photographs for each class, or with the published ``.npz``.

    Yields:
        Images so far, and images in all.

    Raises:
        ValueError: if the name is unknown, what is there or came is damaged, or the source cannot be packed.
        OSError: if something cannot be downloaded, read or written, or is missing, with the command.
    """
    require_known("data set", name, DATASETS)
    entry, root = DATASETS[name], data_folder(folder)
    require(source is None or entry.packed, "source", str(source), f"none, since {name} is not packed from one,")
    yield 0, entry.num
    if source is not None:
        yield from imagenet64.pack(Path(source), root)
    found = imagenet64.load(root, verify=True) if entry.packed else _load_or_download(entry, root)
    yield len(found), len(found)


def _load_or_download(entry: Entry, root: Path) -> Dataset:
    """Load a data set; where that fails, torchvision downloads what is missing, with its progress bar."""
    try:
        return entry.load(root)
    except (OSError, ValueError):
        from torchvision import datasets  # seconds

        try:
            getattr(datasets, entry.torchvision)(root, download=True)
        except (OSError, RuntimeError) as error:
            raise OSError(f"{entry.name} cannot be downloaded into {root}: {error}") from None
    return entry.load(root)


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
    pixels = pixels if len(entry.shape) == 3 else pixels / 127.5 - 1
    labels = torch.randint(entry.num_classes, (num,), generator=generator)
    return Dataset(pixels, labels, entry.num_classes, f"stand-in of {name}", entry.flip)
