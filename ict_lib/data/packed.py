"""A packed data set: one memory-mapped array of pixels, the labels, and a header that says what they are.

A folder with ``pixels.npy`` (uint8 ``[num, channel, height, width]``), ``labels.npy`` (int64 ``[num]``) and
``header.json``, which holds a SHA-256 of every stretch of pixels and is written last: without it the set is unfinished.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ict_lib.data.dataset import Dataset
from ict_lib.data.mapped import MappedPixels
from ict_lib.files import write_atomically

PIXELS, LABELS, HEADER = "pixels.npy", "labels.npy", "header.json"
FORMAT = "ict-packed-1"


@dataclass(frozen=True)
class Header:
    """What ``header.json`` holds.

    Source: own.

    Attributes:
        format: version of this layout.
        made_from: how the pixels were made, for people.
        shape: of the pixels, ``[num, channel, height, width]``.
        classes: the name of each class, in the order of the labels.
        labels: SHA-256 of the labels' numbers.
        pieces: ``[start, stop, SHA-256]`` of every stretch of images, without gaps.
    """

    format: str
    made_from: str
    shape: list[int]
    classes: list[str]
    labels: str
    pieces: list[list[Any]]

    def checksum(self) -> str:
        """Return a SHA-256 that stands for all the pixels. Source: own."""
        return hashlib.sha256(json.dumps([self.shape, self.pieces]).encode()).hexdigest()


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's numbers. Source: own."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def write_header(folder: Path, header: Header) -> None:
    """Write the header: the set is finished then. Source: own."""
    write_atomically(folder / HEADER, json.dumps(asdict(header)).encode())


def read_header(folder: Path, command: str) -> Header:
    """Read the header.

    Source: own.

    Args:
        folder: of the packed data set.
        command: that makes it, for the messages.

    Returns:
        The header.

    Raises:
        FileNotFoundError: if there is none: the data set was never made, or not to its end.
        ValueError: if it is damaged or of another version.
    """
    path = folder / HEADER
    if not path.is_file():
        state = "unfinished" if folder.is_dir() and any(folder.iterdir()) else "missing"
        raise FileNotFoundError(f"{path} is missing, the data set is {state}; this makes it or goes on: {command}")
    try:
        header = Header(**json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is damaged or of another version. Remove it, then: {command}") from None
    if header.format != FORMAT:
        raise ValueError(f"{path} is of version {header.format}, not {FORMAT}. Remove the folder, then: {command}")
    return header


def load_packed(folder: Path, name: str, flip: bool, command: str, check: bool = True) -> Dataset:
    """Open a packed data set; the pixels stay in their file.

    Source: own.

    Args:
        folder: of the data set.
        name: that `load_dataset` knows it by.
        flip: whether mirror images are allowed.
        command: that makes it, for the messages.
        check: compare every pixel with the checksums, which reads the whole file once.

    Returns:
        The data set.

    Raises:
        FileNotFoundError: if a file is missing, with the command.
        ValueError: if a file is damaged, cut short or of another version, with the command.
    """
    header = read_header(folder, command)
    pixels, labels = (_mapped(folder / file, command) for file in (PIXELS, LABELS))
    if list(pixels.shape) != header.shape or digest(labels) != header.labels:
        raise ValueError(f"{folder / LABELS} or {PIXELS} is not what {HEADER} says. Remove the folder, then: {command}")
    if check:
        verify(folder, header, pixels, command)
    mapped = MappedPixels(folder / PIXELS, header.checksum())
    return Dataset(mapped, torch.from_numpy(np.array(labels)), len(header.classes), name, flip)


def verify(folder: Path, header: Header, pixels: np.ndarray, command: str) -> None:
    """Compare every pixel with the checksums.

    Source: own.

    Args:
        folder: of the data set, for the message.
        header: with the checksums.
        pixels: the memory map.
        command: that makes the data set, for the message.

    Raises:
        ValueError: at the first stretch of images that differs.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
        found = pool.map(lambda piece: digest(pixels[piece[0] : piece[1]]), header.pieces)
        for (start, stop, wanted), got in zip(header.pieces, found, strict=True):
            if got != wanted:
                pool.shutdown(cancel_futures=True)
                raise ValueError(
                    f"{folder / PIXELS} is damaged in images {start} to {stop - 1}. Remove the folder, then: {command}"
                )


def _mapped(path: Path, command: str) -> np.ndarray:
    """Map an array, read-only."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing. Remove its folder, then: {command}") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}. Remove its folder, then: {command}") from None
