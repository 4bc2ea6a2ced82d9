"""The commands of the one door: what each takes, and what is refused before its module is loaded, and torch with it."""

import math
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path

from ict_lib.checks import require, require_known
from ict_lib.config import Run, read_run, run_from
from ict_lib.data import DATASETS
from ict_lib.data.cache import data_folder
from ict_lib.files import project_root
from ict_lib.run import record
from ict_lib.run.needs import check_device, check_network, require_package


def run(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Execute a run's notebook by papermill."""
    _take_run(parser)
    parser.add_argument("--dry", action="store_true", help="in three steps of the full batch, in runs/preview")
    parser.add_argument("--anew", action="store_true", help="train again what is trained already")
    parser.add_argument("--chapter", default="", help="such as weighting: with that technique and without, shown there")
    return parser.parse_intermixed_args(words)  # its module is as light as this one, and checks them


def _take_run(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="such as digits/ict, or a file")
    parser.add_argument("changes", nargs="*", metavar="name=value", help="such as seeds=[0] recipe.dropout=0.1")


def plan(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Say what a run takes, and what this machine lacks for it."""
    _take_run(parser)
    parser.add_argument("--devices", type=int, metavar="N", help="that train together; otherwise the run file says")
    parser.add_argument("--images-per-second", type=float, metavar="X", help="of one device; otherwise it is measured")
    parser.add_argument("--no-measure", action="store_true", help="leave out the minute of training on random images")
    given = parser.parse_intermixed_args(words)
    fast = given.images_per_second
    require(fast is None or 0 < fast < math.inf, "images-per-second", fast, "a positive number")
    if given.devices is not None:
        given.changes.append(f"processes={given.devices}")
    check_network(run_from(read_run(given.run, given.changes, project_root())))
    return given


def bench(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Measure speed and memory of this machine."""
    parser.add_argument("kind", choices=("cpu", "gpu"))
    parser.add_argument("cases", nargs="*", help="parts of names; none measures all")
    parser.add_argument("--limit", type=float, default=350, help="seconds for all")
    given = parser.parse_intermixed_args(words)
    require(0 < given.limit < math.inf, "limit", given.limit, "a positive number of seconds")
    names = case_names(given.kind)
    for word in given.cases:
        require(any(word in name for name in names), "case", word, f"a part of one of {', '.join(names)}")
    check_device("cuda" if given.kind == "gpu" else "cpu")
    return given


def case_names(kind: str) -> list[str]:
    """Name what ``bench`` measures on a ``cpu`` or a ``gpu``."""
    if kind == "cpu":
        alone = ["ceiling", "processes", "loading", "traffic", "mlp/bf16", "ncsnpp/fp32"]
        return [*alone, *(f"{name}/fp32{end}" for name in ("mlp", "small_unet") for end in ("", "/compile"))]
    trained = [f"{name}/{precision}" for name in ("ncsnpp", "adm") for precision in ("fp32", "tf32", "bf16", "fp16")]
    return ["ceiling", "loading", *trained, *(f"{name}/compile" for name in trained)]


def rounding(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Compare the rounding of each precision with what a model learns from."""
    parser.add_argument("run", help="that is finished, such as digits/ict")
    parser.add_argument("--samples", type=int, default=256, help="real images, the same for all")
    parser.add_argument("--device", default="auto")
    given = parser.parse_intermixed_args(words)
    require(1 <= given.samples <= 100_000, "samples", given.samples, "1 <= samples <= 100,000")
    left = record.read(given.run)
    left.weights()
    check_device(replace(left.run, device=given.device).device)
    DATASETS[left.run.data].require_files()
    return given


def live(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Keep a run's weights for the page, in half precision."""
    parser.add_argument("run", help="that is finished, with an MLP without labels, such as digits/live")
    parser.add_argument("--seed", type=int, help="of the training; otherwise the run's first")
    given = parser.parse_intermixed_args(words)
    left = record.read(given.run)
    left.weights(given.seed)
    check_plain(left.run)
    return given


def check_plain(run: Run) -> None:
    """Refuse a model that the page cannot compute."""
    plain = run.network == "mlp" and not run.conditional
    require(plain, "network, conditional", (run.network, run.conditional), "('mlp', False), for the page,")


def export(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Write a run's model for diffusers."""
    parser.add_argument("run", help="that is finished, such as imagenet64/ct")
    parser.add_argument("folder", type=Path, help="gets the network, the scheduler and a model card")
    parser.add_argument("--seed", type=int, help="of the training; otherwise the run's first")
    given = parser.parse_intermixed_args(words)
    left = record.read(given.run)
    left.weights(given.seed)
    require(left.run.network == "adm", "network", left.run.network, "for diffusers adm")
    _require_folder(given.folder)
    require_package("diffusers", "the export")
    return given


def data(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Fetch or pack a data set."""
    parser.add_argument("name", help=", ".join(DATASETS))
    parser.add_argument("folder", nargs="?", type=Path, help="of all data sets; otherwise ICT_DATA, or the cache")
    parser.add_argument("--source", type=Path, help="of ImageNet: photographs in a folder a class, or published .npz")
    given = parser.parse_intermixed_args(words)
    require_known("data set", given.name, DATASETS)
    entry, source, folder = DATASETS[given.name], given.source, data_folder(given.folder)
    rule = "a folder" if entry.packed else f"none, since {given.name} is not packed from one,"
    require(source is None or (entry.packed and source.is_dir()), "source", str(source), rule)
    _require_folder(folder)
    if entry.packed and source is None:
        entry.require_files(folder)
    return given


def _require_folder(path: Path) -> None:
    """Refuse a file in the place of a folder that is to be made."""
    places = path.absolute(), *path.absolute().parents
    first = next(place for place in places if place.exists() or place.is_symlink())
    require(first.is_dir(), "folder", str(path), f"a folder, which {first} is not,")


def tensorboard(parser: ArgumentParser, words: list[str]) -> Namespace:
    """Write TensorBoard's files of runs."""
    parser.add_argument("runs", nargs="+", metavar="run", help="such as digits/ict")
    given = parser.parse_intermixed_args(words)
    for name in given.runs:
        record.read(name)
    return given


COMMANDS = {  # name -> what takes and checks its words, and the module whose ``main(given)`` returns the exit code
    "run": (run, "ict_lib.run.notebook"),
    "plan": (plan, "ict_lib.scale.plan"),
    "bench": (bench, "ict_lib.scale.bench"),
    "rounding": (rounding, "ict_lib.scale.rounding"),
    "live": (live, "ict_lib.export.live"),
    "export": (export, "ict_lib.export.command"),
    "data": (data, "ict_lib.data.command"),
    "tensorboard": (tensorboard, "ict_lib.display.tensorboard"),
}
