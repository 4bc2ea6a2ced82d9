"""The record of a device's speed: ``runs/bench/<device>.json``, written after each case, read by the book."""

import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ict_lib.files import cores, project_root, write_json
from ict_lib.training.surroundings import code_hash, commit, device_name, versions

COLUMNS = {
    "network": "network",
    "precision": "precision",
    "compiled": "compile",
    "batch": "batch_size",
    "images/s": "images_per_second",
    "share of ceiling": "",
    "step / bare passes": "ratio",
    "peak memory, GB": "peak_memory_bytes",
    "samples/s, 1 step": "samples_per_second_1_step",
    "samples/s, 2 steps": "samples_per_second_2_steps",
    "failed": "failed",
}


def made_by(device: torch.device) -> dict[str, Any]:
    """Say what measured: ``device``, ``processor``, ``cores``, ``versions``, ``commit``, ``code`` and ``date``."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text("utf8"), re.MULTILINE) if info.exists() else None
    return {
        "device": device_name(device),
        "processor": found[1].strip() if found else platform.processor() or platform.machine(),
        "cores": cores(),
        "versions": versions(),
        "commit": commit(),
        "code": code_hash(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def path_of(head: dict[str, Any]) -> Path:
    """Return where a device's record lies, such as ``runs/bench/nvidia-h100-80gb-hbm3.json``; a CPU has its maker."""
    name = head["device"] if not head["device"].startswith("CPU") else f"{head['processor']} {head['device']}"
    return project_root() / "runs" / "bench" / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json")


def begin(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Begin a record, or go on with the one that is there, if the same device and versions made it."""
    before = json.loads(path.read_text("utf8")) if path.exists() else {"cases": {}}
    same = all(before.get(key) == head[key] for key in ("device", "processor", "cores", "versions"))
    return {**head, "cases": before["cases"] if same else {}}


def add(path: Path, record: dict[str, Any], name: str, case: dict[str, Any]) -> None:
    """Put a case into a record, with its own commit, code and date, and write it: whole, or as it was."""
    record["cases"][name] = {**case, **{key: record[key] for key in ("commit", "code", "date")}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, record)


def read_all() -> list[dict[str, Any]]:
    """Read the records of all devices, in the order of the files' names; none if nothing was measured."""
    return [json.loads(path.read_text("utf8")) for path in sorted((project_root() / "runs" / "bench").glob("*.json"))]


def rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Lay out the trainings of a record as a table, one row each; None where something was not measured.

    ``share of ceiling`` is what a step computes, over what the device can multiply in that precision in the same time.
    """
    ceilings = record["cases"].get("ceiling", {}).get("flops", {})
    return [_row(case, ceilings.get(case["precision"])) for name, case in record["cases"].items() if "/" in name]


def _row(case: dict[str, Any], ceiling: float | None) -> dict[str, Any]:
    row = {heading: case.get(key) for heading, key in COLUMNS.items()}
    rate, memory = row["images/s"], row["peak memory, GB"]
    row["peak memory, GB"] = memory and memory / 1e9
    row["share of ceiling"] = rate * case["flops_per_image"] / ceiling if rate and ceiling else None
    return row
