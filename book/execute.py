"""Executes the chapters side by side, each in a kernel of its own, and keeps what they show in jupyter-cache.

A chapter is executed again where its code cells changed, a file of the library that its imports reach, a run's record,
a table of the book, the project's address, the pinned packages, or Python.
"""

from __future__ import annotations

import ast
import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
import yaml
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from nbclient.exceptions import CellTimeoutError

from ict_lib.files import cores, read_json

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
CACHE = BUILD / ".jupyter_cache"  # where Jupyter Book looks
KEYS = BUILD / "executed_from.json"
RECORDS = {".yaml", ".json", ".jsonl", ".png"}
WEIGHTS = "half.safetensors"  # that a page carries
PASSING = {"__pycache__", ".ipynb_checkpoints", ".partial", "preview", "checkpoints"}  # made by running, not read
# What a page shows must not depend on the caller's environment: not its figures, kernel, library, threads or encoding.
SET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "PYTHONUTF8": "1",
    "IPYTHONDIR": str(BUILD / "ipython"),
    "MATPLOTLIBRC": os.devnull,
    "JUPYTER_PREFER_ENV_PATH": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "NO_COLOR": "1",
}
UNSET = ("MPLBACKEND", "JUPYTER_PATH")


def set_environment() -> None:
    """Give this process, and all that it starts, the environment of the pages."""
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update(SET)


def chapters() -> list[str]:
    """Names of all pages in the order of the table of contents."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    return [contents["root"], *(entry["file"] for entry in contents["chapters"])]


def kept(files: Iterable[Path]) -> list[Path]:
    """Leave out what running makes."""
    return [path for path in files if path.is_file() and not PASSING & set(path.relative_to(ROOT).parts)]


def digest(files: Iterable[Path], more: str = "") -> str:
    """One hash over the names and contents of files, and the version of Python."""
    total = hashlib.sha256((sys.version + more).encode())
    for path in sorted(files):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def imports(code: str) -> set[str]:
    """Modules that code may load: those of its import statements, and of strings such as ``"ict_lib.grid"``."""
    found, waiting = set(), [ast.parse(code)]
    while waiting:
        node = waiting.pop()
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        waiting += node.orelse if for_types else ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"ict_lib[.\w]+", str(node.value)):
            found.add(node.value)
    return found


def reached(code: str) -> set[Path]:
    """Files of the library that code reaches by imports, and what lies beside them that is no Python."""
    files, waiting = set(), imports(code)
    while waiting:
        parts = waiting.pop().split(".")
        for depth in range(1, len(parts) + 1 if parts[0] == "ict_lib" else 1):
            place = ROOT.joinpath(*parts[:depth])
            for path in (place.with_suffix(".py"), place / "__init__.py"):
                if path.is_file() and path not in files:
                    files.add(path)
                    waiting |= imports(path.read_text("utf8"))
    beside = {path for file in files for path in file.parent.glob("*") if path.suffix != ".py"}
    return {*files, *kept(beside)}


def read(page: str) -> nbformat.NotebookNode:
    """Read the notebook of a page."""
    return nbformat.read(ROOT / f"{page}.ipynb", as_version=4)


def key(page: str) -> str:
    """One hash over all that decides what a page's cells show."""
    cells = [(cell.source, cell.metadata) for cell in read(page).cells if cell.cell_type == "code"]
    try:
        library = reached("\n".join(source for source, _ in cells))
    except SyntaxError:  # a cell with an error or with IPython's own commands
        library = kept((ROOT / "ict_lib").rglob("*"))
    records = (path for path in (ROOT / "runs").rglob("*") if path.suffix in RECORDS or path.name == WEIGHTS)
    read_too = kept([*records, *(ROOT / "book").glob("*.csv"), ROOT / "requirements.txt"])
    settings = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    return digest({*library, *read_too}, json.dumps([cells, settings.get("repository")], sort_keys=True))


def forget(keys: dict[str, str]) -> None:
    """Delete what the cache holds of pages whose key is not the one that they were executed with."""
    cache, before = get_cache(CACHE), read_json(KEYS) or {}
    fresh = {str(ROOT / f"{page}.ipynb") for page in keys if before.get(page) == keys[page]}
    for record in cache.list_cache_records():
        if record.uri not in fresh:
            cache.remove_cache(record.pk)
    KEYS.write_text(json.dumps(keys, indent=1), "utf8")


def failure(page: str, notebook: nbformat.NotebookNode, begun: list[int], error: Exception) -> str:
    """Say which cell of which notebook failed, the last that began, and how."""
    if not begun:
        return f"{page}.ipynb: {type(error).__name__}: {error}"
    numbers = [index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    cell = notebook.cells[begun[-1]]
    shown = [line for output in cell.outputs if output.output_type == "error" for line in output.traceback]
    told = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(shown)) or f"{type(error).__name__}: {error}"
    told = str(error).splitlines()[0] if isinstance(error, CellTimeoutError) else told  # not that it was interrupted
    place = f"code cell {numbers.index(begun[-1]) + 1} of {len(numbers)}"
    return f"{page}.ipynb, {place}:\n\n{cell.source}\n\n{told}"


def run_page(page: str, timeout: int) -> tuple[nbformat.NotebookNode, float, str]:
    """Execute one notebook in its own folder: with its outputs, its seconds, and what failed, if anything did."""
    print(f"{page}: running its cells ...", flush=True)
    notebook, folder, begun = read(page), str((ROOT / page).parent), []
    options = {
        "extra_arguments": ["--log-level=ERROR"],  # each kernel warns at its start of what is as it should be
        "on_cell_execute": lambda cell, cell_index: begun.append(cell_index),
    }
    try:
        done = single_nb_execution(notebook, folder, timeout, allow_errors=False, **options)
    except Exception as crash:  # the kernel died, or did not start
        return notebook, 0.0, failure(page, notebook, begun, crash)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # idle from here: the caller says what an interruption does
    return notebook, done.time, failure(page, notebook, begun, done.err) if done.err else ""


def side_by_side(pages: list[str]) -> Iterator[tuple[str, nbformat.NotebookNode, float, str]]:
    """Execute pages, as many at a time as there are cores; passes each on when it ends. SIGTERM interrupts too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    timeout = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["execute"]["timeout"]
    with ProcessPoolExecutor(min(len(pages), cores()), multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run_page, page, timeout): page for page in pages}
        try:
            for future in as_completed(running):
                yield running[future], *future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # its kernel ends with it
            raise


def execute(pages: list[str]) -> list[str]:
    """Execute the pages that the cache does not hold; the last ones, which take longest, first.

    Returns:
        What failed, one text a page; empty where all is well.
    """
    cache, failed, todo = get_cache(CACHE), [], []
    for page in pages:
        try:
            cache.match_cache_notebook(read(page))
            print(f"{page}: unchanged, not run again", flush=True)
        except KeyError:
            todo.insert(0, page)
    for number, (page, notebook, seconds, error) in enumerate(side_by_side(todo) if todo else (), 1):
        print(f"[{number}/{len(todo)}] {page}: {'FAILED' if error else f'ran in {seconds:.0f} s'}", flush=True)
        if error:
            failed.append(error)
            continue
        bundle = CacheBundleIn(notebook, str(ROOT / f"{page}.ipynb"), data={"execution_seconds": seconds})
        cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    return failed
