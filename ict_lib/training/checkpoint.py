"""Checkpoints that are whole or not there: written aside, flushed, renamed, and checked by their content's hash."""

import hashlib
import io
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from ict_lib.files import Stopped, write_atomically

KEEP = 3
DIGEST = 32  # bytes of a SHA-256
MILESTONE = "-kept"


def save(folder: Path, step: int, state: dict[str, Any], milestone: bool = False) -> Path:
    """Write one checkpoint atomically; drop all but the last three and the milestones, and those of later steps.

    ``state`` holds tensors, numbers, strings, and dicts and lists of them. A ``milestone`` is never dropped. If the
    disk is full, that is an ``OSError``, and earlier checkpoints are intact.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    path = folder / f"step-{step:09d}{MILESTONE if milestone else ''}.ckpt"
    write_atomically(path, hashlib.sha256(content).digest(), content)
    written = _written(folder)
    mine = written.index(path)
    passing = [other for other in written[: mine + 1] if not other.stem.endswith(MILESTONE)]
    for other in [*passing[:-KEEP], *written[mine + 1 :], *folder.glob(".step-*")]:  # the last: of who was killed
        other.unlink()
    return path


class Writer:
    """Writes checkpoints of copies, one after another, while a CUDA device trains; a CPU would compute beside it."""

    def __init__(self):
        self._pool, self._last = ThreadPoolExecutor(1, "ict-checkpoint"), None

    def save(self, folder: Path, step: int, state: dict[str, Any], milestone: bool = False) -> None:
        """Wait for the one before, copy a state into memory of the CPU, and begin to write it."""
        self.wait()
        copy = tree_map(_copy, state)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self._last = self._pool.submit(save, folder, step, copy, milestone)
        if not torch.cuda.is_initialized():
            self.wait()

    def wait(self) -> None:
        """Wait until the last one is written; ``OSError`` if it could not be."""
        last, self._last = self._last, None
        if last:
            last.result()


def _copy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return torch.empty_like(value, device="cpu", pin_memory=value.is_cuda).copy_(value, non_blocking=True)


def newest(folder: Path | None) -> Path | None:
    """Return the newest checkpoint's file, or None where there is none."""
    return max(_written(folder), default=None) if folder else None


def _written(folder: Path) -> list[Path]:
    """Return the files of all checkpoints, the newest last."""
    return sorted(path for path in folder.glob("step-*.ckpt") if re.fullmatch(rf"step-\d+({MILESTONE})?", path.stem))


def step_of(path: Path) -> int:
    """Read from a checkpoint's name how many steps it took."""
    return int(path.stem.removeprefix("step-").removesuffix(MILESTONE))


def stopped(folder: Path | None, number: int) -> Stopped:
    """Say at which step a training stopped that a signal had asked to, and how it goes on."""
    found = newest(folder)
    kept = f"at step {step_of(found)} with a checkpoint: the same command goes on from there" if found else ""
    return Stopped(f"stopped {kept or 'without a checkpoint: the same command begins anew'}", number)


def diverged(folder: Path | None, what: str) -> FloatingPointError:
    """Say what happened, and from where the training could go on with other settings."""
    found = newest(folder)
    left = f"the last good checkpoint is {found}" if found else "there is no checkpoint"
    advice = "a lower learning_rate or precision=fp32 may help, under another name"
    return FloatingPointError(f"{what}: stopped; {left}; {advice}")


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint whose hash is right, onto the CPU; None where there is none.

    A damaged one is named in a warning and passed over.
    """
    for path in reversed(_written(folder)):
        with io.BufferedReader(_Content(path)) as content:
            if hashlib.file_digest(content, "sha256").digest() == content.raw.digest:
                content.seek(0)
                return torch.load(content, map_location="cpu", weights_only=True)
        warnings.warn(f"{path} is damaged (its checksum differs): passed over", stacklevel=2)
    return None


class _Content(io.FileIO):
    """A checkpoint's file from behind its digest, as if it began there: it need not be in memory to be read."""

    def __init__(self, path: Path):
        super().__init__(path)
        self.digest = self.read(DIGEST)

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        return super().seek(place + (DIGEST if whence == os.SEEK_SET else 0), whence) - DIGEST

    def tell(self) -> int:
        return super().tell() - DIGEST


def clear(folder: Path, milestones: bool = False) -> None:
    """Delete the checkpoints, and the milestones too if that is asked for."""
    for path in [*_written(folder), *folder.glob(".step-*")]:
        if milestones or not path.stem.endswith(MILESTONE):
            path.unlink()
