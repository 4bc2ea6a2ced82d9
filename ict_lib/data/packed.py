"""A packed data set: one memory-mapped array of pixels, the labels, and a header that says what they are.

A folder with ``pixels.npy`` (uint8 ``[num, channel, height, width]``), ``labels.npy`` (int64 ``[num]``) and
``header.json``, which is written last, so that the set is unfinished without it. That holds ``format``, the version of
this layout; ``made_from``, for people; ``shape`` of the pixels; ``classes``, their names; ``labels``, the SHA-256 of
their numbers; and ``pieces``, ``[start, stop, SHA-256]`` of every stretch of images, without gaps.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ict_lib.data.dataset import Dataset
from ict_lib.data.mapped import MappedPixels

PIXELS, LABELS, HEADER = "pixels.npy", "labels.npy", "header.json"
FORMAT = "ict-packed-1"


def digest(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's numbers."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def load_packed(folder: Path, name: str, flip: bool, command: str, verify: bool = False) -> Dataset:
    """Open a packed data set; the pixels stay in their file.

    The header is always compared with the labels and with the pixels' shape, type and size: this takes milliseconds,
    so that each of many processes may do it. ``verify`` compares every pixel with its checksum, too, which reads the
    whole file once.

    Raises:
        FileNotFoundError: if a file is missing, with the command that makes the data set.
        ValueError: if a file is damaged, cut short or of another version, with the command.
    """
    header = _header(folder / HEADER, command)
    pixels, labels = (_mapped(folder / file, command) for file in (PIXELS, LABELS))
    end = pixels.offset + pixels.nbytes
    whole = pixels.dtype == np.uint8 and list(pixels.shape) == header["shape"]
    if not whole or end != (folder / PIXELS).stat().st_size or digest(labels) != header["labels"]:
        raise ValueError(f"{folder / LABELS} or {PIXELS} is not what {HEADER} says. Remove the folder, then: {command}")
    if verify and (damaged := _damaged(pixels, header["pieces"])):
        raise ValueError(f"{folder / PIXELS} is damaged in images {damaged}. Remove the folder, then: {command}")
    checksum = hashlib.sha256(json.dumps([header["shape"], header["pieces"]]).encode()).hexdigest()
    mapped = MappedPixels(folder / PIXELS, checksum)
    return Dataset(mapped, torch.from_numpy(np.array(labels)), len(header["classes"]), name, flip)


def _header(path: Path, command: str) -> dict[str, Any]:
    if not path.is_file():
        state = "unfinished" if path.parent.is_dir() and any(path.parent.iterdir()) else "missing"
        raise FileNotFoundError(f"{path} is missing, the data set is {state}; this makes it or goes on: {command}")
    try:
        header = json.loads(path.read_bytes())
        starts, stops, _ = zip(*header["pieces"], strict=True)
        whole = [*starts, header["shape"][0]] == [0, *stops] and {"format", "labels", "classes"} <= header.keys()
    except (ValueError, TypeError, KeyError, IndexError):
        whole = False
    if not whole or header["format"] != FORMAT:
        raise ValueError(f"{path} is damaged or not of version {FORMAT}. Remove the folder, then: {command}")
    return header


def _damaged(pixels: np.ndarray, pieces: list[Any]) -> str:
    """Name the first stretch of images that differs from its checksum; empty if none does."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
        found = pool.map(lambda piece: digest(pixels[piece[0] : piece[1]]), pieces)
        for (start, stop, wanted), got in zip(pieces, found, strict=True):
            if got != wanted:
                pool.shutdown(cancel_futures=True)
                return f"{start} to {stop - 1}"
    return ""


def _mapped(path: Path, command: str) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing. Remove its folder, then: {command}") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged or cut short: {error}. Remove its folder, then: {command}") from None
