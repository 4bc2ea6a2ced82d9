"""Packing images into one array: by several processes, and going on where an interruption left it."""

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader

from ict_lib.data.packed import FORMAT, HEADER, LABELS, PIXELS, digest
from ict_lib.files import write_atomically

PROGRESS = "progress.jsonl"


@dataclass(frozen=True, eq=False)
class Source:
    """All that decides a packed data set; an item is a stretch of images, or what is wrong with a file of it.

    Attributes:
        made_from: how the pixels are made, for people.
        shape: of one image.
        labels: int64, shape ``[num]``.
        classes: their names.
        names: of the images or files; they tell one source from another.
        read: gives images from a first to before a last, uint8 ``[stop - start, *shape]``.
        parallel: whether other processes may read, too; ``read`` must then be picklable.
        stretch: images that are read, checksummed and synchronised to the disk together.
    """

    made_from: str
    shape: tuple[int, int, int]
    labels: np.ndarray
    classes: list[str]
    names: list[str]
    read: Callable[[int, int], np.ndarray]
    parallel: bool = False
    stretch: int = 1024

    def __len__(self) -> int:
        return -(-len(self.labels) // self.stretch)

    def bounds(self, number: int) -> tuple[int, int]:
        """Return the first image of a stretch, and the one after its last."""
        return number * self.stretch, min((number + 1) * self.stretch, len(self.labels))

    def __getitem__(self, number: int) -> np.ndarray | ValueError:
        try:
            return np.ascontiguousarray(self.read(*self.bounds(number)), dtype=np.uint8)
        except ValueError as error:
            return error  # not raised, so that its message arrives as it is from another process

    def identity(self) -> str:
        """Return a SHA-256 of all this; two sources that are equal make the same files."""
        whole = (FORMAT, self.made_from, self.shape, digest(self.labels), self.classes, self.names, self.stretch)
        return hashlib.sha256(repr(whole).encode()).hexdigest()


def pack(source: Source, target: Path, workers: int = 0) -> Iterator[int]:
    """Write a packed data set into a folder; iterate over the result to run it.

    Each stretch is synchronised to the disk before it is noted in ``progress.jsonl``, and the header is written last.
    So it may be stopped at any moment, and the same source goes on; neither that nor ``workers`` changes a byte: these
    are processes that read beside this one, if the source allows it, and end with it.

    Yields:
        Images done so far, those of an earlier start included.

    Raises:
        ValueError: if the folder holds another data set, finished or not, or an image cannot be read.
        OSError: if there is too little space, or a file cannot be written.
    """
    if (target / HEADER).exists():
        raise ValueError(f"{target} holds a finished data set: remove it, or give another folder")
    target.mkdir(parents=True, exist_ok=True)
    sums = _resume(source, target)
    yield source.bounds(len(sums) - 1)[1]
    loader = _loader(source, range(len(sums), len(source)), workers if source.parallel else 0)
    with (target / PIXELS).open("ab") as pixels, (target / PROGRESS).open("a") as progress:
        for found in loader:
            if isinstance(found, ValueError):
                raise found
            pixels.write(found.data)
            pixels.flush()
            os.fsync(pixels.fileno())
            sums.append(digest(found))
            progress.write(f"{sums[-1]}\n")
            progress.flush()
            yield source.bounds(len(sums) - 1)[1]
    _finish(source, target, sums)


def _loader(source: Source, numbers: range, workers: int) -> DataLoader:
    """Read stretches in order."""
    return DataLoader(
        source,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        collate_fn=_same,
        worker_init_fn=_end_with_parent,
        generator=torch.Generator(),  # the caller's is not drawn from
    )


def _same(stretch: np.ndarray | ValueError) -> np.ndarray | ValueError:
    return stretch  # no tensor, which would go through shared memory, of which containers have little


def _end_with_parent(number: int) -> None:
    """End this process when the one that started it is gone: torch's own watch hangs on what nobody reads."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _resume(source: Source, target: Path) -> list[str]:
    """Begin the files, or cut them behind what is there and right: the checksums of the stretches so far."""
    path, progress, identity = target / PIXELS, target / PROGRESS, source.identity()
    noted = progress.read_text().split("\n")[:-1] if progress.exists() else []  # the last line may have been cut
    shape, sums = (len(source.labels), *source.shape), []
    if not noted or not path.exists():
        _require_space(target, prod(shape))
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    elif noted[0] != identity:
        raise ValueError(f"{target} holds the beginning of another data set: remove it, or give another folder")
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        end = file.tell()
        for number, wanted in enumerate(noted[1:]):
            start, stop = source.bounds(number)
            content = file.read((stop - start) * prod(source.shape))
            if hashlib.sha256(content).hexdigest() != wanted:
                break
            sums, end = [*sums, wanted], end + len(content)
        file.truncate(end)
    write_atomically(progress, "".join(f"{line}\n" for line in [identity, *sums]).encode())
    return sums


def _require_space(target: Path, space: int) -> None:
    free = shutil.disk_usage(target).free
    if free < space:
        raise OSError(f"{target} has {free / 1e9:.1f} GB free, {space / 1e9:.1f} GB are needed")


def _finish(source: Source, target: Path, sums: list[str]) -> None:
    """Write the labels, then the header."""
    labels = source.labels.astype("<i8")
    np.save(target / LABELS, labels)
    header = {
        "format": FORMAT,
        "made_from": source.made_from,
        "shape": [len(labels), *source.shape],
        "classes": source.classes,
        "labels": digest(labels),
        "pieces": [[*source.bounds(number), found] for number, found in enumerate(sums)],
    }
    write_atomically(target / HEADER, json.dumps(header).encode())
    (target / PROGRESS).unlink()
