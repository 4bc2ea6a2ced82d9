"""Execute a run: ``python -m ict_lib.run digits/ict [--dry] [name=value ...]``, or ``make run RUN=digits/ict``."""

import logging
import sys
from pathlib import Path
from typing import Any

import yaml

from ict_lib.run.record import project_root
from ict_lib.run_file import Run, find_run, run_from

DRY = "--dry"
DRY_STEPS, DRY_IMAGES = 3, 100


def parameters_of(name: str, changes: list[str], root: Path) -> dict[str, Any]:
    """Read a run file and apply changes from the command line.

    Source: own.

    Args:
        name: of the run, such as ``digits/ict``.
        changes: ``name=value`` each, the value in YAML; ``recipe.dropout=0.1`` changes one entry of a dict. ``--dry``
            makes the run short, before the other changes.
        root: top of the project.

    Returns:
        Flat parameters, as papermill takes them.

    Raises:
        ValueError: if the run is unknown or something is not of the form ``name=value``.
    """
    parameters = yaml.safe_load(find_run(name, root).read_text())
    if DRY in changes:
        parameters |= shortened(parameters)
    for change in changes:
        if change == DRY:
            continue
        key, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"{change!r} is not of the form name=value")
        outer, dot, inner = key.partition(".")
        new = yaml.safe_load(value)
        parameters[outer] = {**(parameters.get(outer) or {}), inner: new} if dot else new
    return parameters


def shortened(parameters: dict[str, Any]) -> dict[str, Any]:
    """Say what a dry run changes: every cell is executed, and everything is written, but after three steps.

    The batch stays, so that memory is tried as well, and there are two quick evaluations, as two make a curve. Results
    go to ``runs/preview/<name>``, which git ignores.

    Source: own.

    Args:
        parameters: flat, as in a run file.

    Returns:
        The parameters that differ.
    """
    measured = {"measure_every": DRY_STEPS} if parameters.get("measure_every") else {}
    often = {"log_every": 1, "evaluate_every": DRY_STEPS - 1, "checkpoint_every": DRY_STEPS, **measured}
    name, seeds = f"preview/{parameters['name']}", parameters.get("seeds", [0])[:1]
    return {**often, "name": name, "seeds": seeds, "steps": DRY_STEPS, "num_samples": DRY_IMAGES}


def check(parameters: dict[str, Any], root: Path) -> Run:
    """Find every mistake that can be found before training.

    Source: own.

    Args:
        parameters: flat, as in a run file.
        root: top of the project.

    Returns:
        The run.

    Raises:
        ValueError: naming what is wrong, with the nearest right name.
    """
    run = run_from(parameters)
    if not (root / run.notebook).is_file():
        raise ValueError(f"notebook {run.notebook!r} does not exist")
    return run


def execute(parameters: dict[str, Any], run: Run, root: Path) -> Path:
    """Execute the run's notebook and keep it, as ``notebook.ipynb`` or, with its error, ``failed.ipynb``.

    Source: own.

    Args:
        parameters: flat, as in a run file.
        run: the same, checked.
        root: top of the project.

    Returns:
        The executed notebook.

    Raises:
        papermill.PapermillExecutionError: if a cell failed; the results of an earlier run are then as they were.
    """
    import papermill  # half a second that a refused run need not wait for

    logging.getLogger("papermill").setLevel(logging.ERROR)  # it warns of "int | None"; `check` has read them all
    folder = root / "runs" / run.name
    folder.mkdir(parents=True, exist_ok=True)
    running, source = folder / "running.ipynb", str(root / run.notebook)
    shown = {"progress_bar": False, "stderr_file": sys.stderr}  # the training's own bar, live in the terminal
    try:
        papermill.execute_notebook(source, str(running), parameters, cwd=str(root), kernel_name="python3", **shown)
    except papermill.PapermillExecutionError:
        running.replace(folder / "failed.ipynb")
        raise
    return running.replace(folder / "notebook.ipynb")


def main(words: list[str]) -> int:
    """Run the command line and return its exit code: 0 done, 1 a cell failed, 2 refused."""
    root = project_root()
    try:
        if not words:
            raise ValueError("which run? for example digits/ict")
        parameters = parameters_of(words[0], words[1:], root)
        run = check(parameters, root)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    from papermill import PapermillExecutionError

    print(
        f"run {run.name}: {len(run.seeds)} training(s) of {run.config.steps:,} steps in {run.notebook}", file=sys.stderr
    )
    try:
        notebook = execute(parameters, run, root)
    except PapermillExecutionError as error:
        print(f"{error}\nfailed: the notebook with its error is runs/{run.name}/failed.ipynb", file=sys.stderr)
        return 1
    print(f"done: {notebook.relative_to(root)}, with its results beside it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
