"""Checkpoints that are whole or not there: written aside, flushed, renamed, and checked by their content's hash."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from ict_lib.files import Stopped, write_atomically

KEEP = 3
MILESTONE = "-kept"


def save(folder: Path, step: int, state: dict[str, Any], milestone: bool = False) -> Path:
    """Write one checkpoint atomically; drop all but the last three and the milestones, and those of later steps.

    ``state`` holds tensors, numbers, strings, and dicts and lists of them. A ``milestone`` is never dropped.

    Raises:
        OSError: if the disk is full; earlier checkpoints are then intact.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    path = folder / f"step-{step:09d}{MILESTONE if milestone else ''}.ckpt"
    write_atomically(path, hashlib.sha256(content).digest(), content)
    written = sorted(folder.glob("step-*.ckpt"))
    mine = written.index(path)
    passing = [other for other in written[: mine + 1] if not other.stem.endswith(MILESTONE)]
    for other in [*passing[:-KEEP], *written[mine + 1 :], *folder.glob(".step-*")]:  # the last: of who was killed
        other.unlink()
    return path


def newest(folder: Path | None) -> Path | None:
    """Return the newest checkpoint's file, or None where there is none."""
    return max(folder.glob("step-*.ckpt"), default=None) if folder else None


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
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        warnings.warn(f"{path} is damaged (its checksum differs): the checkpoint before it is used", stacklevel=2)
    return None


def clear(folder: Path, milestones: bool = False) -> None:
    """Delete the checkpoints, and the milestones too if that is asked for."""
    for path in [*folder.glob("step-*.ckpt"), *folder.glob(".step-*")]:
        if milestones or not path.stem.endswith(MILESTONE):
            path.unlink()
