"""A run's record: what was done, with what, and what came out; written once, read by the book and by the tests."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ict_lib.files import write_atomically


@dataclass(frozen=True)
class Record:
    """What a finished run left behind.

    Attributes:
        name: of the run, such as ``digits/ict``.
        manifest: recipe, seeds, versions, device, commit, seconds, images seen, peak memory and results.
        metrics: one dict a line of ``metrics.jsonl``.
        folder: where the files are.
    """

    name: str
    manifest: dict[str, Any]
    metrics: list[dict[str, Any]]
    folder: Path

    def result(self, key: str) -> list[float]:
        """Return one result of every seed, in the order of the seeds.

        Args:
            key: such as ``frechet_pixels_1_step``.

        Returns:
            One number a seed.

        Raises:
            ValueError: if the run has no such result.
        """
        results = self.manifest["results"]
        if any(key not in result for result in results):
            raise ValueError(f"run {self.name!r} has no result {key!r}; it has {', '.join(results[0])}")
        return [result[key] for result in results]


def project_root(start: Path | None = None) -> Path:
    """Find the top of the project: the folder with ``pyproject.toml`` and ``ict_lib``, here or above.

    Source: own.

    Args:
        start: where to begin; None takes the current folder.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: if no folder above ``start`` is the project.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").exists() and (folder / "ict_lib").is_dir():
            return folder
    raise FileNotFoundError(f"{start} does not lie in the project: change into its folder first")


def results_folder(name: str) -> Path:
    """Return where the results of a run go, ``runs/<name>`` of the project around the current folder.

    Source: own.

    Args:
        name: of the run, such as ``digits/ict``.

    Returns:
        The folder, which need not exist.
    """
    return project_root() / "runs" / name


def exists(name: str) -> bool:
    """Tell whether a run has left a record.

    Source: own.

    Args:
        name: of the run, such as ``digits/ict``.
    """
    return (results_folder(name) / "manifest.json").exists()


def read(name: str) -> Record:
    """Read the record of a finished run.

    Source: own.

    Args:
        name: of the run, such as ``digits/ict``.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if the run has left no record, with the command that makes one.
    """
    folder = results_folder(name)
    if not exists(name):
        raise FileNotFoundError(f"run {name!r} has no record yet: `make run RUN={name}` makes it")
    manifest = json.loads((folder / "manifest.json").read_text())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return Record(name, manifest, [json.loads(line) for line in lines], folder)


def write(folder: Path, manifest: dict[str, Any], metrics: list[dict[str, Any]], card: str = "") -> None:
    """Write a record; a reader sees each of its files as it was or as it is now, never a part.

    Source: own.

    Args:
        folder: made if it is missing.
        manifest: from :func:`ict_lib.run.manifest.manifest_of`.
        metrics: one dict a line.
        card: from :func:`ict_lib.export.card.model_card`; none is written where it is empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if card:
        write_atomically(folder / "README.md", card.encode())
    write_atomically(folder / "metrics.jsonl", _json_lines(metrics))
    write_atomically(folder / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())


def table(names: Iterable[str], keys: dict[str, str]) -> list[dict[str, Any]]:
    """Lay the results of several runs side by side: the median over the seeds, with the lowest and the highest.

    Source: own.

    Args:
        names: of the runs.
        keys: heading -> result.

    Returns:
        One row a run, with the number of seeds, ready for ``pandas.DataFrame``.

    Raises:
        FileNotFoundError: if a run has left no record.
        ValueError: if a run lacks a result.
    """
    return [
        {
            "run": record.name,
            **{heading: spread(record.result(key)) for heading, key in keys.items()},
            "seeds": len(record.manifest["seeds"]),
        }
        for record in map(read, names)
    ]


def spread(values: list[float]) -> str:
    """Write the numbers of several seeds as ``median (lowest to highest)``.

    Source: own.

    Args:
        values: one a seed.

    Returns:
        The text, to three significant digits.
    """
    return f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


class MetricsLog:
    """The lines of a training under way, kept beside its checkpoints so that an interruption loses none.

    Source: own.

    Args:
        folder: of the checkpoints; made if it is missing.
        step: that the training goes on from; later lines, which it will write again, are dropped.
        last: the line of that step; added if an interruption came between the checkpoint and the line.
        name: of the file.
    """

    def __init__(
        self, folder: str | Path, step: int = 0, last: dict[str, Any] | None = None, name: str = "metrics.jsonl"
    ):
        self.path = Path(folder) / name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in self.lines() if line["step"] <= step]
        missing = last is not None and not (kept and kept[-1]["step"] == last["step"])
        write_atomically(self.path, _json_lines([*kept, last] if missing else kept))

    def append(self, line: dict[str, Any]) -> None:
        """Add one line, which must hold its ``step``."""
        with self.path.open("ab") as file:
            file.write(_json_lines([line]))

    def lines(self) -> list[dict[str, Any]]:
        """Return all lines; one that an interruption cut off is left out."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _json_lines(lines: list[dict[str, Any]]) -> bytes:
    """Write dicts as JSON, one a line."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
