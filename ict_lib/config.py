"""A run: one flat set of fields and a recipe. A YAML in ``runs/``, a notebook's parameter and a manifest hold it alike.

Read and checked without loading torch, so that a mistake is found at once.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ict_lib.checks import check_types, difference, override, require, require_known
from ict_lib.files import IDENTITY, parse_yaml, read_json, read_text, run_names
from ict_lib.networks.options import check_network_options
from ict_lib.recipe import ICT, PRESETS, Recipe

MARKS = {
    "A": "read in released code or in the poster",
    "B": "read in a second source",
    "C": "derived here and checked",
    "M": "from memory, not from the paper",
    "own": "our own choice",
}


@dataclass(frozen=True)
class Run:
    """Everything that a run needs; the defaults are those of the digits on a laptop.

    A value of the wrong type or out of range is refused with the rule.
    """

    name: str = "preview"  # results go to ``runs/<name>/``
    notebook: str = "book/reproduce.ipynb"  # that papermill executes, from the top of the project
    preset: Literal["CT", "ICT", "ICT_DEEP"] = "ICT"  # the recipe to start from
    recipe: Recipe = ICT  # the design choices
    data: Literal["ring", "two_moons", "spiral", "checkerboard", "digits", "fashion_mnist", "cifar10", "imagenet64"] = (
        "digits"
    )
    network: Literal["mlp", "small_unet", "ncsnpp", "adm"] = "mlp"  # the raw network
    network_options: dict = field(default_factory=dict)  # the network's own arguments, such as ``{"width": 256}``
    conditional: bool = False  # give the network the labels
    seeds: list = field(default_factory=lambda: [0])  # one training each; a seed decides everything random in it
    steps: int = 6000  # training steps, K
    batch_size: int = 256  # samples a step
    # samples of a shard, the piece of a batch with randomness of its own that one process works on at a time; None
    # takes the share of one process
    micro_batch: int | None = None
    learning_rate: float = 6e-4  # of RAdam, constant
    ema_decay: float = 0.998  # of the averaged weights that are sampled, a step
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"  # of the passes of training; all else is fp32
    compile: bool = False  # let ``torch.compile`` make one program of each pass
    device: str = "auto"  # ``auto`` takes an accelerator if there is one; otherwise torch's name of a device
    processes: int = 1  # that train together on this machine; on several machines ``torchrun`` says how many
    log_every: int = 50  # steps from one line of metrics to the next
    checkpoint_every: int = 1000  # steps from one checkpoint to the next. The last three are kept
    milestone_every: int | None = None  # steps from one checkpoint that is kept for good to the next; None keeps none
    evaluate_every: int = 300  # steps between two quick evaluations (Frechet distance on pixels, a few samples)
    measure_every: int | None = None  # steps between two FIDs of one step, with the best weights kept; None keeps none
    num_samples: int = 2000  # images drawn for each FID, and for each full measurement at the end
    sigma_mid: float = 0.821  # noise level of the second step; 0.821 is the paper's on CIFAR-10 [B]
    tensorboard: bool = False  # write TensorBoard's files too
    mistake: str = ""  # of a study: a wrong reading to train with, one of :data:`ict_lib.run.mistakes.MISTAKES`
    # of a study: label -> fields that differ; each is trained with each of its seeds, and all go into one table
    variants: dict = field(default_factory=dict)
    # field, or ``recipe.dropout`` and the like -> where its value comes from: one of ``MARKS``, and a note
    sources: dict = field(default_factory=dict)

    def __post_init__(self):
        check_types(self)
        fits = len(self.name) <= 200 and re.fullmatch(
            r"(?!bench(?:/|$))[a-z0-9-]{1,100}(/[a-z0-9-]{1,100})*", self.name
        )
        rule = "lower-case words, digits and dashes, parted by slashes, 100 a part and 200 in all at most, not bench,"
        require(bool(fits), "name", self.name, rule)
        whole = bool(self.seeds) and all(type(seed) is int and 0 <= seed < 2**63 for seed in self.seeds)
        distinct = whole and len(set(self.seeds)) == len(self.seeds)
        require(distinct, "seeds", self.seeds, "a list of different whole numbers, 0 <= seed < 2^63,")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            require(value is None or low <= value <= high, name, value, f"{low:,} <= {name} <= {high:,}")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 <= ema_decay < 1")
        low, high = self.recipe.sigma_min, self.recipe.sigma_max
        require(low <= self.sigma_mid < high, "sigma_mid", self.sigma_mid, f"{low} <= sigma_mid < {high}")
        fits = re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:\d{1,4})?", self.device) is not None
        require(fits, "device", self.device, "auto, cpu, cuda, cuda:0, mps or xpu")
        check_network_options(self.network, self.network_options)
        part, size = self.micro_batch, self.batch_size
        require(part is None or size % part == 0, "micro_batch", part, f"a positive divisor of batch_size = {size}")
        check_processes(self, self.processes)
        for name, source in self.sources.items():
            mark = str(source).split(" ")[0]
            require(mark in MARKS, f"the source of {name}", source, f"one of {', '.join(MARKS)}, and perhaps a note,")
        variants_of(self)  # refuses what one of them cannot be

    @property
    def is_preview(self) -> bool:
        """Whether its results lie below ``preview``: only the same code goes on with them."""
        return self.name.split("/")[0] == "preview"

    @property
    def shard_size(self) -> int:
        """Samples of a shard."""
        return self.micro_batch or self.batch_size // self.processes

    @property
    def num_shards(self) -> int:
        """Shards a batch."""
        return self.batch_size // self.shard_size

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as JSON gives them back; :func:`run_from` makes the same run of them."""
        return json.loads(json.dumps(asdict(self)))


