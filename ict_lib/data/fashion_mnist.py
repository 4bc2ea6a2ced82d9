"""Fashion-MNIST: 60,000 grey pictures of clothes, where torchvision keeps them or where Debian does."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import torch

from ict_lib.data.cache import data_folder, fetch_command
from ict_lib.data.dataset import Dataset

SUBFOLDER = Path("FashionMNIST") / "raw"  # torchvision's
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
MD5 = {  # of the uncompressed files: Debian compresses them without the name and the date that others keep
    IMAGES: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    LABELS: "9018921c3c673c538a1fc5bad174d6f9",
}


def load(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the training part, padded with background to 32x32; shoes point to the left, so none is flipped.

    Images are uint8 ``[60000, 1, 32, 32]``, labels 0 to 9. The folder, else the `data_folder`, holds
    ``FashionMNIST/raw``; Debian's files are found without it. Raises as `load_dataset` does.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.
    """
    images, labels = (_content(name, data_folder(folder)) for name in (IMAGES, LABELS))
    square = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 1, 28, 28)  # a type and three lengths before it
    padded = np.pad(square, ((0, 0), (0, 0), (2, 2), (2, 2)))  # [num, 1, 32, 32]
    classes = torch.from_numpy(np.frombuffer(labels, np.uint8, offset=8).astype(np.int64))
    return Dataset(torch.from_numpy(padded), classes, num_classes=10, name="fashion_mnist")


def _content(name: str, root: Path) -> bytes:
    """Find a file, read it, and refuse all but the published content."""
    places = [root / SUBFOLDER / name, root / SUBFOLDER / f"{name}.gz", DEBIAN / f"{name}.gz"]
    command = f"{fetch_command('fashion_mnist', root)} (or, on Debian: apt-get install dataset-fashion-mnist)"
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{places[0]} is missing, and {places[2]} too; this fetches it: {command}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}. Remove it, then: {command}") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != MD5[name]:
        raise ValueError(f"{path} is damaged: its content has MD5 {found}. Remove it, then: {command}")
    return content
