"""CIFAR-10: 50,000 photographs of 32x32 pixels. To fetch it: ``python -m ict_lib.data.cifar10 FOLDER``."""

import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ict_lib.data.cache import data_folder
from ict_lib.data.dataset import Dataset
from ict_lib.data.fetch import download, fetch_command, require_file
from ict_lib.data.plain_pickle import read_plain_pickle

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
SUBFOLDER = "cifar-10-batches-py"  # its name in the archive, and torchvision's
BATCHES = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
}


def load(folder: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Load the training part, on which models are trained and FID is measured; mirror images are allowed.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the Python version of the files.

    Args:
        folder: holds ``cifar-10-batches-py``; see `data_folder` for where it is otherwise.
        download: fetch what is missing.

    Returns:
        Images, uint8 ``[50000, 3, 32, 32]``, and labels, 0 to 9.

    Raises:
        FileNotFoundError: if a file is missing, with the command that fetches it.
        ValueError: if a file is damaged, or not the published one.
        OSError: if it cannot be downloaded.
    """
    root = data_folder(folder)
    if download:
        fetch(root)
    command = f"python -m ict_lib.data.cifar10 {root}"
    for name, md5 in BATCHES.items():
        require_file(root / SUBFOLDER / name, md5, command)
    parts = [read_plain_pickle(root / SUBFOLDER / name) for name in BATCHES]
    pixels = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
    labels = torch.tensor([label for part in parts for label in part["labels"]], dtype=torch.int64)
    return Dataset(torch.from_numpy(pixels), labels, num_classes=10, name="cifar10", flip=True)


def fetch(folder: Path, show: bool = False) -> None:
    """Download and unpack the training part, if it is not there.

    Source: own.

    Args:
        folder: gets ``cifar-10-batches-py``.
        show: draw a progress bar.

    Raises:
        OSError: if it cannot be downloaded or written.
        ValueError: if what came is not the published archive.
    """
    if all((folder / SUBFOLDER / name).is_file() for name in BATCHES):
        return
    archive = folder / URL.rsplit("/", 1)[1]
    if not archive.is_file():
        with tqdm(unit="B", unit_scale=True, desc=archive.name, disable=not show) as bar:
            for done, total in download(URL, archive, ARCHIVE_MD5):
                bar.total = total or None
                bar.update(done - bar.n)
    require_file(archive, ARCHIVE_MD5, f"python -m ict_lib.data.cifar10 {folder}")
    with tarfile.open(archive) as tar:
        for name in BATCHES:
            tar.extract(f"{SUBFOLDER}/{name}", folder, filter="data")
    archive.unlink()


def main(arguments: list[str]) -> None:
    """Fetch the data into a folder, and check them."""
    fetch_command("cifar10", SUBFOLDER, fetch, load, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
