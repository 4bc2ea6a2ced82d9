"""What a run needs of this machine, looked for before anything is started, and without loading torch."""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from ict_lib.checks import require
from ict_lib.config import Run
from ict_lib.data import DATASETS
from ict_lib.files import hold
from ict_lib.networks.options import check_fit

LEAST_FREE = 100 * 10**6  # bytes: the smallest run leaves 30 MB


def check_needs(run: Run, folder: Path, done: bool = False) -> None:
    """Refuse a run that this machine cannot execute, as far as that is known without torch.

    The folder, of its results, need not exist; a run that is ``done`` is trained already, and only read. An ``OSError``
    names a missing file, with the command that makes it, or a full disk; a ``ValueError`` network and data that do not
    fit, a missing device, package or copy of published weights, or what :func:`lacking` finds.
    """
    check_network(run)
    check_device(run.device, 1 if done else run.processes)
    if run.recipe.distance == "lpips":
        require_package("lpips", "distance lpips")
    if run.tensorboard:
        require_package("tensorboard", "tensorboard=true")
    for variable in ("ICT_VGG16", "ICT_INCEPTION"):  # copies of published weights
        named = os.environ.get(variable)
        require(not named or Path(named).expanduser().is_file(), variable, named, "a file, or no such variable,")
    DATASETS[run.data].require_files()
    place = standing(folder)
    for lack in () if done else lacking(run, place):
        raise ValueError(lack)
    free = shutil.disk_usage(place).free
    if free < LEAST_FREE:
        raise OSError(f"{place} has {free / 1e6:.0f} MB free, and {LEAST_FREE / 1e6:.0f} MB are needed at least")


def check_network(run: Run) -> None:
    """Raise ``ValueError``, unless the run's network and its distance fit its data."""
    shape = DATASETS[run.data].shape
    try:
        check_fit(run.network, run.network_options, shape)
    except ValueError as error:
        raise ValueError(f"network {run.network} does not fit {run.data}: {error}") from None
    fits = run.recipe.distance != "lpips" or (len(shape) == 3 and min(shape[1:]) >= 16)
    require(fits, "data", run.data, "for LPIPS images of 16x16 pixels or more")


def check_device(device: str, processes: int = 1) -> None:
    """Raise ``ValueError``, unless a device is here, and enough of them for the processes."""
    kind, _, number = device.partition(":")
    alone = processes == 1 or device in ("auto", "cpu", "cuda")
    require(alone, "device", device, "for several processes auto, cpu or cuda, without a number,")
    here, wanted = (cuda_devices(), int(number or 0) + processes) if kind == "cuda" else (1, 1)
    require(here >= wanted, "device", device, f"auto or cpu, as it takes {wanted} CUDA devices and {here} are here,")
    require(kind != "mps" or sys.platform == "darwin", "device", device, "auto or cpu, as this is no Mac,")
    for_xpu = kind != "xpu" or version("torch").endswith("+xpu")
    require(for_xpu, "device", device, "auto or cpu, as this torch was not built for xpu,")


def cuda_devices() -> int:
    """Count the CUDA devices that torch would find, by asking the driver."""
    with suppress(PackageNotFoundError):
        if version("torch").endswith("+cpu"):
            return 0
    for name in ("libcuda.so.1", "nvcuda.dll"):
        with suppress(OSError):
            driver, number = ctypes.CDLL(name), ctypes.c_int()
            asked = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(number)) == 0
            return number.value if asked else 0
    return 0


def require_package(name: str, what: str) -> None:
    """Raise ``ValueError`` with the command that installs a package, if it is missing."""
    if find_spec(name) is None:
        raise ValueError(f"{what} needs the package {name}: {sys.executable} -m pip install {name}")


def standing(folder: Path) -> Path:
    """Return a folder, or the nearest above it that is there."""
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def lacking(run: Run, folder: Path) -> Iterator[str]:
    """Look for what a training uses only when it has begun: compiler, locks of the disk, ports.

    The folder is there, on the disk of the results. Each line begins with the name of what it is about.
    """
    yield from (f"compiler: {lack}" for lack in _compiler(run))
    try:
        with TemporaryDirectory(dir=folder, prefix=".ict-") as inside:
            hold(Path(inside)).release()
    except OSError as error:
        yield f"folder: {folder} can neither be written nor locked: {error.strerror}"
    if run.processes == 1:
        return
    try:
        with socket.create_server(("", 0)) as server:
            socket.create_connection((socket.getfqdn(), server.getsockname()[1]), 10).close()
    except OSError as error:
        yield f"ports: processes meet at {socket.getfqdn()}, which does not answer ({error}): see /etc/hosts"


def _compiler(run: Run) -> Iterator[str]:
    """Look for what ``torch.compile`` calls: a compiler of C on CUDA devices, of C++ on CPUs; header, driver."""
    if not run.compile:
        return
    cuda = run.device.startswith("cuda") or (run.device == "auto" and cuda_devices() > 0)
    variable, language, names = ("CC", "C", "gcc clang") if cuda else ("CXX", "C++", "g++")
    names, advice = os.environ.get(variable, names), "or set compile=false"
    if not any(map(shutil.which, names.split())):
        need = f"compile=true needs a {language} compiler, and there is no {' or '.join(names.split())}"
        yield f"{need} (Debian: apt-get install g++), {advice}"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        yield f"compile=true needs {header} (Debian: apt-get install python3-dev), {advice}"
    if cuda and not _driver_is_listed():
        yield f"compile=true needs libcuda.so.1 in what ldconfig -p lists, or in LD_LIBRARY_PATH, {advice}"


def _driver_is_listed() -> bool:
    """Look for CUDA's driver where Triton does, which links with it."""
    given, listed = os.environ.get("TRITON_LIBCUDA_PATH"), ""
    with suppress(OSError):
        listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=False).stdout
    paths = [given] if given else os.environ.get("LD_LIBRARY_PATH", "").split(":")
    there = any(path and (Path(path) / "libcuda.so.1").exists() for path in paths)
    return there or (not given and "libcuda.so.1" in listed)
