"""Data sets, by name: one entry says all of each, known without loading torch.

A name that is unknown is everywhere a ValueError with the nearest right one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ict_lib.checks import require, require_known
from ict_lib.data.cache import data_folder, fetch_command

if TYPE_CHECKING:  # torch takes seconds
    from ict_lib.data.dataset import Dataset


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before it is there, and how it is read and fetched."""

    name: str
    num: int  # images of the training part
    shape: tuple[int, ...]  # of one image, ``(channel, height, width)``, or of a point, ``(2,)``
    num_classes: int
    flip: bool  # whether an image is as good as its mirror image
    # the network whose features measure images of this kind; points are measured as they are
    extractor: Literal["digits", "fashion_mnist", "inception", "none"]
    files: tuple[tuple[str, ...], ...] = ()  # that it is read from, in the `data_folder`: each with its alternatives
    hub_name: str | None = None  # on the Hugging Face hub, if it is there
    torchvision: str | None = None  # the class that downloads it, if it can be downloaded
    packed: bool = False  # whether it is made from a source, by `imagenet64.pack`

    def load(self, folder: str | Path | None = None, verify: bool = False) -> "Dataset":
        """Read it from a folder, else from the `data_folder`; ``verify`` compares what is packed with its checksums."""
        from ict_lib.data import imagenet64, small
        from ict_lib.data.dataset import Dataset

        if self.packed:
            found = imagenet64.load(folder, verify)
            rule = f"{self.num_classes}, as networks and plans have, so a set that is packed from a whole source,"
            require(found.num_classes == self.num_classes, f"num_classes of {self.name}", found.num_classes, rule)
            return found
        return Dataset(*small.READERS[self.name](data_folder(folder)), self.num_classes, self.name, self.flip)

    def require_files(self, folder: str | Path | None = None) -> None:
        """Raise ``FileNotFoundError`` with the command that makes it, if a file is not there; none is read."""
        root = data_folder(folder)
        for places in self.files:
            if not any((root / place).is_file() for place in places):
                command = fetch_command(self.name, root) + " --source SOURCE" * self.packed
                raise FileNotFoundError(f"{root / places[0]} is missing; this makes it: {command}")


FASHION, CIFAR, IMAGENET = "zalando-datasets/fashion_mnist", "uoft-cs/cifar10", "ILSVRC/imagenet-1k"
POINTS = 10_000  # of a toy
_DEBIAN = "/usr/share/datasets/fashion-mnist"  # of the package dataset-fashion-mnist
_IDX = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_IDX_FILES = tuple((*(f"FashionMNIST/raw/{n}{z}" for z in ("", ".gz")), f"{_DEBIAN}/{n}.gz") for n in _IDX)
_BATCHES = *(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"
_BATCH_FILES = tuple((f"cifar-10-batches-py/{name}",) for name in _BATCHES)
PACKED = "imagenet64.safetensors"
_ENTRIES = (
    *(Entry(name, POINTS, (2,), 1, False, "none") for name in ("ring", "two_moons", "spiral", "checkerboard")),
    Entry("digits", 1_797, (1, 8, 8), 10, False, "digits"),
    Entry("fashion_mnist", 60_000, (1, 32, 32), 10, False, "fashion_mnist", _IDX_FILES, FASHION, "FashionMNIST"),
    Entry("cifar10", 50_000, (3, 32, 32), 10, True, "inception", _BATCH_FILES, CIFAR, "CIFAR10"),
    Entry("imagenet64", 1_281_167, (3, 64, 64), 1_000, True, "inception", ((PACKED,),), IMAGENET, packed=True),
)
DATASETS: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
FEATURES = {  # what is measured of the samples, by the entry's extractor, as tables say it
    "digits": "features of a digits classifier",
    "fashion_mnist": "features of a Fashion-MNIST classifier",
    "inception": "Inception's features",
    "none": "the points",
}


def load_dataset(name: str) -> "Dataset":
    """Load a data set by its name, from the `data_folder`.

    A file that is damaged is a ValueError; one that is missing a FileNotFoundError, with the command that makes it.
    """
    require_known("data set", name, DATASETS)
    return DATASETS[name].load()


def fetch(name: str, folder: str | Path | None = None, source: str | Path | None = None) -> Iterator[tuple[int, int]]:
    """Bring a data set into a folder, unless it is there, and check every byte; iterate over the result to run it.

    It yields the images so far and in all, and may be stopped at any moment: the same call goes on. ImageNet is packed
    from a ``source``: a folder with a folder of photographs for each class, or with the published ``.npz``.

    What is damaged, or a source that cannot be packed, is a ValueError; what cannot be downloaded, read or written, or
    is missing, an OSError with the command.
    """
    require_known("data set", name, DATASETS)
    entry, root = DATASETS[name], data_folder(folder)
    require(source is None or entry.packed, "source", str(source), f"none, since {name} is not packed from one,")
    from ict_lib.data import imagenet64

    yield 0, entry.num
    if source is not None:
        yield from imagenet64.pack(Path(source), root)
    found = entry.load(root, verify=True) if entry.packed else _load_or_download(entry, root)
    yield len(found), len(found)


def _load_or_download(entry: Entry, root: Path) -> "Dataset":
    """Load a data set; where that fails, torchvision downloads what is missing, with its progress bar."""
    try:
        return entry.load(root)
    except (OSError, ValueError) as first:
        from torchvision import datasets  # seconds

        try:
            getattr(datasets, entry.torchvision)(root, download=True)
        except (OSError, RuntimeError, ValueError) as error:
            damaged = f"; {first}" if isinstance(first, ValueError) else ""  # it says what to remove
            raise OSError(f"{entry.name} cannot be downloaded into {root}: {error}{damaged}") from None
    return entry.load(root)


def stand_in(name: str, num: int | None = None) -> "Dataset":
    """Make a data set of random bytes, the same each time, in the form of a real one: as fast to train on.

    Without ``num`` it has as many images as the real one, which is 16 GB for ImageNet.
    """
    import torch

    from ict_lib.data.dataset import Dataset

    require_known("data set", name, DATASETS)
    entry, generator = DATASETS[name], torch.Generator().manual_seed(0)
    num = entry.num if num is None else num
    pixels = torch.randint(256, (num, *entry.shape), dtype=torch.uint8, generator=generator)
    pixels = pixels if len(entry.shape) == 3 else pixels / 127.5 - 1
    labels = torch.randint(entry.num_classes, (num,), generator=generator)
    return Dataset(pixels, labels, entry.num_classes, f"stand-in of {name}", entry.flip)
