"""Builds the book: ``python book/build.py``.

Chapters run once, side by side, and are then taken from a cache, until something changes that they show.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import finish
import web_assets
from execute import BUILD, ROOT, chapters, digest, execute, forget, kept, key, set_environment

from ict_lib.files import read_json

HTML = BUILD / "html"
STATE = BUILD / "built_from.json"
LOG = BUILD / "build.log"


def page_files() -> list[Path]:
    """Files that the pages are made of: chapters, assets, configuration."""
    return kept([*(ROOT / "book").rglob("*"), ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "package-lock.json"])


def clear() -> None:
    """Delete the pages, since a second ``-W`` build would pass over a broken one."""
    for folder in (HTML, BUILD / ".doctrees"):
        shutil.rmtree(folder, ignore_errors=True)
    STATE.unlink(missing_ok=True)


def run_builder() -> int:
    """Run Jupyter Book; its warnings go to the terminal as they come. Returns its exit status."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "-W", "--keep-going"]
    with LOG.open("w", encoding="utf8") as log:
        return subprocess.run(command, cwd=ROOT, stdout=log, check=False).returncode


def build() -> bool:
    """Build what changed; tells whether all went well."""
    BUILD.mkdir(exist_ok=True)
    try:
        web_assets.install()
    except RuntimeError as error:
        print(f"The book was not built: {error}", file=sys.stderr)
        return False
    keys = {page: key(page) for page in chapters()}
    state = {**keys, "pages": digest(page_files())}
    if read_json(STATE) == state and (HTML / "index.html").exists():
        print("Nothing changed since the last build.")
        return True
    clear()
    forget(keys)
    if failed := execute(list(keys)):
        print("\n\n".join(["", *failed, "The book was not built: see above."]), file=sys.stderr)
        return False
    print("All cells ran; the pages are being written ...", flush=True)
    if run_builder():
        print(f"\nThe book was not built: see the warnings above.\n  all output: {LOG}", file=sys.stderr)
        return False
    try:
        finish.finish()
    except ValueError as error:
        print(f"\nThe book was not built: {error}", file=sys.stderr)
        return False
    STATE.write_text(json.dumps(state, indent=1), "utf8")
    return True


def main() -> int:
    """Build and say what to do next. Returns the exit status: 1 where a page or a cell failed, 130 if interrupted."""
    began = time.monotonic()
    set_environment()
    try:
        done = build()
    except KeyboardInterrupt:
        print("\nStopped. `make book` goes on with the chapters that had not ended.", file=sys.stderr)
        return 130
    if not done:
        return 1
    print(f"The book is ready after {time.monotonic() - began:.0f} s: {HTML / 'index.html'}")
    print("Next: `make serve` shows it in a browser, `make lab` opens the chapters to change them.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
