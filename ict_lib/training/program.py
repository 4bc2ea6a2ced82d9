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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import distributed

from ict_lib.checks import require
from ict_lib.config import Run, identity, read_run, run_from
from ict_lib.files import Stopped, project_root, results_folder, write_json
from ict_lib.group import Group, LostContact
from ict_lib.training.folder import finished
from ict_lib.training.launch import CALLER, FAILURE
from ict_lib.training.loop import Training
from ict_lib.training.model import pick_device


def main(words: list[str], training_class: Callable[..., Training] = Training) -> None:
    """Train all that a command line asks for, as one of the processes that torchrun has started.

    If another process is lost, torchrun starts all of them once more; after a mistake it does not. Asked to stop by a
    signal, all write a checkpoint after the same step and end, with 128 and the signal's number as exit code.
    """
    watch(os.getppid(), int(os.environ.get(CALLER, 0)))
    folders: dict[int, Path] = {}
    try:
        run, folders = _asked(words)
        run, group = _join(run)
        if group.rank == 0 and not os.environ.get(CALLER):  # no caller has cleared what an earlier job has left
            next(iter(folders.values())).joinpath(FAILURE).unlink(missing_ok=True)
        from ict_lib.evaluation.measure import prepare
        from ict_lib.training.measuring import evaluate  # torch-fidelity takes a second to load

        if group.rank == 0:
            prepare(run.data)  # what measures the images must be there before hours of training, not after
        for seed, folder in folders.items():
            if not group.share(finished(folder, identity(run, seed))):  # others may see another machine's files late
                for _ in training_class(run, seed, folder, group, evaluate=evaluate):
                    pass  # what it leaves in its folder is what counts
        distributed.destroy_process_group()
    except LostContact:
        raise
    except Stopped as stop:
        sys.exit(128 + stop.args[1])
    except Exception as error:
        traceback.print_exc()
        _report(folders, error)
        os.kill(os.getppid(), signal.SIGTERM)
        sys.exit(1)


def _asked(words: list[str]) -> tuple[Run, dict[int, Path]]:
    """Read the command line: the run, and the folder of each seed."""
    parser = argparse.ArgumentParser(prog="python -m ict_lib.training.program", description=__doc__)
    parser.add_argument("run")
    parser.add_argument("changes", nargs="*", metavar="name=value")
    parser.add_argument("--folder", type=Path, help="of the run's first seed alone")
    given = parser.parse_intermixed_args(words)
    run = run_from(read_run(given.run, given.changes, Path() if given.folder else project_root()))
    for name in ("variants", "mistake"):
        require(not getattr(run, name), name, getattr(run, name), "none: `make run` trains a study,")
    if given.folder:
        return run, {run.seeds[0]: given.folder}
    return run, {seed: results_folder(run.name) / f"seed-{seed}" for seed in run.seeds}


def _join(run: Run) -> tuple[Run, Group]:
    """Take a device, and meet the other processes."""
    cuda = pick_device(run.device).type == "cuda"
    run = replace(run, device=f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu")
    if cuda:
        torch.cuda.set_device(run.device)
    return run, Group("nccl" if cuda else "gloo")


def _report(folders: dict[int, Path], error: Exception) -> None:
    """Write down why a training failed, for its caller, unless the cause is known already."""
    for folder in list(folders.values())[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / FAILURE).exists():
            left = {"rank": int(os.environ["RANK"]), "message": repr(error), "traceback": traceback.format_exc()}
            write_json(folder / FAILURE, left)


def watch(parent: int, caller: int = 0) -> None:
    """End this process when its parent has gone; when the ``caller`` has gone, who started the parent, end that too.

    Both arguments are numbers of processes. A training has five seconds for a checkpoint.
    """

    def look() -> None:
        while os.getppid() == parent and (caller == 0 or _alive(caller)):
            time.sleep(0.1)
        if os.getppid() == parent != 1:  # which takes over those whose parent has gone
            os.kill(parent, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


def _alive(process: int) -> bool:
    """Tell whether there is such a process of this user."""
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(sys.argv[1:])
