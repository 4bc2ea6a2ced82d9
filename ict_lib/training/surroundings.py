"""What a training is made with, besides its settings: versions, device, code, and the memory that it took."""

import hashlib
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ict_lib.data.dataset import Dataset

PACKAGES = ("torch", "numpy", "scikit-learn", "torch-fidelity")
LIBRARY = Path(__file__).parents[1]


def surroundings(device: torch.device, data: Dataset, processes: int) -> dict[str, Any]:
    """Say what a training is made with, besides its settings."""
    made = {"versions": versions(), "device": device_name(device), "commit": commit(), "code": code_hash()}
    return {**made, "data_checksum": data.checksum(), "processes": processes}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def device_name(device: torch.device) -> str:
    """Name a device as its maker does, such as ``NVIDIA H200``, with the number of threads on a CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' * (threads > 1)}" if device.type == "cpu" else device.type


def commit() -> str:
    """Return the commit of the code, with ``+changes`` if the library differs from it; ``unknown`` outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=LIBRARY, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def code_hash() -> str:
    """Return a short hash of the library's source."""
    digest = hashlib.sha256()
    for path in sorted(LIBRARY.rglob("[!.]*.py")):  # an editor's own begin with a point, and may be links to nowhere
        digest.update(path.relative_to(LIBRARY).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes: of the CUDA device if one was used, else of the CPU.

    0 where the system does not say.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    try:
        import resource  # Unix alone
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
