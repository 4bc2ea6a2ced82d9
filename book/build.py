"""Builds the book: ``python book/build.py``.

Chapters run once and are then taken from a cache, until the chapter, the library or a run's record changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import web_assets
import yaml

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "_build"
HTML = BUILD / "html"
STATE = BUILD / "built_from.json"
LOG = BUILD / "build.log"
RECORDS = {".yaml", ".json", ".jsonl", ".png"}
PASSING = {
    "__pycache__",
    ".ipynb_checkpoints",
    ".partial",
    "preview",
    "checkpoints",
}  # made by running, not read


def library_files() -> list[Path]:
    """Files that the chapters' cells use: the library, the runs' records, published numbers, the pinned packages."""
    files = [path for path in (ROOT / "ict_lib").rglob("*") if path.is_file()]
    files += [path for path in (ROOT / "runs").rglob("*") if path.suffix in RECORDS]
    files += (ROOT / "book").glob("*.csv")
    kept = [path for path in files if not PASSING & set(path.relative_to(ROOT).parts)]
    return [*kept, ROOT / "requirements.txt"]


def page_files() -> list[Path]:
    """Files that the pages are made of: chapters, assets, configuration."""
    files = [path for path in (ROOT / "book").rglob("*") if path.is_file()]
    kept = [path for path in files if not PASSING & set(path.relative_to(ROOT).parts)]
    return [*kept, ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "package-lock.json"]


def digest(files: Iterable[Path]) -> str:
    """One hash over the names and contents of files, and the version of Python.

    Source: own.
    """
    total = hashlib.sha256(sys.version.encode())
    for path in sorted(files):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def chapters() -> list[str]:
    """Names of all pages in the order of the table of contents."""
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
    return [contents["root"], *(entry["file"] for entry in contents["chapters"])]


def read_state() -> dict[str, str]:
    """What the last build was made from; empty where there is none."""
    try:
        return json.loads(STATE.read_text("utf8"))
    except (OSError, ValueError):
        return {}


def clear(library: str) -> None:
    """Delete what must not be built upon: pages always, the notebooks' cache where the library changed.

    Source: own.

    Args:
        library: digest of the library's files as they are now.
    """
    if read_state().get("library") != library:
        shutil.rmtree(BUILD / ".jupyter_cache", ignore_errors=True)
    for folder in (HTML, BUILD / ".doctrees"):  # a second -W build would pass over a broken page
        shutil.rmtree(folder, ignore_errors=True)
    BUILD.mkdir(exist_ok=True)
    STATE.write_text(json.dumps({"library": library}), "utf8")  # no "pages": not built yet


class Progress:
    """Prints which chapter is executing, from the lines of the builder's output."""

    def __init__(self, pages: list[str]) -> None:
        self._pages = pages
        self._begun: list[str] = []

    def read(self, line: str) -> None:
        """Print one line where a chapter begins, ends, or comes from the cache."""
        found = re.search(r"(book/\w+)(?:\.ipynb)?: (Executing notebook using|Executed|Using cached)(.*)", line)
        if not found or found[1] not in self._pages:
            return
        page, event, rest = found.groups()
        if page not in self._begun:
            self._begun.append(page)
        place = f"[{self._begun.index(page) + 1}/{len(self._pages)}] {page}"
        seconds = re.search(r"in ([\d.]+) seconds", rest)
        ran = f"ran in {float(seconds[1]):.0f} s" if seconds else "ran"
        text = {"Executed": ran, "Using cached": "unchanged, not run again"}.get(event, "running its cells ...")
        print(f"{place}: {text}", flush=True)


def show_warnings(lines: Iterable[str]) -> None:
    """Pass the builder's warnings and tracebacks on, without what each kernel says at its start."""
    for line in lines:
        if "Kernel is running over TCP without encryption" not in line:
            print(line, end="", file=sys.stderr, flush=True)


def run_builder(pages: list[str]) -> int:
    """Run Jupyter Book; warnings and a failed cell's traceback go to the terminal as they come.

    Source: own.

    Returns:
        Its exit status.
    """
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-W", "--keep-going"]
    environment = os.environ | {
        "PYTHONUNBUFFERED": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "NO_COLOR": "1",
    }
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf8", "errors": "replace"}
    progress = Progress(pages)
    with (
        LOG.open("w", encoding="utf8") as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as builder,
        ThreadPoolExecutor(1) as other,
    ):
        other.submit(show_warnings, builder.stderr)
        for line in builder.stdout:
            log.write(line)
            progress.read(line)
    return builder.returncode


def give_index_an_icon() -> None:
    """Jupyter Book's first page only leads to the next; without an icon of its own a browser asks for a missing one."""
    index = HTML / "index.html"
    index.write_text('<link rel="icon" href="data:,">\n' + index.read_text("utf8"), "utf8")


def show_failure() -> None:
    """Say where the reports of failed cells lie."""
    reports = sorted((HTML / "reports").rglob("*.log"))
    print("\nThe book was not built: see the warnings above.", file=sys.stderr)
    for path in reports:
        print(f"  error of a cell: {path}", file=sys.stderr)
    print(f"  all output:      {LOG}", file=sys.stderr)


def main() -> int:
    """Build what changed and say what to do next.

    Source: own.

    Returns:
        The exit status: 0, or 1 where a page or a cell failed.
    """
    began = time.monotonic()
    web_assets.install()
    state = {"library": digest(library_files()), "pages": digest(page_files())}
    if read_state() == state and (HTML / "index.html").exists():
        print("Nothing changed since the last build.")
    else:
        clear(state["library"])
        if run_builder(chapters()):
            show_failure()
            return 1
        give_index_an_icon()
        STATE.write_text(json.dumps(state), "utf8")
    print(f"The book is ready after {time.monotonic() - began:.0f} s: {HTML / 'index.html'}")
    print("Next: `make serve` shows it in a browser, `make lab` opens the chapters to change them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
