"""The record of a device's speed: ``runs/bench/<device>.json``, written after each case, read by the book."""

import json
import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ict_lib.files import write_atomically
from ict_lib.run.manifest import commit, device_name, versions
from ict_lib.run.record import project_root

FOLDER = "bench"


def header(device: torch.device) -> dict[str, Any]:
    """Say what is measured with what: the head of a record.

    Source: own.

    Args:
        device: that is measured.

    Returns:
        ``device``, ``processor`` (of the computer), ``cores``, ``versions``, ``commit`` and ``date``.
    """
    return {
        "device": device_name(device),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "versions": versions(),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def path_of(head: dict[str, Any]) -> Path:
    """Return where the record of a device lies, such as ``runs/bench/nvidia-h100-80gb-hbm3.json``.

    Source: own.

    Args:
        head: from :func:`header`; a CPU's file is named after its maker too.
    """
    name = head["device"] if not head["device"].startswith("CPU") else f"{head['processor']} {head['device']}"
    return project_root() / "runs" / FOLDER / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".json")


def begin(path: Path, head: dict[str, Any]) -> dict[str, Any]:
    """Begin a record, or go on with the one that is there, if the same device and versions made it.

    Source: own.

    Args:
        path: of the record.
        head: from :func:`header`.

    Returns:
        The record, with the cases that it has so far.
    """
    before = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    same = all(before.get(key) == head[key] for key in ("device", "processor", "cores", "versions"))
    return {**head, "cases": before["cases"] if same else {}}


def add(path: Path, record: dict[str, Any], name: str, case: dict[str, Any]) -> None:
    """Put a case into a record and write it: whole, or as it was.

    Source: own.

    Args:
        path: of the record; its folder is made if it is missing.
        record: changed in place.
        name: of the case.
        case: what was measured, or ``failed``; commit and date are added, as an earlier call may have measured others.
    """
    record["cases"][name] = {**case, "commit": record["commit"], "date": record["date"]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(record, indent=2) + "\n").encode())


def read_all() -> list[dict[str, Any]]:
    """Read the records of all devices.

    Source: own.

    Returns:
        One dict a device, in the order of the files' names; none if nothing was measured.
    """
    return [json.loads(path.read_text()) for path in sorted((project_root() / "runs" / FOLDER).glob("*.json"))]


def rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Lay out the trainings of a record as a table.

    Source: own.

    Args:
        record: of one device.

    Returns:
        One row a training, ready for ``pandas.DataFrame``; None where something was not measured. ``share of ceiling``
        is what a step computes, over what the device can multiply in that precision in the same time.
    """
    ceilings = record["cases"].get("ceiling", {}).get("flops", {})
    return [_row(case, ceilings.get(case["precision"])) for case in record["cases"].values() if "compile" in case]


def _row(case: dict[str, Any], ceiling: float | None) -> dict[str, Any]:
    """Lay out one training."""
    rate, memory = case.get("images_per_second"), case.get("peak_memory_bytes")
    share = rate * case["flops_per_image"] / ceiling if rate and ceiling else None
    return {
        "network": case["network"],
        "precision": case["precision"],
        "compiled": case["compile"],
        "batch": case["batch_size"],
        "images/s": rate,
        "share of ceiling": share,
        "step / bare passes": case.get("ratio"),
        "peak memory, GB": memory and memory / 1e9,
        "samples/s, 1 step": case.get("samples_per_second_1_step"),
        "samples/s, 2 steps": case.get("samples_per_second_2_steps"),
        "failed": case.get("failed"),
    }


def _processor() -> str:
    """Name the computer's processor."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()
