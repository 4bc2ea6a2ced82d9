"""A run: the file in ``runs/``, or a notebook's parameters; read and checked without loading torch."""

import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ict_lib.checks import check_types, nearest, override, require
from ict_lib.recipe import PRESETS
from ict_lib.run_config import Measuring, RunConfig


@dataclass(frozen=True)
class Run:
    """A run file: which notebook, which trainings, and how much is sampled.

    Source: own.

    Attributes:
        name: of the run; results go to ``runs/<name>/``.
        notebook: that papermill executes, from the top of the project.
        preset: the recipe to start from.
        seeds: one training each.
        num_samples: images drawn for each evaluation.
        sigma_mid: noise level of the second step; 0.821 is the paper's on CIFAR-10.
        evaluate_every: steps between two quick evaluations (Frechet distance on pixels, one step).
        measure_every: steps between two full measurements by all processes, with the best kept; None: at the end alone.
        processes: that train together on each machine.
        nodes: machines; the others execute :mod:`ict_lib.run.join`.
        rendezvous: ``host:port`` of the first machine, if there are several.
        tensorboard: write TensorBoard's files too.
        config: of each training, but for its seed.

    Raises:
        ValueError: if a value has the wrong type or is out of range, with the rule.
    """

    name: str = "preview"
    notebook: str = "book/reproduce.ipynb"
    preset: Literal["CT", "ICT", "ICT_DEEP"] = "ICT"
    seeds: list = field(default_factory=lambda: [0])
    num_samples: int = 2000
    sigma_mid: float = 0.821
    evaluate_every: int = 300
    measure_every: int | None = None
    processes: int = 1
    nodes: int = 1
    rendezvous: str = "127.0.0.1:0"
    tensorboard: bool = False
    config: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self):
        check_types(self)
        rule = "lower-case words, digits and dashes, parted by slashes,"
        require(re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+)*", self.name) is not None, "name", self.name, rule)
        whole = all(type(seed) is int and seed >= 0 for seed in self.seeds)
        require(
            whole and len(set(self.seeds)) == len(self.seeds) > 0,
            "seeds",
            self.seeds,
            "a list of different whole numbers",
        )
        require(self.num_samples > 1, "num_samples", self.num_samples, "num_samples > 1")
        low, high = self.config.recipe.sigma_min, self.config.recipe.sigma_max
        require(low <= self.sigma_mid < high, "sigma_mid", self.sigma_mid, f"{low} <= sigma_mid < {high}")
        for name in ("evaluate_every", "measure_every", "processes", "nodes"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, f"{name} > 0")
        shards = self.config.num_shards if self.config.micro_batch else self.config.batch_size
        rule = f"a divisor of the {shards} shards or samples of a batch"
        require(shards % self.all_processes == 0, "processes times nodes", self.all_processes, rule)

    @property
    def all_processes(self) -> int:
        """Processes of all machines together."""
        return self.processes * self.nodes

    def configs(self, results: Path | None = None) -> list[RunConfig]:
        """Return one training's configuration a seed; checkpoints go under ``results``, if it is given.

        Many processes share the batch out equally where ``micro_batch`` says nothing else, and leave a checkpoint
        for each quick evaluation.
        """
        every = self.measure_every
        config = replace(self.config, measuring=Measuring(every, self.num_samples, self.sigma_mid) if every else None)
        if self.all_processes > 1:
            part = config.micro_batch or config.batch_size // self.all_processes
            config = replace(
                config, micro_batch=part, checkpoint_every=min(config.checkpoint_every, self.evaluate_every)
            )
        folders = {seed: str(results / "checkpoints" / f"seed-{seed}") if results else None for seed in self.seeds}
        return [replace(config, seed=seed, folder=folder) for seed, folder in folders.items()]


OF_THE_RUN = tuple(f.name for f in fields(Run) if f.name != "config")
FROM_THE_RUN = ("recipe", "seed", "measuring", "folder")  # of a training's configuration
OF_THE_TRAINING = tuple(f.name for f in fields(RunConfig) if f.name not in FROM_THE_RUN)
PARAMETERS = (*OF_THE_RUN, "recipe", *OF_THE_TRAINING)


def run_from(parameters: dict[str, Any]) -> Run:
    """Build a run from flat parameters: those of a run file, or of a notebook.

    Source: own.

    Args:
        parameters: name -> value; ``recipe`` is a dict of fields that differ from the preset.

    Returns:
        The run, checked.

    Raises:
        ValueError: if a name is unknown, with the nearest right one, or a value is refused.
    """
    for name in parameters:
        if name not in PARAMETERS:
            raise ValueError(f"unknown parameter {name!r}: {nearest(str(name), list(PARAMETERS))}")
    preset = Run(preset=parameters.get("preset", Run.preset)).preset
    changes = parameters.get("recipe") or {}
    require(isinstance(changes, dict), "recipe", changes, "a dict of fields to change, such as {dropout: 0.1},")
    recipe = override(PRESETS[preset], changes)
    settings = {name: parameters[name] for name in OF_THE_TRAINING if name in parameters}
    config = override(RunConfig(recipe=recipe), settings)
    return Run(config=config, **{name: parameters[name] for name in OF_THE_RUN if name in parameters})


def find_run(name: str, root: Path) -> Path:
    """Find the file of a run.

    Source: own.

    Args:
        name: such as ``digits/ict``.
        root: top of the project.

    Returns:
        ``<root>/runs/<name>.yaml``.

    Raises:
        ValueError: if there is no such file, with the nearest right name.
    """
    known = [path.relative_to(root / "runs").with_suffix("").as_posix() for path in (root / "runs").rglob("*.yaml")]
    if name not in known:
        raise ValueError(f"unknown run {name!r}: {nearest(name, known)}")
    return root / "runs" / f"{name}.yaml"


def notebook_parameters(namespace: dict[str, Any]) -> dict[str, Any]:
    """Pick a notebook's parameters out of its ``globals()``, as they stand after its first cell and papermill's.

    Called right there, it takes every name that is not Python's, IPython's or imported; so a mistyped parameter is
    seen. Called again in the same kernel it takes the same names, with the values that they have by then.

    Source: own.

    Args:
        namespace: the notebook's ``globals()``; the names are remembered in it.

    Returns:
        Flat parameters, for :func:`run_from`.
    """
    theirs = ("In", "Out", "get_ipython", "exit", "quit", "open")
    names = namespace.setdefault(
        "_parameter_names",
        [
            name
            for name, value in namespace.items()
            if not (name.startswith("_") or name in theirs or callable(value) or isinstance(value, ModuleType))
        ],
    )
    return {name: namespace[name] for name in names}
