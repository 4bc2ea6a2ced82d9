"""The data sets that are whole in memory: points, digits, Fashion-MNIST, CIFAR-10. Their readers are slow to import.

A reader is given the `data_folder` and returns pixels and labels, in the form that a `Dataset` wants; its `Entry` knows
how many classes they have, and whether they are flipped. It raises as `load_dataset` does.
"""

import gzip
import hashlib
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ict_lib import data
from ict_lib.data.cache import fetch_command
from ict_lib.exact import toy

# MD5 of Fashion-MNIST's images and labels, uncompressed: Debian compresses without the name and date that others keep
FASHION_MNIST = "f4a8712d7a061bf5bd6d2ca38dc4d50a", "9018921c3c673c538a1fc5bad174d6f9"
TOYS = {
    "ring": lambda num, generator: toy.ring(radius=0.7, std=0.035).sample(num, generator),
    "two_moons": toy.two_moons,
    "spiral": toy.spiral,
    "checkerboard": toy.checkerboard,
}


def points(name: str, root: Path) -> tuple[Tensor, Tensor]:
    """Draw 10,000 points of a toy, the same each time: float32 ``[10000, 2]``, of one class; they need no folder."""
    drawn = TOYS[name](data.POINTS, torch.Generator().manual_seed(0)).float()
    return drawn, torch.zeros(data.POINTS, dtype=torch.int64)


def digits(root: Path) -> tuple[Tensor, Tensor]:
    r"""Load the 1,797 digits of scikit-learn, which carries them inside its own package: they need no folder.

    .. math:: x = p / 8 - 1, \quad p \in \{0, \dots, 16\}

    Images are float32 ``[1797, 1, 8, 8]``, with 17 grey levels in [-1, 1] (-1 is paper, 1 is ink); labels 0 to 9.

    Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), test part.
    """
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.as_tensor(found.images, dtype=torch.float32, device="cpu")  # [1797, 8, 8], 0 .. 16
    return images[:, None] / 8 - 1, torch.as_tensor(found.target, dtype=torch.int64, device="cpu")


def fashion_mnist(root: Path) -> tuple[Tensor, Tensor]:
    """Load the training part, padded with background to 32x32; shoes point to the left, so none is flipped.

    Images are uint8 ``[60000, 1, 32, 32]``, labels 0 to 9. The folder holds ``FashionMNIST/raw``; Debian's files are
    found without it.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    command = f"{fetch_command('fashion_mnist', root)} (or, on Debian: apt-get install dataset-fashion-mnist)"
    files = zip(data.DATASETS["fashion_mnist"].files, FASHION_MNIST, strict=True)
    images, labels = (_content([root / place for place in places], md5, command) for places, md5 in files)
    square = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)  # a type and three lengths before it
    padded = np.pad(square, ((0, 0), (0, 0), (2, 2), (2, 2)))  # [num, 1, 32, 32]
    return torch.from_numpy(padded), torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))


def cifar10(root: Path) -> tuple[Tensor, Tensor]:
    """Load the training part, on which models are trained and FID is measured; mirror images are allowed.

    The files are pickles: every one is compared with its published MD5 before torchvision reads the first.

    Images are uint8 ``[50000, 3, 32, 32]``, labels 0 to 9. The folder holds ``cifar-10-batches-py``.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the Python version of the files.
    """
    from torchvision.datasets import CIFAR10

    for name, md5 in [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]:
        _content([root / CIFAR10.base_folder / name], md5, fetch_command("cifar10", root))
    found = CIFAR10(root)
    return torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(found.targets)


def _content(places: list[Path], md5: str, command: str) -> bytes:
    """Read a file where it is found first, uncompressed, and refuse all but the published content."""
    path = next(filter(Path.is_file, places), None)
    if path is None:
        raise FileNotFoundError(f"{places[0]} is missing; this fetches it: {command}")
    content = path.read_bytes()
    if path.suffix == ".gz":
        with suppress(EOFError, zlib.error, gzip.BadGzipFile):  # still compressed, it is refused
            content = gzip.decompress(content)
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise ValueError(f"{path} is damaged or cut short: its MD5 is not {md5}. Remove it, then: {command}")
    return content


READERS = {name: partial(points, name) for name in TOYS}
READERS |= {"digits": digits, "fashion_mnist": fashion_mnist, "cifar10": cifar10}
