"""Where ImageNet 64x64 comes from: a folder of photographs, or the published archives of small ones."""

import os
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from ict_lib.checks import require
from ict_lib.data import DATASETS
from ict_lib.data.imagenet64 import SHAPE, Source

ARCHIVE, MOST_CLASSES = "train_data_batch_{}.npz", 1000
STRETCH = 256  # photographs that are read and checksummed together


def source_of(folder: Path) -> Source:
    """Find out what a folder holds: a folder of photographs for each class, or ``train_data_batch_1.npz`` and so on.

    Classes of photographs are numbered in the order of their folders' names; those of the archives as these number
    them, from 0. If it is neither, a file in it is something else, or an archive is damaged, there is a ValueError; if
    there is no such folder, or an archive between others is missing, a FileNotFoundError.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    num = len(list(folder.glob(ARCHIVE.format("*"))))
    return _archives([folder / ARCHIVE.format(k + 1) for k in range(num)]) if num else _photographs(folder)


def adm_crop(image: Image.Image, size: int = 64) -> np.ndarray:
    """Shrink a photograph and cut out its centre, as ADM prepares ImageNet: uint8 ``[3, size, size]``.

    It is halved by 2x2 boxes while the shorter side stays ``size`` or more, then brought to that by bicubic
    interpolation; then the longer side is cut. (EDM cuts first and shrinks by Lanczos: its pixels differ a little.)
    Numbers without a range of which 8 bits could be made are a ValueError.

    Source: [ADM] Dhariwal and Nichol 2021, arXiv:2105.05233, its released preparation of images.
    """
    image = _eight_bits(image).convert("RGB")
    width, height = image.size
    while min(width, height) // 2 >= size:
        width, height = width // 2, height // 2
        image = image.resize((width, height), Image.Resampling.BOX)
    scale = size / min(width, height)
    width, height = round(width * scale), round(height * scale)
    left, top = (width - size) // 2, (height - size) // 2
    small = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return np.asarray(small).transpose(2, 0, 1)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16 bits of grey to the nearest 8, which Pillow would cut off at 255."""
    if image.mode.startswith("I;16"):
        return Image.fromarray(((np.asarray(image).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"numbers of 32 bits (mode {image.mode}) have no known range: 8 or 16 bits are needed")
    return image


def _photographs(folder: Path) -> Source:
    try:
        found = ImageFolder(folder, is_valid_file=_is_photograph)
    except FileNotFoundError as error:
        rule = f"must hold a folder of photographs for each class, or {ARCHIVE.format(1)} and so on"
        raise ValueError(f"{folder} {rule}: {error}") from None
    wanted = DATASETS["imagenet64"].num_classes
    rule = f"{wanted}, a folder of photographs each, as in the folder `train`,"
    require(len(found.classes) == wanted, f"the number of classes in {folder}", len(found.classes), rule)
    for path in folder.iterdir():
        if path.suffix.lower() in IMG_EXTENSIONS and path.is_file():
            raise ValueError(f"{path} is in no class: a folder of photographs for each class is needed")
    Image.init()  # all formats: threads that do so at the same moment miss some
    files, labels = [path for path, _ in found.samples], np.array(found.targets, dtype=np.int64)
    return Source(
        names=[os.path.relpath(path, folder) for path in files],
        classes=found.classes,
        labels=labels,
        stops=np.minimum(np.arange(STRETCH, len(files) + STRETCH, STRETCH), len(files)),
        read=lambda number: np.stack([_photograph(file) for file in files[number * STRETCH :][:STRETCH]]),
    )


def _is_photograph(path: str) -> bool:
    """Leave out hidden files, and refuse others that are no photographs: none is left out without a word."""
    hidden = os.path.basename(path).startswith(".")
    if not hidden and not path.lower().endswith(IMG_EXTENSIONS):
        raise ValueError(f"{path} is not one of {', '.join(IMG_EXTENSIONS)}: convert it, or take it out of the folder")
    return not hidden


def _photograph(file: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return adm_crop(image)
    except Exception as error:  # a damaged image can raise nearly anything
        raise ValueError(f"{file} cannot be read: {error}") from None


def _archives(paths: list[Path]) -> Source:
    """Read the labels; the images follow each other in the order of the archives' numbers.

    Source: Chrabaszcz, Loshchilov and Hutter 2017, arXiv:1707.08819: rows of 12,288 numbers, red, green, blue.
    """
    labels = [_labels(path) for path in paths]

    def read(number: int) -> np.ndarray:
        found, wanted = _array(paths[number], "data"), (len(labels[number]), prod(SHAPE))
        if found.dtype != np.uint8 or found.shape != wanted:
            raise ValueError(f"{paths[number]} must hold uint8 {wanted} as data, got {found.dtype} {found.shape}")
        return found.reshape(-1, *SHAPE)

    whole, stops = np.concatenate(labels), np.cumsum([len(part) for part in labels])
    classes, names = [str(number + 1) for number in range(MOST_CLASSES)], [path.name for path in paths]
    return Source(names, classes, whole, stops, read, threads=1)  # of 1.6 GB each


def _labels(path: Path) -> np.ndarray:
    """Read the labels of an archive, int64, and count from 0."""
    labels = _array(path, "labels")
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(f"{path} must hold whole numbers [num] as labels, got {labels.dtype} {list(labels.shape)}")
    if labels.min() < 1 or labels.max() > MOST_CLASSES:
        raise ValueError(f"labels in {path} must be in 1 .. {MOST_CLASSES}, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64) - 1


def _array(path: Path, key: str) -> np.ndarray:
    """Read one array of an archive; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays[key]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing beside the other archives") from None
    except Exception as error:  # a damaged archive can raise nearly anything, too
        raise ValueError(f"{path} is damaged, or no archive with data and labels: {error}") from None
