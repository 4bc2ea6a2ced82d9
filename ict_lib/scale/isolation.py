"""A case in a process of its own: its memory is its own, and running out of memory or of time ends only itself."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

LATE = "out of time"
FULL = "out of memory"


def isolated(measure: Callable[[], dict[str, Any]], limit: float) -> dict[str, Any]:
    """Call a function of a module in a new process; return what it gives within ``limit`` seconds, or ``failed``.

    The processes are copies of one that has imported everything and used no device yet, so they start at once.
    """
    if limit <= 0:
        return {"failed": LATE}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ict_lib.scale.bench"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, measure))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit) else {"failed": LATE}
    except EOFError:
        process.join()
        code = process.exitcode  # the system kills who takes the last memory
        return {"failed": FULL if code == -9 else f"ended by signal {-code}" if code < 0 else f"exit code {code}"}
    finally:
        process.kill()
        process.join()


def _answer(sender: Connection, measure: Callable[[], dict[str, Any]]) -> None:
    """Measure in the new process, and send the result or what went wrong."""
    try:
        found = measure()
    except Exception as error:  # whatever happens to one case, the others shall be measured
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
        found = {"failed": FULL if full else f"{type(error).__name__}: {error}"[:300]}
    sender.send(found)
