"""Packing images into one array: by several processes, and going on where an interruption left it."""

import hashlib
import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ict_lib.data.packed import FORMAT, HEADER, LABELS, PIXELS, Header, digest, write_header
from ict_lib.files import write_atomically

PARTIAL, PROGRESS = "pixels.npy.partial", "progress.jsonl"


@dataclass(frozen=True)
class Piece:
    """Images that are read together and follow each other in the array.

    Source: own.

    Attributes:
        start: index of the first.
        stop: index after the last.
        files: where they come from.
    """

    start: int
    stop: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All that decides a packed data set.

    Source: own.

    Attributes:
        made_from: how the pixels are made, for people.
        pieces: in order, without gaps.
        labels: int64, shape ``[num]``.
        classes: the name of each class.
        shape: of one image.
        read: gives the pixels of a piece, uint8 ``[stop - start, *shape]``; of a module, so that processes find it.
    """

    made_from: str
    pieces: list[Piece]
    labels: np.ndarray
    classes: list[str]
    shape: tuple[int, int, int]
    read: Callable[[Piece], np.ndarray]

    def identity(self) -> str:
        """Return a SHA-256 of all this; two plans that are equal make the same files. Source: own."""
        whole = (FORMAT, self.made_from, self.classes, self.shape, digest(self.labels))
        digested = hashlib.sha256(repr(whole).encode())
        for piece in self.pieces:
            names = [os.path.join(*Path(file).parts[-2:]) for file in piece.files]
            digested.update(repr((piece.start, piece.stop, names)).encode())
        return digested.hexdigest()


def pack(plan: Plan, target: Path, workers: int = 1) -> Iterator[int]:
    """Write a packed data set; iterate over the result to run it.

    Each piece goes to its place in the array and is synchronised to the disk before it is noted in ``progress.jsonl``.
    So it may be stopped at any moment, and the same plan goes on; neither that nor ``workers`` changes a byte.

    Source: own.

    Args:
        plan: what to write.
        target: the folder; it is made.
        workers: processes; 1 works in this one.

    Yields:
        Images done since the last time, those of an earlier start included.

    Raises:
        ValueError: if the folder holds another data set, finished or not, if an image cannot be read, or
            ``workers`` < 1.
        OSError: if there is too little space, or a file cannot be written.
    """
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    if (target / HEADER).exists():
        raise ValueError(f"{target} holds a finished data set: remove it, or give another folder")
    target.mkdir(parents=True, exist_ok=True)
    done = _resume(plan, target)
    yield sum(plan.pieces[number].stop - plan.pieces[number].start for number in done)
    todo = [number for number in range(len(plan.pieces)) if number not in done]
    with (target / PROGRESS).open("a") as progress:
        for number, checksum in _each(plan, target / PARTIAL, todo, workers):
            progress.write(json.dumps([number, checksum]) + "\n")
            progress.flush()
            done[number] = checksum
            yield plan.pieces[number].stop - plan.pieces[number].start
    _finish(plan, target, done)


def _resume(plan: Plan, target: Path) -> dict[int, str]:
    """Make the files, or find the pieces that are already there: number -> checksum."""
    path, progress = target / PARTIAL, target / PROGRESS
    if progress.exists() and (target / PIXELS).exists():  # stopped between the last piece and the header
        (target / PIXELS).replace(path)
    lines = progress.read_text().split("\n") if progress.exists() else []
    if len(lines) < 2 or not path.exists():  # nothing was noted yet
        space = int(np.prod(plan.shape)) * len(plan.labels)
        free = shutil.disk_usage(target).free
        if free < space:
            raise OSError(f"{target} has {free / 1e9:.1f} GB free, {space / 1e9:.1f} GB are needed")
        with path.open("wb") as file:
            _write_npy_header(file, plan)
            file.truncate(file.tell() + space)
        write_atomically(progress, (json.dumps(plan.identity()) + "\n").encode())
        return {}
    if json.loads(lines[0]) != plan.identity():
        raise ValueError(f"{target} holds the beginning of another data set: remove it, or give another folder")
    write_atomically(progress, ("\n".join(lines[:-1]) + "\n").encode())  # the last line may have been cut
    array = np.load(path, mmap_mode="r")
    noted = dict(json.loads(line) for line in lines[1:-1])
    pieces = plan.pieces
    return {n: checksum for n, checksum in noted.items() if digest(array[pieces[n].start : pieces[n].stop]) == checksum}


def _write_npy_header(file, plan: Plan) -> None:
    description = {"descr": "|u1", "fortran_order": False, "shape": (len(plan.labels), *plan.shape)}
    np.lib.format.write_array_header_1_0(file, description)


def _each(plan: Plan, path: Path, todo: list[int], workers: int) -> Iterator[tuple[int, str]]:
    """Make pieces, in any order: number and checksum."""
    make = partial(_make, plan.read, plan.shape, str(path))
    if workers == 1:
        yield from ((number, make(plan.pieces[number])) for number in todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        pending = {pool.submit(make, plan.pieces[number]): number for number in todo}
        try:
            for future in as_completed(pending):
                yield pending.pop(future), future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _make(read: Callable[[Piece], np.ndarray], shape: tuple[int, ...], path: str, piece: Piece) -> str:
    """Read a piece and write it to its place, to the disk itself; return its checksum."""
    pixels = np.ascontiguousarray(read(piece))
    if pixels.dtype != np.uint8 or pixels.shape != (piece.stop - piece.start, *shape):
        raise ValueError(f"{piece.files[0]} gave {pixels.dtype} {pixels.shape}, not uint8 {shape}")
    with open(path, "r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(file.tell() + piece.start * pixels[0].nbytes)
        file.write(pixels.data)
        file.flush()
        os.fsync(file.fileno())
    return digest(pixels)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, even if it was killed."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _finish(plan: Plan, target: Path, done: dict[int, str]) -> None:
    """Give the array its name, then write the labels, then the header."""
    (target / PARTIAL).replace(target / PIXELS)
    labels = plan.labels.astype(np.int64)
    np.save(target / LABELS, labels)
    pieces = [[piece.start, piece.stop, done[number]] for number, piece in enumerate(plan.pieces)]
    shape = [len(labels), *plan.shape]
    write_header(target, Header(FORMAT, plan.made_from, shape, plan.classes, digest(labels), pieces))
    (target / PROGRESS).unlink()
