"""What a paper reports beside what runs have left: a row is filled by whoever makes the record."""

import csv
from pathlib import Path

from ict_lib.data import DATASETS, FEATURES
from ict_lib.run import record

NOT_RUN = "not run yet"


def claims(path: Path) -> list[dict[str, str]]:
    """Read a table of claims and fill in our side: a row each, ready for ``pandas.DataFrame``.

    The CSV has the columns ``system``, ``data``, ``NFE``, ``metric``, ``paper`` (its value), ``mark`` (where that is
    from), ``run`` and ``key`` (its result). What a run without a record lacks is empty, or says so; a record that lacks
    the result is a ``ValueError``.
    """
    with path.open(encoding="utf8", newline="") as file:
        return [_row(line) for line in csv.DictReader(file)]


def _row(line: dict[str, str]) -> dict[str, str]:
    name, key = line["run"], line["key"]
    about = {"system": line["system"], "data": line["data"], "NFE": line["NFE"], "metric": line["metric"]}
    about["paper"] = f"{line['paper']} [{line['mark']}]" if line["mark"] else line["paper"]
    command = f"make run RUN={name}"
    if not record.exists(name):
        return about | {"here": NOT_RUN, "seeds": "", "protocol": "", "images seen": "", "device": "", "again": command}
    left = record.read(name)
    values, run = left.result(key), left.run
    return about | {
        "here": record.spread(values),
        "seeds": str(len(values)),
        "protocol": f"{run.num_samples:,} samples, {FEATURES[DATASETS[run.data].extractor]}",
        "images seen": f"{left.manifest['images_seen'] // len(values):,} a seed",
        "device": left.manifest["device"],
        "again": command,
    }
