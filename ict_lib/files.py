"""Files that are whole or not there, folders with one writer, and signals that ask a process to stop."""

import contextlib
import errno
import json
import os
import re
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import BaseFileLock, FileLock, SoftFileLease, Timeout

HOLDER, FLOAT = "lock.json", "tag:yaml.org,2002:float"
NO_LOCKS = errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK  # of a file system without them, as some mount Lustre and NFS
LEASE = 60.0  # seconds after which a file that stands for a lock is nobody's, if its holder has not touched it
LATE = 150.0  # seconds that a machine's locks may outlive it: on NFS 90, or a lease
# Ctrl-C in a terminal, and its end; what ``kill``, make and clusters send; what SLURM sends before a job's time is over
NAMES = "SIGINT", "SIGHUP", "SIGTERM", "SIGUSR1"
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
IDENTITY, RESULT, WEIGHTS = "identity.json", "result.json", "weights.safetensors"  # what a training leaves


def cores() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an error of the system, which does not say where a disk is full."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Replace a file by new content, part after part, or raise ``OSError`` and leave it as it was."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with naming(path), aside.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as JSON that a person can read, whole or not at all."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_bytes(path: Path) -> bytes:
    """Read a file, once more if another machine has just replaced it on a network's disk."""
    for _ in range(20):
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            time.sleep(0.1)
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a dict; None where there is none, or it is damaged."""
    try:
        found = json.loads(read_bytes(path))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_text(path: Path) -> str:
    """Read text; ``OSError`` if it cannot be read, or is a folder or a pipe, ``ValueError`` if it is no text."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "no file", str(path))
    try:
        return path.read_text("utf8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is no text in UTF-8") from None


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [str(key.value) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{twice} stands twice, {str(node.start_mark).strip()}")
        return super().construct_mapping(node, deep)


# YAML 1.1 asks for a point and a sign in 1e-4, which JSON leaves out; and it makes dates, which no field wants.
_Loader.add_implicit_resolver(FLOAT, re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, fits) for tag, fits in found if not tag.endswith(":timestamp")]
    for first, found in _Loader.yaml_implicit_resolvers.items()
}


def parse_yaml(text: str, where: str) -> Any:
    """Read YAML, or raise a ``ValueError`` that says in one line what is wrong."""
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # PyYAML raises nearly anything where a tag does not fit, or lists are too deep
        what = " ".join((str(error) or type(error).__name__).replace('in "<unicode string>", ', "at ").split())
        raise ValueError(f"{where} is no YAML: {what}") from None


def json_lines(lines: Iterable[dict[str, Any]]) -> bytes:
    """Write dicts as JSON, one a line."""
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; none where there is no file, and without those that are damaged or were cut off."""
    found, content = [], read_bytes(path) if path.exists() else b""
    for line in content.decode("utf8", "replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError):
            found += [json.loads(line)] if line.endswith("\n") else []
    return [line for line in found if isinstance(line, dict)]


def hold(folder: Path) -> BaseFileLock:
    """Hold a folder until ``release`` or the end of this process, however it ends; it is made if it is missing.

    One process may hold it several times; if another does, a ``RuntimeError`` says its number and machine. On file
    systems without locks a file stands for one, which its holder touches again and again. If the holder was on another
    machine, which may have died, this waits a while. ``OSError`` if it cannot be made or written, or is no folder.
    """
    place, options = folder.resolve(), {"is_singleton": True, "thread_local": False}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / "lock", fallback_to_soft=False, **options)
        try:
            _take(lock, folder)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            lock = SoftFileLease(place / "lease", lease_duration=LEASE, **options)
            _take(lock, folder)
    except Timeout:
        who = _holder(folder)
        raise RuntimeError(f"{who} works in {folder} already: end it, or choose another name") from None
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, "no folder: remove it, or choose another name", str(folder)) from None
    write_json(folder / HOLDER, {"process": os.getpid(), "machine": socket.gethostname()})
    return lock


def _take(lock: BaseFileLock, folder: Path) -> None:
    """Acquire a lock, at once if this machine has it, or a while after it was another's."""
    machine = (read_json(folder / HOLDER) or {}).get("machine", socket.gethostname())
    lock.acquire(timeout=0 if machine == socket.gethostname() else LATE)


def _holder(folder: Path) -> str:
    """Say who holds a folder."""
    holder = read_json(folder / HOLDER) or {}
    known = {"process", "machine"} <= holder.keys()
    return f"process {holder['process']} on {holder['machine']}" if known else "another process"


def command(*words: str) -> str:
    """Write a command of this library as it can be typed where this process stands, with the Python that runs it."""
    python = Path(sys.executable)
    here = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return shlex.join([str(here), "-m", "ict_lib", *words])


class Stopped(KeyboardInterrupt):
    """Work has ended because a signal asked for it, and can go on: a line that says how, and the signal's number."""

    def __init__(self, line: str, number: int = signal.SIGTERM):
        super().__init__(line, number)

    def __str__(self) -> str:
        return self.args[0]


@contextlib.contextmanager
def hearing(act: Callable[[int], None]) -> Iterator[None]:
    """Call ``act`` with the number of each signal that asks to stop, where it would have ended or interrupted.

    What this process was started to ignore stays ignored. Nothing is heard outside of the main thread.
    """
    main = threading.current_thread() is threading.main_thread()
    heard = [number for number in SIGNALS if main and signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, lambda number, _: act(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def project_root(start: Path | None = None) -> Path:
    """Find the top of the project: the folder with ``pyproject.toml`` and ``ict_lib``, here or above.

    It is looked for from ``start``, or from the current folder; ``FileNotFoundError`` if it is not there.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").exists() and (folder / "ict_lib").is_dir():
            return folder
    raise FileNotFoundError(f"{start} does not lie in the project: change into its folder first")


def results_folder(name: str) -> Path:
    """Return where the results of a run go: ``runs/<name>`` of the project around the current folder."""
    return project_root() / "runs" / name


def run_names(root: Path) -> list[str]:
    """Name the run files of the project."""
    files = (root / "runs").rglob("*.yaml")
    return [file.relative_to(root / "runs").with_suffix("").as_posix() for file in files]
