"""One training a folder: a lock that its agent holds while it lives."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "running"


@contextmanager
def hold(folder: Path, caller: int) -> Iterator[None]:
    """Hold the lock of a folder; the system gives it back when this process ends, however it ends.

    Source: own.

    Args:
        folder: of a run.
        caller: process that this one trains for.

    Raises:
        BlockingIOError: if another process holds it.
    """
    with (folder / NAME).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"{os.getpid()} {caller}")
        file.flush()
        yield


def make_free(folder: Path, patience: float = 20) -> None:
    """End a training in this folder that this very process has begun and forgotten, in a notebook for example.

    Source: own.

    Args:
        folder: of a run; need not exist.
        patience: seconds.

    Raises:
        RuntimeError: if a training of somebody else is under way there.
    """
    told, deadline = False, time.monotonic() + patience
    while (holder := _holder(folder)) is not None:
        agent, caller = holder
        if caller not in (0, os.getpid()) or time.monotonic() > deadline:
            raise RuntimeError(f"process {agent} trains in {folder} already: end it, or choose another name")
        if agent and not told:
            os.kill(agent, signal.SIGTERM)
            told = True
        time.sleep(0.1)


def _holder(folder: Path) -> tuple[int, int] | None:
    """Read which agent holds the lock, and for whom; zeros if it has not said yet; None if the lock is free."""
    if not (folder / NAME).exists():
        return None
    with (folder / NAME).open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            words = file.read().split()
            return (int(words[0]), int(words[1])) if len(words) == 2 else (0, 0)
    return None
