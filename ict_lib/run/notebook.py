"""Execute a run's notebook by papermill: ``python -m ict_lib run digits/ict [--dry] [--anew] [name=value ...]``."""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ict_lib.checks import require
from ict_lib.config import Run, read_run, run_from
from ict_lib.files import Stopped, hearing, hold, project_root, results_folder

DRY_STEPS, DRY_IMAGES = 3, 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("run", help="such as digits/ict")
    parser.add_argument("changes", nargs="*", metavar="name=value", help="such as seeds=[0] recipe.dropout=0.1")
    parser.add_argument("--dry", action="store_true", help="the whole notebook in three steps at the full batch")
    parser.add_argument("--anew", action="store_true", help="train again what is trained already")


def main(given: argparse.Namespace) -> int:
    """Execute a run and return the exit code: 0 done, 1 a cell failed."""
    values = asked(given.run, given.changes, given.dry)
    run = checked(values)
    lock = hold(results_folder(run.name))
    if given.anew:
        forget(run)
    trainings = f"{len(run.seeds)} training{'s' * (len(run.seeds) > 1)} of {run.steps:,} steps"
    print(f"run {run.name}: {trainings} in {run.notebook}", file=sys.stderr)
    try:
        notebook = execute_notebook(values, run)
    except RuntimeError as error:
        print(f"{error}\nfailed: the notebook with its error is runs/{run.name}/failed.ipynb", file=sys.stderr)
        return 1
    finally:
        lock.release()
    print(f"done: {notebook.relative_to(project_root())}, with its results beside it")
    return 0


def asked(name: str, changes: list[str], dry: bool = False) -> dict[str, Any]:
    """Read a run file and apply the changes; a dry run is made short before that.

    Returns:
        The value of the notebook's parameter ``run``.

    Raises:
        ValueError: if the run is unknown or something is not of the form ``name=value``.
    """
    short = shortened(run_from(read_run(name, [], project_root()))) if dry else {}
    return read_run(name, [*(f"{field}={value}" for field, value in short.items()), *changes], project_root())


def shortened(run: Run) -> dict[str, Any]:
    """Say what a dry run changes: every cell is executed, and everything is written, but after three steps.

    The batch stays, so that memory is tried as well, and there are two quick evaluations, as two make a curve. Results
    go to ``runs/preview/<name>``, which git ignores.
    """
    measured = {"measure_every": DRY_STEPS} if run.measure_every else {}
    often = {"log_every": 1, "evaluate_every": DRY_STEPS - 1, "checkpoint_every": DRY_STEPS, **measured}
    name, seeds = f"preview/{run.name}", run.seeds[:1]
    return {**often, "name": name, "seeds": seeds, "steps": DRY_STEPS, "num_samples": DRY_IMAGES}


def checked(values: dict[str, Any]) -> Run:
    """Find every mistake that can be found before training, without loading torch.

    Raises:
        ValueError: naming what is wrong, with the nearest right name.
    """
    run = run_from(values)
    there = (project_root() / run.notebook).is_file()
    require(there, "notebook", run.notebook, "a notebook of the project")
    return run


def forget(run: Run) -> None:
    """Delete what the trainings of a run have left; its record stays until there is another.

    Raises:
        RuntimeError: if another process trains one of them.
    """
    from ict_lib.training.folder import TrainingFolder

    for seed in run.seeds:
        folder = TrainingFolder(results_folder(run.name) / f"seed-{seed}", run, seed)
        folder.empty()
        folder.release()


def execute_notebook(values: dict[str, Any], run: Run) -> Path:
    """Execute the run's notebook and keep it, as ``notebook.ipynb`` or, with its error, ``failed.ipynb``.

    A signal that asks to stop is passed on to the kernel, whose training writes a checkpoint; a second one ends it.

    Raises:
        RuntimeError: if a cell failed, or the kernel was killed; the results of an earlier run are then as they were.
        Stopped: if a signal asked for it.
    """
    import papermill  # a second that a refused run need not wait for
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync

    logging.getLogger("papermill").setLevel(logging.ERROR)
    root, folder, asked = project_root(), results_folder(run.name), []
    _set_environment(root)
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))  # ours

    def ask(number: int) -> None:
        asked.append(number)
        if len(asked) > 1 or not kernel.has_kernel:
            raise KeyboardInterrupt
        run_sync(kernel.signal_kernel)(signal.SIGTERM)

    running, source = folder / "running.ipynb", str(root / run.notebook)
    options = {"cwd": str(root), "km": kernel, "kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
    shown = {"progress_bar": False, "stderr_file": sys.stderr}  # the training's own bar, live in the terminal
    try:
        with hearing(ask):
            papermill.execute_notebook(source, str(running), {"run": values}, **options, **shown)
    except (papermill.PapermillExecutionError, RuntimeError, KeyboardInterrupt) as error:
        stopped = getattr(error, "ename", "") == "Stopped"
        if stopped or (asked and not isinstance(error, papermill.PapermillExecutionError)):
            running.unlink(missing_ok=True)
            line = error.evalue if stopped else "stopped: the same command goes on where it was"
            raise Stopped(line, *asked[:1]) from None
        running.replace(folder / "failed.ipynb")
        raise RuntimeError(str(error)) from error
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=bool(asked))
    (folder / "failed.ipynb").unlink(missing_ok=True)
    return running.replace(folder / "notebook.ipynb")


def _set_environment(root: Path) -> None:
    """Let nothing of the caller's decide what the page shows: figures, styles, start-up files, encoding."""
    os.environ.pop("MPLBACKEND", None)  # another than the kernel's own would drop the figures
    start_up = root / "_build" / "ipython"
    start_up.mkdir(parents=True, exist_ok=True)
    os.environ.update(IPYTHONDIR=str(start_up), MATPLOTLIBRC=os.devnull, PYTHONUTF8="1")
