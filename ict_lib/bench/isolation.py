"""A case in a process of its own: its memory is its own, and running out of memory or of time ends only itself."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

LATE = "out of time"
FULL = "out of memory"


def isolated(measure: Callable[..., dict[str, Any]], arguments: dict[str, Any], limit: float) -> dict[str, Any]:
    """Call a function in a new process and wait for what it gives.

    The processes are copies of one that has imported everything and used no device yet, so they start at once.

    Source: own.

    Args:
        measure: a function of a module.
        arguments: of the function.
        limit: seconds that it may take.

    Returns:
        What the function gave, with ``busy_elsewhere``, the cores that other programs kept busy meanwhile; or
        ``failed``, the reason.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ict_lib.bench.measures"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, measure, arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(max(0.0, limit)) else {"failed": LATE}
    except EOFError:
        process.join()
        ended = f"ended by signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
        return {"failed": FULL if process.exitcode == -9 else ended}  # the system kills who takes the last memory
    finally:
        process.kill()
        process.join()


def _answer(sender: Connection, measure: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> None:
    """Measure in the new process, and send the result or what went wrong."""
    before, started = _others_seconds(), time.monotonic()
    try:
        found = measure(**arguments)
    except Exception as error:  # whatever happens to one case, the others shall be measured
        full = isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
        sender.send({"failed": FULL if full else f"{type(error).__name__}: {error}"[:300]})
        return
    cores = None if before is None else max(0.0, _others_seconds() - before) / (time.monotonic() - started)
    sender.send({**found, "busy_elsewhere": cores})


def _others_seconds() -> float | None:
    """Return for how many seconds the cores have worked on something else than this process; None if not known."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _, _, interrupts, soft, stolen = map(int, stat.read_text().split()[1:9])
    busy = (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return busy - sum(os.times()[:4])
