"""What each of many processes does, from joining the others to the last checkpoint."""

import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from ict_lib.files import write_atomically
from ict_lib.run.record import MetricsLog
from ict_lib.run_config import RunConfig
from ict_lib.group import Group, LostContact
from ict_lib.training.loop import Training
from ict_lib.training.model import pick_device

METRICS = "workers.jsonl"  # a name of its own: whoever reads the metrics may keep lines in the same folder
FAILURE = "failure.json"
PATIENCE = timedelta(hours=3)  # the features of ImageNet, once, by one process


@dataclass(frozen=True)
class Job:
    """What the processes are to do: the arguments of :func:`ict_lib.training.launch.launch`, and who asked for it."""

    config: RunConfig
    processes: int
    nodes: int
    node_rank: int
    rendezvous: str
    max_restarts: int
    work: Callable[[RunConfig], None]
    caller: int


def work(config: RunConfig, training_class: type[Training] = Training) -> None:
    """Train as one of many processes: torch elastic calls this in each of them.

    Rank 0 writes checkpoints and metrics. A process that is started once more goes on from the newest checkpoint.

    Source: own.

    Args:
        config: of the run; ``folder`` is one that all processes see.
        training_class: what is trained; tests put mutants here.
    """
    with member(config) as (config, group):
        training = training_class(config, True, group)
        last = asdict(training.last) if training.last else None
        log = MetricsLog(config.folder, training.step, last, METRICS) if group.rank == 0 else None
        for metrics in training:
            if log:
                log.append(asdict(metrics))
        group.extremes(0, 0)  # nobody leaves before the last checkpoint is written


@contextmanager
def member(config: RunConfig) -> Iterator[tuple[RunConfig, Group]]:
    """Join the processes that torch elastic has started, and tell why if this one fails.

    Source: own.

    Args:
        config: of the run.

    Yields:
        The configuration with this process's device, and the group.
    """
    watch(os.getppid(), lambda: os.kill(os.getpid(), signal.SIGKILL))
    try:
        if pick_device(config.device).type == "cuda":
            config = replace(config, device=f"cuda:{os.environ['LOCAL_RANK']}")
            torch.cuda.set_device(config.device)
        else:
            config = replace(config, device="cpu")
        yield config, _join("nccl" if "cuda" in config.device else "gloo")
        distributed.destroy_process_group()
    except LostContact:
        raise  # torch elastic starts all of them once more
    except Exception as error:
        report(Path(config.folder), int(os.environ["RANK"]), repr(error), traceback.format_exc())
        raise


def _join(backend: str) -> Group:
    """Meet the other processes; they wait for each other as long as one of them may take to measure."""
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except RuntimeError as error:  # one of them was killed before it came
        raise LostContact(f"rank {os.environ['RANK']} met nobody: {error}") from error
    return Group()


def report(folder: Path, rank: int, message: str, trace: str) -> None:
    """Write down why a training failed, unless the cause is known already.

    Source: own.

    Args:
        folder: of the run.
        rank: that failed.
        message: what happened, in a line.
        trace: the traceback, as text.
    """
    if not (folder / FAILURE).exists():
        content = {"rank": rank, "message": message, "traceback": trace}
        write_atomically(folder / FAILURE, json.dumps(content).encode())


def watch(parent: int, end: Callable[[], None], also: Path | None = None) -> None:
    """Call ``end`` when the parent of this process has gone, so that none is ever left behind.

    Source: own.

    Args:
        parent: process id.
        end: called once, in a thread.
        also: a file; when it appears, that ends it too.
    """

    def look() -> None:
        while os.getppid() == parent and not (also and also.exists()):
            time.sleep(0.1)
        end()

    threading.Thread(target=look, daemon=True).start()
