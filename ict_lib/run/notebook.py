"""Execute a run's notebook by papermill: ``python -m ict_lib run digits/ict [--dry] [--anew] [name=value ...]``."""

import argparse
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from ict_lib.checks import require
from ict_lib.config import Run, check_settings, identity, read_run, run_from, trainings_of
from ict_lib.files import RESULT, WEIGHTS, Stopped, hearing, hold, naming, project_root, read_json, results_folder
from ict_lib.run.chapter import study_of
from ict_lib.run.needs import check_needs

DRY_STEPS, DRY_IMAGES = 3, 100
FAILED = "failed.ipynb"  # a notebook with its error


def main(given: argparse.Namespace) -> int:
    """Execute a run and return the exit code: 0 done, 1 a cell failed."""
    values = asked(given.run, given.changes, given.dry, given.chapter)
    run = checked(values)
    check_machine(run, given.anew)
    lock = hold(results_folder(run.name))
    if given.anew:
        forget(run)
    number = len(trainings_of(run))
    trainings = f"{number} training{'s' * (number > 1)} of {run.steps:,} steps"
    print(f"run {run.name}: {trainings} in {run.notebook}", file=sys.stderr)
    try:
        notebook = execute_notebook(values, run)
    except RuntimeError as error:
        where = f" (runs/{run.name}/{FAILED} shows where)" if (results_folder(run.name) / FAILED).is_file() else ""
        print(f"failed: {error}{where}", file=sys.stderr)
        return 1
    except Stopped as stop:
        without = " without ANEW=1 (--anew)" * given.anew
        raise Stopped(str(stop).replace("the same command", f"the same command{without}"), stop.args[1]) from None
    finally:
        lock.release()
    print(f"done: {notebook.relative_to(project_root())}, with its results beside it")
    return 0


def asked(name: str, changes: list[str], dry: bool = False, chapter: str = "") -> dict[str, Any]:
    """Read a run file and apply the changes; then it becomes a chapter's study, and a dry run is short and apart.

    What comes out is the value of the notebook's parameter ``run``.
    """
    own, values = (read_run(name, some, project_root()) for some in ([], changes))
    if chapter:
        named = {"name": values["name"]} if values.get("name") != own.get("name") else {}
        values |= study_of(values, chapter) | named
    return values | shortened(run_from(values)) if dry else values


def shortened(run: Run) -> dict[str, Any]:
    """Say what a dry run changes: every cell is executed, and everything is written, but after three steps.

    The batch stays, so that memory is tried as well, and there are two quick evaluations, as two make a curve. Results
    go to ``runs/preview/<name>``, which git ignores.
    """
    measured = {"measure_every": DRY_STEPS} if run.measure_every else {}
    often = {"log_every": 1, "evaluate_every": DRY_STEPS - 1, "checkpoint_every": DRY_STEPS, **measured}
    short = {**often, "seeds": run.seeds[:1], "steps": DRY_STEPS, "num_samples": DRY_IMAGES}
    variants = {
        label: {**changes, **{k: v for k, v in short.items() if k in changes}}
        for label, changes in run.variants.items()
    }
    return {**short, "name": f"preview/{run.name}", "variants": variants}


def checked(values: dict[str, Any]) -> Run:
    """Build a run, and refuse every mistake in it and its notebook, without loading torch."""
    run = run_from(values)
    path, rule = Path(run.notebook), "a notebook of the project, with a cell tagged parameters,"
    inside = path.suffix == ".ipynb" and not path.is_absolute() and ".." not in path.parts
    cells = (read_json(project_root() / path) or {}).get("cells", []) if inside else []
    require(any("parameters" in cell["metadata"].get("tags", []) for cell in cells), "notebook", run.notebook, rule)
    return run


