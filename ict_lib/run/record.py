"""A run's record: what was done, with what, and what came out; written once, read by the book and by the tests."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ict_lib import files
from ict_lib.checks import nearest, require
from ict_lib.config import Run, run_from


@dataclass(frozen=True)
class Record:
    """What a finished run left behind."""

    name: str  # of the run, such as ``digits/ict``
    manifest: dict[str, Any]  # the run, what it was made with, seconds, images seen, peak memory and results
    # one dict a line of ``metrics.jsonl``; the lines of one ``seed`` after those of another
    metrics: list[dict[str, Any]]
    folder: Path  # where the files are

    @property
    def run(self) -> Run:
        """The run, as it can be executed again."""
        return run_from(self.manifest["run"])

    def result(self, key: str) -> list[float]:
        """Return one result of every seed, in the order of the seeds; ``ValueError`` if the run lacks it."""
        results = self.manifest["results"]
        if any(key not in result for result in results):
            raise ValueError(f"run {self.name!r} has no result {key!r}; it has {', '.join(results[0])}")
        return [result[key] for result in results]

    def weights(self, seed: int | None = None) -> Path:
        """Return the file of the averaged weights of one seed; None takes the run's first.

        Where there is none, a ``FileNotFoundError`` says the command that makes it.
        """
        seed = self.run.seeds[0] if seed is None else seed
        require(seed in self.run.seeds, "seed", seed, f"one of the run's, {self.run.seeds},")
        path = self.folder / f"seed-{seed}" / files.WEIGHTS
        if not path.is_file():
            known = self.name in files.run_names(files.project_root())
            make = f"`make run RUN={self.name if known else f'runs/{self.name}/manifest.json'}` makes them"
            raise FileNotFoundError(f"{path} is missing: weights are not kept in git; {make}")
        return path

    def of_seed(self, seed: int) -> list[dict[str, Any]]:
        """Return the lines of metrics of one seed, in the order of the steps."""
        return [line for line in self.metrics if line["seed"] == seed]


def exists(name: str) -> bool:
    """Tell whether a run has left a record."""
    return (files.results_folder(name) / "manifest.json").exists()


def read(name: str) -> Record:
    """Read the record of a finished run.

    ``FileNotFoundError`` if it has left none, with the command that makes one; ``ValueError`` if it is damaged, says
    what a run no longer knows, or is that of a study.
    """
    folder = files.results_folder(name)
    if not exists(name):
        known, make = files.run_names(files.project_root()), f"`make run RUN={name}` makes it"
        raise FileNotFoundError(
            f"run {name!r} has no record yet: {make if name in known or not known else nearest(name, known)}"
        )
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf8"))
        run = run_from(manifest["run"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the manifest in {folder} is none that `make run` wrote: {error}") from None
    require(not run.variants, "the variants of a run with a record", list(run.variants), "none: this is a study,")
    return Record(name, manifest, files.read_lines(folder / "metrics.jsonl"), folder)


def manifest_of(run: Run, left: list[dict[str, Any]]) -> dict[str, Any]:
    """Gather what somebody needs to repeat a run, and what came out of it, as plain values.

    ``left`` is what the training of each seed has left: ``result`` and ``surroundings``. ``teacher_lag`` is an EMA
    teacher's at the end, as a share of the training. A seed whose surroundings differ from those of the first says so
    itself.
    """
    from ict_lib.networks.build import unused_fields  # they load torch, and reading needs none
    from ict_lib.techniques.teacher import lag

    first, results = left[0]["surroundings"], [one["result"] for one in left]
    others = [{} if one["surroundings"] == first else {"surroundings": one["surroundings"]} for one in left]
    return {
        "run": run.to_dict(),
        "recipe_unused": unused_fields(run.network),
        "teacher_lag": lag(run.recipe, run.steps) / run.steps,
        **first,
        "seconds": sum(result["seconds"] for result in results),
        "images_seen": sum(result["images_seen"] for result in results),
        "peak_memory_bytes": max(result["peak_memory_bytes"] for result in results),
        "results": [result | other for result, other in zip(results, others, strict=True)],
    }


def write(folder: Path, manifest: dict[str, Any], metrics: list[dict[str, Any]], card: str) -> None:
    """Write a record; a reader sees each of its files as it was or as it is now, never a part."""
    files.write_atomically(folder / "README.md", card.encode())
    files.write_atomically(folder / "metrics.jsonl", files.json_lines(metrics))
    files.write_json(folder / "manifest.json", manifest)


def table(names: Iterable[str], keys: dict[str, str]) -> list[dict[str, Any]]:
    """Lay the results of several runs side by side, a row each, ready for ``pandas.DataFrame``.

    ``keys`` are heading -> result: a row holds the :func:`spread` of each, and the number of seeds.
    """
    records = [read(name) for name in names]
    return [
        {"run": r.name, **{heading: spread(r.result(key)) for heading, key in keys.items()}, "seeds": len(r.run.seeds)}
        for r in records
    ]


def spread(values: list[float]) -> str:
    """Write the numbers of several seeds as ``median (lowest to highest)``, to three significant digits; of one, it."""
    low, middle, high = (f"{value:#.3g}".rstrip(".") for value in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} ({low} to {high})"
