"""What each of many processes does: ``torchrun ... -m ict_lib.training.program RUN [name=value ...]``.

``RUN`` is a name such as ``imagenet64/ict``, or the path of a file that holds ``run:``. On a cluster every machine runs
the same line; :func:`ict_lib.training.launch.launch` runs it on one.
"""

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from ict_lib.config import Run, read_run, run_from
from ict_lib.files import project_root, results_folder, write_json
from ict_lib.group import Group, LostContact
from ict_lib.training.folder import read_result
from ict_lib.training.launch import CALLER, FAILURE
from ict_lib.training.loop import Training
from ict_lib.training.model import pick_device

PATIENCE = timedelta(hours=3)  # the features of ImageNet, once, by one process


def main(words: list[str], training_class: Callable[..., Training] = Training) -> None:
    """Train all that a command line asks for, as one of the processes that torchrun has started."""
    run, folders, resume = _asked(words)
    with member(run, next(iter(folders.values()))) as (run, group):
        for seed, folder in folders.items():
            from ict_lib.training.measuring import evaluate  # torch-fidelity takes a second to load

            if not (resume and read_result(folder)):
                for _ in training_class(run, seed, folder, group, resume=resume, evaluate=evaluate):
                    pass  # what it leaves in its folder is what counts


def _asked(words: list[str]) -> tuple[Run, dict[int, Path], bool]:
    """Read the command line: the run, the folder of each seed, and whether to resume."""
    parser = argparse.ArgumentParser(prog="python -m ict_lib.training.program", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("changes", nargs="*", metavar="name=value")
    parser.add_argument("--folder", type=Path, help="of the run's first seed alone")
    parser.add_argument("--anew", action="store_true", help="delete what earlier trainings have left")
    given = parser.parse_intermixed_args(words)
    run = run_from(read_run(given.run, given.changes, project_root()))
    seeds = run.seeds[:1] if given.folder else run.seeds
    folders = {seed: given.folder or results_folder(run.name) / f"seed-{seed}" for seed in seeds}
    first = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    return run, folders, not (given.anew and first)


@contextmanager
def member(run: Run, folder: Path) -> Iterator[tuple[Run, Group]]:
    """Join the processes that torchrun has started, and tell why if this one fails.

    Yields:
        The run with this process's device, and the group.
    """
    watch()
    try:
        cuda = pick_device(run.device).type == "cuda"
        run = replace(run, device=f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu")
        if cuda:
            torch.cuda.set_device(run.device)
        yield run, _join("nccl" if cuda else "gloo")
        distributed.destroy_process_group()
    except LostContact:
        raise  # torchrun starts all of them once more
    except Exception as error:
        report(folder, int(os.environ["RANK"]), repr(error), traceback.format_exc())
        os.kill(os.getppid(), signal.SIGTERM)  # a mistake: torchrun shall not start them once more
        raise


def _join(backend: str) -> Group:
    """Meet the other processes; they wait for each other as long as one of them may take to measure."""
    try:
        distributed.init_process_group(backend, timeout=PATIENCE)
    except RuntimeError as error:  # one of them was killed before it came
        raise LostContact(f"rank {os.environ['RANK']} met nobody: {error}") from error
    return Group()


def report(folder: Path, rank: int, message: str, trace: str) -> None:
    """Write down why a training failed, unless the cause is known already."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / FAILURE).exists():
        write_json(folder / FAILURE, {"rank": rank, "message": message, "traceback": trace})


def watch() -> None:
    """End torchrun and this process when their caller has gone, and this one when torchrun has gone."""
    agent, caller = os.getppid(), int(os.environ.get(CALLER, 0))

    def look() -> None:
        while os.getppid() == agent and (caller == 0 or _alive(caller)):
            time.sleep(0.1)
        if os.getppid() == agent:
            os.kill(agent, signal.SIGTERM)
            time.sleep(5)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, daemon=True).start()


def _alive(process: int) -> bool:
    """Tell whether there is such a process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
