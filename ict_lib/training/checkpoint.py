"""Checkpoints that are whole or not there: written aside, flushed, renamed, and checked by their content's hash."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch

from ict_lib.files import write_atomically

KEEP = 3


def save(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Write one checkpoint atomically and drop all but the last three, and those of later steps.

    Source: own.

    Args:
        folder: made if it is missing.
        step: training steps taken; names the file.
        state: tensors, numbers, strings, and dicts and lists of them.

    Returns:
        The file.

    Raises:
        OSError: if the disk is full; earlier checkpoints are then intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    path = folder / f"step-{step:09d}.ckpt"
    write_atomically(path, hashlib.sha256(content).digest() + content)
    written = sorted(folder.glob("step-*.ckpt"))
    mine = written.index(path)
    given_up = [*written[mine + 1 :], *folder.glob(".step-*")]  # by a training that started anew, or was killed
    for other in written[: max(0, mine + 1 - KEEP)] + given_up:
        other.unlink()
    return path


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint whose hash is right; a damaged one is named in a warning and passed over.

    Source: own.

    Args:
        folder: where :func:`save` wrote.

    Returns:
        The state, on the CPU, or None where there is no good checkpoint.
    """
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        content = path.read_bytes()
        if hashlib.sha256(content[32:]).digest() == content[:32]:
            return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        warnings.warn(f"{path} is damaged (its checksum differs): the checkpoint before it is used", stacklevel=2)
    return None
