"""What each command of the one door takes, and what is refused before its module is loaded, and torch with it."""

import math
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ict_lib.checks import require, require_known
from ict_lib.config import read_run, require_device, run_from
from ict_lib.data import DATASETS
from ict_lib.data.cache import data_folder
from ict_lib.files import project_root
from ict_lib.run import record
from ict_lib.run.needs import check_device, check_network, require_package


class Command(NamedTuple):
    """One command."""

    module: str  # whose ``main(given)`` returns the exit code
    does: str
    words: dict[str, dict[str, Any]]  # arguments of ``ArgumentParser.add_argument``, by name
    check: Callable[[Namespace], None]  # refuses what was given


def _check_plan(given: Namespace) -> None:
    fast = given.images_per_second
    require(fast is None or 0 < fast < math.inf, "images-per-second", fast, "a positive number")
    more = [] if given.devices is None else [f"processes={given.devices}"]
    check_network(run_from(read_run(given.run, [*given.changes, *more], project_root())))


def _check_bench(given: Namespace) -> None:
    require(0 < given.limit < math.inf, "limit", given.limit, "a positive number of seconds")
    names = case_names(given.kind)
    for word in given.cases:
        require(any(word in name for name in names), "case", word, f"a part of one of {', '.join(names)}")
    check_device("cuda" if given.kind == "gpu" else "cpu")


def case_names(kind: str) -> list[str]:
    """Name what ``bench`` measures on a ``cpu`` or a ``gpu``."""
    if kind == "cpu":
        alone = ["ceiling", "processes", "loading", "mlp/bf16", "ncsnpp/fp32"]
        return [*alone, *(f"{name}/fp32{end}" for name in ("mlp", "small_unet") for end in ("", "/compile"))]
    trained = [f"{name}/{precision}" for name in ("ncsnpp", "adm") for precision in ("fp32", "tf32", "bf16", "fp16")]
    return ["ceiling", "loading", *trained, *(f"{name}/compile" for name in trained)]


def _check_rounding(given: Namespace) -> None:
    require(1 <= given.samples <= 100_000, "samples", given.samples, "1 <= samples <= 100,000")
    require_device(given.device)
    check_device(given.device)
    left = record.read(given.run)
    left.weights()
    DATASETS[left.run.data].require_files()


def _check_export(given: Namespace) -> None:
    left = record.read(given.run)
    left.weights(given.seed)
    require(left.run.network == "adm", "network", left.run.network, "for diffusers adm")
    _require_folder(given.folder)
    require_package("diffusers", "the export")


def _check_data(given: Namespace) -> None:
    require_known("data set", given.name, DATASETS)
    entry, source, folder = DATASETS[given.name], given.source, data_folder(given.folder)
    rule = f"none, since {given.name} is not packed from one,"
    require(source is None or entry.packed, "source", str(source), rule)
    require(source is None or source.is_dir(), "source", str(source), "a folder")
    _require_folder(folder)
    if entry.packed and source is None:
        entry.require_files(folder)


def _require_folder(path: Path) -> None:
    """Refuse a file in the place of a folder that is to be made."""
    places = path.absolute(), *path.absolute().parents
    first = next(place for place in places if place.exists() or place.is_symlink())
    require(first.is_dir(), "folder", str(path), f"a folder, which {first} is not,")


def _check_tensorboard(given: Namespace) -> None:
    for name in given.runs:
        record.read(name)


RUN: dict[str, dict[str, Any]] = {
    "run": {"help": "such as digits/ict, or a file"},
    "changes": {"nargs": "*", "metavar": "name=value", "help": "such as seeds=[0] recipe.dropout=0.1"},
}
COMMANDS = {
    "run": Command(
        "ict_lib.run.notebook",
        "execute a run's notebook by papermill",
        RUN
        | {
            "--dry": {"action": "store_true", "help": "the whole notebook in three steps at the full batch"},
            "--anew": {"action": "store_true", "help": "train again what is trained already"},
        },
        lambda given: None,  # its module is as light as this one
    ),
    "plan": Command(
        "ict_lib.scale.plan",
        "say what a run takes, and what this machine lacks for it",
        RUN
        | {
            "--devices": {"type": int, "metavar": "N", "help": "that train together; otherwise the run file says"},
            "--images-per-second": {"type": float, "metavar": "X", "help": "of one device; otherwise it is measured"},
            "--no-measure": {"action": "store_true", "help": "leave out the minute of training on random images"},
        },
        _check_plan,
    ),
    "bench": Command(
        "ict_lib.scale.bench",
        "measure speed and memory of this machine",
        {
            "kind": {"choices": ("cpu", "gpu")},
            "cases": {"nargs": "*", "help": "parts of names; none measures all"},
            "--limit": {"type": float, "default": 350, "help": "seconds for all"},
        },
        _check_bench,
    ),
    "rounding": Command(
        "ict_lib.scale.rounding",
        "compare the rounding of each precision with what a model learns from",
        {
            "run": {"help": "that is finished, such as digits/ict"},
            "--samples": {"type": int, "default": 256, "help": "real images, the same for all"},
            "--device": {"default": "auto"},
        },
        _check_rounding,
    ),
    "export": Command(
        "ict_lib.export.command",
        "write a run's model for diffusers",
        {
            "run": {"help": "that is finished, such as digits/adm-small"},
            "folder": {"type": Path, "help": "gets the network, the scheduler and a model card"},
            "--seed": {"type": int, "help": "of the training; otherwise the run's first"},
        },
        _check_export,
    ),
    "data": Command(
        "ict_lib.data.command",
        "fetch or pack a data set",
        {
            "name": {"help": ", ".join(DATASETS)},
            "folder": {"nargs": "?", "type": Path, "help": "of all data sets; otherwise ICT_DATA, or the cache"},
            "--source": {"type": Path, "help": "of ImageNet: photographs in a folder a class, or published .npz"},
        },
        _check_data,
    ),
    "tensorboard": Command(
        "ict_lib.display.tensorboard",
        "write TensorBoard's files of runs",
        {"runs": {"nargs": "+", "metavar": "run", "help": "such as digits/ict"}},
        _check_tensorboard,
    ),
}
