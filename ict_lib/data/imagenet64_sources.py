"""Where ImageNet 64x64 comes from: a folder of photographs, or the published archives of small ones."""

import re
import zipfile
import zlib
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from ict_lib.data.packing import Piece, Plan
from ict_lib.data.plain_pickle import read_plain_pickle

SHAPE = (3, 64, 64)
PIECE = 2048  # photographs read together: 25 MB
SUFFIXES = (".jpeg", ".jpg", ".png")
ARCHIVES = "train_data_batch_"
WHOLE = 1_281_167  # images of the training part, in 1,000 classes


def plan_for(source: Path, piece_size: int = PIECE) -> Plan:
    """Find out what a source is, and plan how to pack it.

    Source: own.

    Args:
        source: a folder with a folder of photographs for each class, or with the files ``train_data_batch_*``.
        piece_size: photographs read together.

    Returns:
        The plan. Classes of photographs are numbered in the order of their folders' names; those of the archives
        as these number them, from 0.

    Raises:
        ValueError: if the folder is neither, or an archive is damaged.
        FileNotFoundError: if there is no such folder.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder")
    matches = [re.fullmatch(rf"{ARCHIVES}(\d+)(\.npz)?", path.name) for path in source.iterdir()]
    archives = {int(match[1]): source / match[0] for match in matches if match}
    return _plan_archives(archives) if archives else _plan_photographs(source, piece_size)


def adm_crop(image: Image.Image, size: int = 64) -> np.ndarray:
    """Shrink a photograph and cut out its centre, as ADM prepares ImageNet.

    It is halved by 2x2 boxes while the shorter side stays ``size`` or more, then brought to that by bicubic
    interpolation; then the longer side is cut. (EDM cuts first and shrinks by Lanczos: its pixels differ a little.)

    Source: [ADM] Dhariwal and Nichol 2021, arXiv:2105.05233, its released preparation of images.

    Args:
        image: any mode, any size.
        size: of the result.

    Returns:
        uint8, shape ``[3, size, size]``.
    """
    image = image.convert("RGB")
    width, height = image.size
    while min(width, height) // 2 >= size:
        width, height = width // 2, height // 2
        image = image.resize((width, height), Image.Resampling.BOX)
    scale = size / min(width, height)
    width, height = round(width * scale), round(height * scale)
    left, top = (width - size) // 2, (height - size) // 2
    small = image.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return np.asarray(small).transpose(2, 0, 1)


def read_photographs(piece: Piece) -> np.ndarray:
    """Read and shrink the photographs of a piece, uint8 ``[num, 3, 64, 64]``.

    Source: own.

    Args:
        piece: one file an image.

    Returns:
        The pixels.

    Raises:
        ValueError: if a file cannot be read, with its name.
    """
    pixels = np.empty((len(piece.files), *SHAPE), np.uint8)
    for row, file in zip(pixels, piece.files, strict=True):
        try:
            with Image.open(file) as image:
                row[:] = adm_crop(image)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{file} cannot be read: {error}") from None
    return pixels


def read_archive(piece: Piece) -> np.ndarray:
    """Read the images of an archive, uint8 ``[num, 3, 64, 64]``.

    Source: Chrabaszcz, Loshchilov and Hutter 2017, arXiv:1707.08819: rows of 12,288 numbers, red, green, blue.

    Args:
        piece: with the one file.

    Returns:
        The pixels.

    Raises:
        ValueError: if it is damaged, with its name.
    """
    rows = _array(Path(piece.files[0]), "data")
    if rows.ndim != 2 or rows.shape[1] != np.prod(SHAPE):
        raise ValueError(f"{piece.files[0]} must hold rows of {np.prod(SHAPE)} numbers, got {rows.shape}")
    return rows.reshape(-1, *SHAPE)


def _plan_photographs(source: Path, piece_size: int) -> Plan:
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    files = [
        (str(path), label)
        for label, folder in enumerate(folders)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES
    ]
    classes = [folder.name for folder in folders]
    with_images = [classes[label] for label, _ in groupby(files, key=lambda file: file[1])]
    if not files or with_images != classes:
        empty = next((name for name in classes if name not in with_images), "")
        raise ValueError(f"{source} must hold a folder of photographs for each class, or {ARCHIVES}*; see {empty!r}")
    starts = range(0, len(files), piece_size)
    parts = [files[start : start + piece_size] for start in starts]
    pieces = [Piece(s, s + len(p), tuple(name for name, _ in p)) for s, p in zip(starts, parts, strict=True)]
    labels = np.array([label for _, label in files], dtype=np.int64)
    made_from = "photographs, halved by boxes, bicubic to 64, centre cut (ADM)"
    return Plan(made_from, pieces, labels, classes, SHAPE, read_photographs)


def _plan_archives(archives: dict[int, Path]) -> Plan:
    """Plan one piece an archive, in the order of their numbers."""
    missing = sorted(set(range(1, max(archives) + 1)) - set(archives))
    if missing:
        raise ValueError(f"{ARCHIVES}{missing[0]} is missing beside {archives[max(archives)]}")
    paths = [archives[number] for number in sorted(archives)]
    numbers = [np.asarray(_array(path, "labels"), dtype=np.int64) - 1 for path in paths]  # 1 to 1000 there
    stops = np.cumsum([len(part) for part in numbers]).tolist()
    pieces = [
        Piece(stop - len(part), stop, (str(path),)) for path, part, stop in zip(paths, numbers, stops, strict=True)
    ]
    labels = np.concatenate(numbers)
    if labels.min() < 0:
        raise ValueError(f"labels in {ARCHIVES}* must begin at 1, got {labels.min() + 1}")
    classes = [str(number + 1) for number in range(labels.max() + 1)]
    return Plan("published archives of 64x64 (box)", pieces, labels, classes, SHAPE, read_archive)


def _array(path: Path, key: str) -> np.ndarray:
    """Read one array of an archive, ``.npz`` or pickled."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return arrays[key]
        return np.asarray(read_plain_pickle(path)[key])
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or no archive with data and labels: {error}") from None