def check_machine(run: Run, anew: bool = False) -> None:
    """Refuse a run for which this machine lacks something, or whose folder holds one of other settings."""
    top = results_folder(run.name)
    trainings = {top / place: training for place, training in trainings_of(run).items()}
    done = not anew and all((place / name).is_file() for place in trainings for name in (RESULT, WEIGHTS))
    for place, (one, seed) in trainings.items():
        if seed == one.seeds[0]:
            check_needs(one, top, done)
        if not (anew or run.is_preview):
            check_settings(place, identity(one, seed))


def forget(run: Run) -> None:
    """Delete what the trainings of a run have left, but not its record; ``RuntimeError`` if a process trains one."""
    from ict_lib.training.folder import TrainingFolder

    top = results_folder(run.name)
    (top / "table.jsonl").unlink(missing_ok=True)  # of a study
    for place, (one, seed) in trainings_of(run).items():
        folder = TrainingFolder(top / place, one, seed)
        folder.empty()
        folder.release()


def execute_notebook(values: dict[str, Any], run: Run) -> Path:
    """Execute the run's notebook and keep it, as ``notebook.ipynb`` or, with its error, ``failed.ipynb``.

    A signal that asks to stop is passed on to the kernel, whose training writes a checkpoint; a second one ends it.
    ``Stopped`` is raised then; ``RuntimeError`` if a cell failed, the kernel was killed, or the notebook could not be
    written: the results of an earlier run are as they were.
    """
    import papermill  # a second that a refused run need not wait for
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_core.utils import run_sync

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    root, folder, asked = project_root(), results_folder(run.name), []
    _set_environment(root)
    kernel = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))  # ours

    def ask(number: int) -> None:
        asked.append(number)
        if len(asked) > 1 or not kernel.has_kernel:
            raise KeyboardInterrupt
        run_sync(kernel.signal_kernel)(signal.SIGTERM)

    running = folder / "running.ipynb"
    paths = [re.sub("[{}]", r"\g<0>\g<0>", str(path)) for path in (root / run.notebook, running)]  # it formats them
    options = {"cwd": str(root), "km": kernel, "kernel_name": "python3", "extra_arguments": ["--log-level=ERROR"]}
    shown = {"progress_bar": False, "stderr_file": sys.stderr}  # the training's own bar, live in the terminal
    (folder / FAILED).unlink(missing_ok=True)
    try:
        with naming(running), hearing(ask):
            papermill.execute_notebook(*paths, {"run": values}, **options, **shown)
    except (papermill.PapermillExecutionError, RuntimeError, OSError, KeyboardInterrupt) as error:
        stopped = getattr(error, "ename", "") == "Stopped"
        if stopped or (asked and not isinstance(error, papermill.PapermillExecutionError)):
            running.unlink(missing_ok=True)
            line = error.evalue if stopped else "stopped: the same command goes on where it was"
            raise Stopped(line, *asked[:1]) from None
        if running.is_file():
            running.replace(folder / FAILED)
        raise RuntimeError(why(error)) from error
    finally:
        if kernel.has_kernel:
            run_sync(kernel.shutdown_kernel)(now=bool(asked))
    return running.replace(folder / "notebook.ipynb")


def why(error: Exception) -> str:
    """Say in one line why a notebook failed, and what helps where the error does not say it."""
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    if hasattr(error, "ename"):  # of a cell
        return f"{error.ename}: {' '.join(error.evalue.split())}"
    if type(error).__name__ != "DeadKernelError":
        return f"the kernel did not start: {' '.join(str(error).split())}"
    return "the kernel was killed, as the system does who takes the last memory: a smaller micro_batch takes less"


def _set_environment(root: Path) -> None:
    """Let nothing of the caller's decide what the page shows: figures, styles, start-up files, encoding."""
    os.environ.pop("MPLBACKEND", None)  # another than the kernel's own would drop the figures
    start_up = root / "_build" / "ipython"
    start_up.mkdir(parents=True, exist_ok=True)
    os.environ.update(IPYTHONDIR=str(start_up), MATPLOTLIBRC=os.devnull, PYTHONUTF8="1")
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # sampling leaves no holes in CUDA's memory
