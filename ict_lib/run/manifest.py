"""The manifest of a run: all that somebody needs to repeat it, and what came out."""

import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from ict_lib.data.dataset import Dataset
from ict_lib.networks.build import unused_fields
from ict_lib.run.record import project_root
from ict_lib.run_file import FROM_THE_RUN, OF_THE_RUN, Run, run_from

PACKAGES = ("torch", "numpy", "scikit-learn", "torch-fidelity")


def manifest_of(run: Run, results: list[dict[str, Any]], device: torch.device, data: Dataset) -> dict[str, Any]:
    """Gather what somebody needs to repeat a run, and what came out of it.

    Source: own.

    Args:
        run: what was asked for.
        results: for each seed: ``seed``, ``seconds``, ``images_seen``, ``peak_memory_bytes`` and what was measured.
        device: that was used.
        data: that was trained on.

    Returns:
        Plain values, ready for JSON.
    """
    asked = asdict(run)
    training = asked.pop("config")
    recipe = training["recipe"]
    for name in FROM_THE_RUN:
        training.pop(name)
    return {
        **asked,
        "recipe": recipe,
        "recipe_unused": unused_fields(run.config.network),
        "training": training,
        "data_checksum": data.checksum(),
        "versions": versions(),
        "device": device_name(device),
        "commit": commit(),
        "seconds": sum(result["seconds"] for result in results),
        "images_seen": sum(result["images_seen"] for result in results),
        "peak_memory_bytes": max(result["peak_memory_bytes"] for result in results),
        "results": results,
    }


def run_of(manifest: dict[str, Any]) -> Run:
    """Rebuild the run that a manifest describes; what an older manifest does not say has its default.

    Source: own.

    Args:
        manifest: from :func:`manifest_of`, or a record's.

    Returns:
        The run, checked.

    Raises:
        ValueError: if it is no manifest, or says what a run no longer knows.
    """
    for part in ("recipe", "training"):
        if not isinstance(manifest.get(part), dict):
            raise ValueError(f"this manifest has no {part!r}: one that `make run` wrote is needed")
    asked = {name: manifest[name] for name in OF_THE_RUN if name in manifest}
    return run_from({**asked, "recipe": manifest["recipe"], **manifest["training"]})


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers.

    Source: own.
    """
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def device_name(device: torch.device) -> str:
    """Name a device as its maker does, with the number of threads on a CPU.

    Source: own.

    Args:
        device: that was used.

    Returns:
        Such as ``NVIDIA H200`` or ``CPU, 2 threads``.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type


def commit() -> str:
    """Return the commit of the code, with ``+changes`` if the library differs from it; ``unknown`` outside of git.

    Source: own.
    """

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=project_root(), capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + (
            "+changes" if git("status", "--porcelain", "ict_lib").strip() else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