EVERY = ("log_every", "checkpoint_every", "milestone_every", "evaluate_every", "measure_every")
RANGES = {  # far around every published value
    **dict.fromkeys(("steps", *EVERY), (1, 10**9)),
    **dict.fromkeys(("batch_size", "micro_batch"), (1, 10**6)),
    "processes": (1, 10**4),
    "learning_rate": (1e-9, 10.0),
    "num_samples": (10, 10**7),
}
EVALUATION = ("num_samples", "sigma_mid")  # what the numbers at the end depend on, besides the weights
# What does not decide the weights: where they are kept, how they are computed, shown, and measured.
SHOWN = ("name", "notebook", "preset", "tensorboard", "sources", "variants")
HARMLESS = (*SHOWN, *EVALUATION, *EVERY, "seeds", "micro_batch", "processes", "device", "compile")


def check_processes(run: Run, processes: int) -> None:
    """Refuse a number of processes that would not get equally many shards; say which ``micro_batch`` would fit."""
    require(processes >= 1, "processes", processes, "processes >= 1")
    size, part = run.batch_size, run.micro_batch or run.batch_size // run.processes or 1
    if size % part == 0 and size // part % processes == 0:
        return
    fit = next((m for m in range(part, 0, -1) if size % m == 0 and size // m % processes == 0), None)
    advice = f"micro_batch={fit} would fit" if fit else f"batch_size must be a multiple of {processes}"
    raise ValueError(f"a batch of {size} in shards of {part} cannot be shared by {processes} processes: {advice}")


def run_from(values: dict[str, Any], beside: Iterable[str] = ()) -> Run:
    """Build a run from plain values, field -> value: those of a YAML, a notebook's parameter or a manifest.

    ``recipe`` is a dict of fields that differ from the preset. An unknown name is refused with the nearest right one,
    and so is a field among the names that a notebook was given ``beside`` the run: it would have no effect there.
    """
    require(isinstance(values, dict), "run", values, "a dict of fields")
    known = [field.name for field in fields(Run)]
    stray = next((name for name in known if name in beside), "")
    require(not stray, "a parameter beside run", stray, f"none: `-y 'run: {{{stray}: ...}}'`, or RUN and SET of make,")
    for name in values:
        require_known("parameter", name, known)
    preset, changes = values.get("preset", Run.preset), values.get("recipe") or {}
    require_known("preset", preset, PRESETS)
    require(isinstance(changes, dict), "recipe", changes, "a dict of fields to change, such as {dropout: 0.1},")
    return Run(**{**values, "recipe": override(PRESETS[preset], changes)})


def variants_of(run: Run) -> dict[str, Run]:
    """Make the runs of a study, by their labels; a variant with a ``preset`` of its own starts from that recipe."""
    whole, made = run.to_dict() | {"variants": {}}, {}
    for label, changes in run.variants.items():
        named = isinstance(label, str) and re.fullmatch(r"[a-z0-9.+-]*[a-z0-9]", label) is not None
        require(named, "the label of a variant", label, "lower-case letters, digits, dots and dashes")
        require(isinstance(changes, dict), f"variant {label}", changes, "a dict of fields")
        own = [name for name in ("name", "notebook", "variants") if name in changes]
        require(not own, f"what variant {label} changes", own, "neither name, notebook nor variants")
        before, recipe = {} if "preset" in changes else whole["recipe"], changes.get("recipe") or {}
        require(isinstance(recipe, dict), f"the recipe of variant {label}", recipe, "a dict of fields")
        made[label] = run_from({**whole, **changes, "recipe": {**before, **recipe}})
    return made


def trainings_of(run: Run) -> dict[str, tuple[Run, int]]:
    """Map the folder of each training of a run, below that of its results, to what is trained and with which seed."""
    runs = {f"{label}/": one for label, one in variants_of(run).items()} or {"": run}
    return {f"{label}seed-{seed}": (one, seed) for label, one in runs.items() for seed in one.seeds}


def identity(run: Run, seed: int) -> dict[str, Any]:
    """Gather everything that decides the weights of one training, as plain values."""
    values = run.to_dict().items()
    decisive = {name: value for name, value in values if name not in HARMLESS and (name != "mistake" or value)}
    return {**decisive, "seed": seed, "shard_size": run.shard_size}


def check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder whose training, finished or not, has another :func:`identity`; say the difference."""
    theirs = read_json(path / IDENTITY)
    changed = difference(theirs, settings) if theirs else ""
    if changed:
        shards_alone = "shard_size: " in changed and "batch_size: " not in changed
        part = theirs.get("shard_size") if shards_alone else None
        keep = f"; micro_batch={part} keeps the shards" if part else ""
        raise ValueError(
            f"what is in {path} was made with other settings ({changed}{keep}): restore them, choose another name, "
            "delete that folder, or start all of the run anew (ANEW=1 of make run, --anew, resume=False in Python)"
        )


def read_run(name: str, changes: list[str], root: Path) -> dict[str, Any]:
    """Read a run file, apply changes from a command line, and return the value of the notebook's parameter ``run``.

    ``name`` is such as ``digits/ict``, below the project's top, ``root``, or the path of a YAML or JSON file; an
    unknown one is refused with the nearest. A change is ``name=value``, the value in YAML; ``recipe.dropout=0.1``
    changes one entry of a dict.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".json"):
        require_known("run", name, run_names(root))
        path = root / "runs" / f"{name}.yaml"
    whole = parse_yaml(read_text(path), str(path))
    values = whole.get("run") if isinstance(whole, dict) else None
    rule = "a mapping of fields, as in runs/digits/ict.yaml,"
    require(isinstance(values, dict), f"run in {path}", values, rule)
    beside = [key for key in whole if key != "run"] if path.suffix == ".yaml" else []  # a manifest holds more
    require(not beside, f"what is beside run in {path}", beside, "nothing")
    text = " ".join(changes).strip()  # a value may hold spaces: a change begins where a name and "=" stand
    for change in re.split(r"\s+(?=[^\s=,:'\"\[\]{}]+=)", text) if text else ():
        key, equals, text = change.partition("=")
        require(bool(equals), "a change", change, "name=value")
        outer, dot, inner = key.partition(".")
        value, there = parse_yaml(text, change), values.get(outer) or {}
        require(not dot or isinstance(there, dict), outer, there, f"a mapping, to change {inner} in it,")
        values[outer] = {**there, inner: value} if dot else value
    return values
