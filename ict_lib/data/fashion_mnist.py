"""Fashion-MNIST: 60,000 grey pictures of clothes. To fetch it: ``python -m ict_lib.data.fashion_mnist FOLDER``."""

import gzip
import hashlib
import os
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ict_lib.data.cache import data_folder
from ict_lib.data.dataset import Dataset
from ict_lib.data.fetch import download, fetch_command

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
SUBFOLDER = Path("FashionMNIST") / "raw"  # torchvision's
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
MD5 = {  # of the uncompressed files: Debian compresses them without the name and the date that others keep
    IMAGES: "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    LABELS: "9018921c3c673c538a1fc5bad174d6f9",
}
COMPRESSED_MD5 = {IMAGES: "8d4fb7e6c68d591d4c3dfef9ec88bf0d", LABELS: "25c81989df183df01b3e8a0aad5dffbe"}


def load(folder: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Load the training part, padded with background to 32x32; shoes point to the left, so none is flipped.

    Looked for in the folder, as torchvision keeps it, then where Debian's package puts it.

    Source: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747.

    Args:
        folder: holds ``FashionMNIST/raw``; see `data_folder` for where it is otherwise.
        download: fetch what is missing.

    Returns:
        Images, uint8 ``[60000, 1, 32, 32]``, and labels, 0 to 9.

    Raises:
        FileNotFoundError: if a file is missing, with the commands that fetch it.
        ValueError: if a file is damaged, or not the published one.
        OSError: if it cannot be downloaded.
    """
    root = data_folder(folder)
    if download:
        fetch(root)
    images, labels = (_idx(*_content(name, root)) for name in (IMAGES, LABELS))
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None]  # [num, 1, 32, 32]
    classes = torch.from_numpy(labels.astype(np.int64))
    return Dataset(torch.from_numpy(padded), classes, num_classes=10, name="fashion_mnist")


def fetch(folder: Path, show: bool = False) -> None:
    """Download the training part, if it is not there.

    Source: own.

    Args:
        folder: gets ``FashionMNIST/raw``.
        show: draw a progress bar.

    Raises:
        OSError: if it cannot be downloaded or written.
        ValueError: if what came is not the published file.
    """
    for name, md5 in COMPRESSED_MD5.items():
        path = folder / SUBFOLDER / f"{name}.gz"
        if path.is_file() or path.with_suffix("").is_file():
            continue
        with tqdm(unit="B", unit_scale=True, desc=path.name, disable=not show) as bar:
            for done, total in download(URL + path.name, path, md5):
                bar.total = total or None
                bar.update(done - bar.n)


def _content(name: str, root: Path) -> tuple[Path, bytes]:
    """Find a file, read it, and refuse all but the published content."""
    places = [root / SUBFOLDER / name, root / SUBFOLDER / f"{name}.gz", DEBIAN / f"{name}.gz"]
    commands = f"python -m ict_lib.data.fashion_mnist {root} (or, on Debian: apt-get install dataset-fashion-mnist)"
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{places[1]} is missing, and {places[2]} too; this fetches it: {commands}")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}. Remove it, then: {commands}") from None
    found = hashlib.md5(content).hexdigest()
    if found != MD5[name]:
        raise ValueError(f"{path} is damaged: its content has MD5 {found}. Remove it, then: {commands}")
    return path, content


def _idx(path: Path, content: bytes) -> np.ndarray:
    """Read the idx format: two zero bytes, type 8 (uint8), the number of axes, their lengths, the numbers."""
    axes = content[3] if len(content) > 3 and content[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * axes
    shape = np.frombuffer(content[4:start], dtype=">u4") if axes and len(content) >= start else np.zeros(0, int)
    if not axes or len(content) != start + int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"{path} is not an idx file of bytes, or is cut short: {len(content)} bytes")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(*shape)


def main(arguments: list[str]) -> None:
    """Fetch the data into a folder, and check them."""
    fetch_command("fashion_mnist", SUBFOLDER, fetch, load, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
