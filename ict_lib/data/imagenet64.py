"""ImageNet at 64x64, packed into one file of safetensors that is read through a memory map.

It holds ``pixels`` (uint8 ``[num, 3, 64, 64]``) and ``labels`` (int64 ``[num]``); of each stretch of images the index
behind its last (``stops``, int64) and its SHA-256 (``sums``, uint8 ``[stretches, 32]``); and, as text, ``format``, the
version of this layout; ``classes``, their names in JSON; and the SHA-256 of the source's file names (``names``) and of
stops and labels (``numbers``). Until it is whole it has another name, and lacks some sums.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ict_lib.data import PACKED
from ict_lib.data.cache import data_folder, fetch_command
from ict_lib.data.dataset import Dataset
from ict_lib.files import write_atomically

FILE, UNFINISHED, FORMAT = PACKED, "imagenet64.unfinished", "ict-packed-1"
TENSORS = {"stops": "I64", "labels": "I64", "sums": "U8", "pixels": "U8"}  # in the file's order
SHAPE, SUM = (3, 64, 64), 32  # bytes of a SHA-256


@dataclass(frozen=True, eq=False)
class Source:
    """All that decides a packed file."""

    names: list[str]  # of the files; they tell one source from another
    classes: list[str]  # their names
    labels: np.ndarray  # int64, shape ``[num]``
    stops: np.ndarray  # int64, the index behind the last image of each stretch
    read: Callable[[int], np.ndarray]  # gives the images of a stretch, by its number, uint8 ``[stretch, 3, 64, 64]``
    threads: int | None = None  # that may read at once; None takes one or more a core


def load(folder: str | Path | None = None, verify: bool = False) -> Dataset:
    """Open the training part; mirror images are allowed, as in ADM. Whether iCT flipped images of it is not known.

    Images are uint8 ``[num, 3, 64, 64]``, mapped from their file; 1,281,167, and labels 0 to 999, if the source was
    whole. Sizes and labels are always checked, which takes milliseconds; ``verify`` compares every pixel with its
    checksum, which reads 16 GB once. Raises as `load_dataset` does.

    Source: Russakovsky et al. 2015, arXiv:1409.0575; the file is our own.
    """
    root = data_folder(folder)
    path, command = root / FILE, f"{fetch_command('imagenet64', root)} --source SOURCE"
    if not path.is_file():
        state = "unfinished" if (root / UNFINISHED).is_file() else "missing"
        raise FileNotFoundError(f"{path} is {state}; this makes it or goes on: {command}")
    try:
        found, classes = _open(path)
        if verify and (torn := _torn(found)):
            start, stop = [0, *found["stops"].tolist()][torn[0] :][:2]
            raise ValueError(f"images {start} to {stop - 1} differ from their checksum")
        stored = hashlib.sha256(found["sums"].numpy().tobytes()).hexdigest()
        return Dataset(found["pixels"], found["labels"], len(classes), "imagenet64", True, stored)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is damaged or not of version {FORMAT}: {error}. Remove it, then: {command}") from None


def pack(folder: Path, root: Path) -> Iterator[tuple[int, int]]:
    """Pack what `imagenet64_sources.source_of` finds in a folder; iterate over the result to run it.

    It yields the images so far, those of an earlier start included, and in all. It may be stopped at any moment: the
    same call goes on with the stretches whose checksum does not yet hold. What is finished is not packed again.

    If another data set is there, finished or not, or an image cannot be read, there is a ValueError; if there is too
    little space, or a file cannot be written, an OSError.
    """
    from ict_lib.data.imagenet64_sources import source_of  # needs Pillow and torchvision, which training does not

    source, path = source_of(folder), root / UNFINISHED
    head, size = _head(source)
    if (root / FILE).is_file() and _begins(root / FILE, head):
        yield len(source.labels), len(source.labels)
        return
    at = _begin(path, head, size)
    torn = _torn(_open(path)[0])
    done = len(source.labels) - int(np.diff(source.stops, prepend=0)[torn].sum())
    yield done, len(source.labels)
    pool = ThreadPoolExecutor(source.threads)
    try:
        for num in pool.map(partial(_write, source, path, at), torn):
            done += num
            yield done, len(source.labels)
    finally:
        pool.shutdown(cancel_futures=True)
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(root / FILE)


def _open(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Map the tensors of a packed file, and return the names of the classes; no pixel is read."""
    with safe_open(path, "pt") as file:  # copy-on-write: a change stays in this process and never reaches the file
        found, about = {name: file.get_tensor(name) for name in TENSORS}, file.metadata() or {}
    numbers = hashlib.sha256(found["stops"].numpy().tobytes() + found["labels"].numpy().tobytes()).hexdigest()
    if about["format"] != FORMAT or about["numbers"] != numbers:
        raise ValueError("its labels are not what it was made with")
    return found, json.loads(about["classes"])


def _torn(found: dict[str, Tensor]) -> list[int]:
    """Number the stretches of images that differ from their checksum, or are still to come."""

    def whole(piece: Tensor, wanted: list[int]) -> bool:
        return any(wanted) and hashlib.sha256(piece.numpy()).digest() == bytes(wanted)

    pieces = found["pixels"].tensor_split(found["stops"][:-1])
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        right = list(pool.map(whole, pieces, found["sums"].tolist()))
    return [number for number, holds in enumerate(right) if not holds]


def _begins(path: Path, head: bytes) -> bool:
    """Tell whether a file is that of a source, as far as its head says."""
    with path.open("rb") as file:
        return file.read(len(head)) == head


def _begin(path: Path, head: bytes, size: int) -> int:
    """Make the file without sums and pixels, or check that it was begun so; return where the sums begin."""
    if path.with_name(FILE).exists():
        raise ValueError(f"{path.with_name(FILE)} is there already: remove it, or give another folder")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(path.parent).free) < size:
            raise OSError(f"{path.parent} has {free / 1e9:.1f} GB free, {size / 1e9:.1f} GB are needed")
        write_atomically(path, head)
    if not _begins(path, head):
        raise ValueError(f"{path} is the beginning of another data set: remove it, or give another folder")
    os.truncate(path, size)
    return len(head)


def _head(source: Source) -> tuple[bytes, int]:
    """Write all of the file that is decided before an image is read, and say how large the file will be."""
    num, stretches = len(source.labels), len(source.stops)
    numbers = source.stops.astype("<i8").tobytes() + source.labels.astype("<i8").tobytes()
    texts = {"format": FORMAT, "classes": json.dumps(source.classes)}
    texts["names"] = hashlib.sha256("\n".join(source.names).encode()).hexdigest()
    header, end = {"__metadata__": texts | {"numbers": hashlib.sha256(numbers).hexdigest()}}, 0
    shapes = [stretches], [num], [stretches, SUM], [num, *SHAPE]
    for (name, dtype), shape in zip(TENSORS.items(), shapes, strict=True):
        start, end = end, end + prod(shape) * (8 if dtype == "I64" else 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text + numbers
    return head, len(head) - len(numbers) + end


def _write(source: Source, path: Path, at: int, number: int) -> int:
    """Read a stretch and write it at its place, then its checksum; return how many images it has."""
    found = np.ascontiguousarray(source.read(number))
    start = int(source.stops[number]) - len(found)
    with path.open("r+b") as file:
        file.seek(at + SUM * len(source.stops) + prod(SHAPE) * start)
        file.write(found)
        file.seek(at + SUM * number)
        file.write(hashlib.sha256(found).digest())
    return len(found)
