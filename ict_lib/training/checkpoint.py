"""Checkpoints that are whole or not there: written aside, flushed, renamed, and checked by their content's hash."""

import contextlib
import hashlib
import io
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ict_lib.checks import difference
from ict_lib.files import write_atomically
from ict_lib.run_config import RunConfig

KEEP = 3
MILESTONE = "-kept"
BEST = "best.safetensors"


def save(folder: Path, step: int, state: dict[str, Any], milestone: bool = False) -> Path:
    """Write one checkpoint atomically and drop all but the last three and the milestones, and those of later steps.

    Source: own.

    Args:
        folder: made if it is missing.
        step: training steps taken; names the file.
        state: tensors, numbers, strings, and dicts and lists of them.
        milestone: never drop it.

    Returns:
        The file.

    Raises:
        OSError: if the disk is full; earlier checkpoints are then intact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getbuffer()
    path = folder / f"step-{step:09d}{MILESTONE if milestone else ''}.ckpt"
    write_atomically(path, hashlib.sha256(content).digest(), content)
    written = sorted(folder.glob("step-*.ckpt"))
    mine = written.index(path)
    given_up = [*written[mine + 1 :], *folder.glob(".step-*")]  # by a training that started anew, or was killed
    passing = [other for other in written[: mine + 1] if not other.stem.endswith(MILESTONE)]
    for other in passing[:-KEEP] + given_up:
        other.unlink()
    return path


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint's file, or None where there is none.

    Source: own.

    Args:
        folder: where :func:`save` wrote.
    """
    return max(folder.glob("step-*.ckpt"), default=None)


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint whose hash is right; a damaged one is named in a warning and passed over.

    Source: own.

    Args:
        folder: where :func:`save` wrote.

    Returns:
        The state, on the CPU, or None where there is no good checkpoint.
    """
    for path in sorted(folder.glob("step-*.ckpt"), reverse=True):
        state = _read(path)
        if state is not None:
            return state
        warnings.warn(f"{path} is damaged (its checksum differs): the checkpoint before it is used", stacklevel=2)
    return None


def load_step(folder: Path, step: int) -> dict[str, Any] | None:
    """Read the checkpoint of one step.

    Source: own.

    Args:
        folder: where :func:`save` wrote, perhaps another process that goes on writing and deleting.
        step: training steps taken.

    Returns:
        The state, on the CPU, or None where there is no good checkpoint of that step.
    """
    try:
        return next(map(_read, folder.glob(f"step-{step:09d}*.ckpt")), None)
    except FileNotFoundError:
        return None


def delete_all(folder: Path) -> None:
    """Delete all checkpoints, so that a training begins anew.

    Source: own.

    Args:
        folder: where :func:`save` wrote.
    """
    for path in folder.glob("step-*.ckpt"):
        path.unlink()


def clear(folder: Path) -> None:
    """Delete what a finished training needs no more: all but its milestones, with their metrics, and its best weights.

    Source: own.

    Args:
        folder: of the training; goes too if nothing is left in it, and so does the one above.
    """
    kept = set(folder.glob(f"step-*{MILESTONE}.ckpt"))
    for path in set(folder.iterdir()) - kept - {folder / BEST}:
        if not kept or path.suffix == ".ckpt":
            path.unlink()
    for place in (folder, folder.parent):
        with contextlib.suppress(OSError):
            place.rmdir()


def _read(path: Path) -> dict[str, Any] | None:
    """Read a file, unless it is damaged."""
    content = path.read_bytes()
    if hashlib.sha256(content[32:]).digest() != content[:32]:
        return None
    return torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)


def of_run(config: RunConfig) -> dict[str, Any] | None:
    """Read the newest good checkpoint of a run.

    Source: own.

    Args:
        config: of the run; its folder is read.

    Returns:
        The state, or None where there is none.

    Raises:
        ValueError: if the checkpoint belongs to another configuration, with the difference.
    """
    state = load_latest(Path(config.folder))
    changed = difference(state["config"], identity(config)) if state else ""
    if changed:
        raise ValueError(
            f"the checkpoint in {config.folder} was made with other settings ({changed}): "
            "restore them, choose another name, or start anew with resume=False"
        )
    return state


def identity(config: RunConfig) -> dict[str, Any]:
    """Gather everything that decides the weights: not where they are kept, nor how often they are shown or measured.

    Source: own.

    Args:
        config: of a run.

    Returns:
        Plain values.
    """
    harmless = ("folder", "checkpoint_every", "milestone_every", "log_every", "measuring", "compile", "device")
    return {name: value for name, value in asdict(config).items() if name not in harmless}
