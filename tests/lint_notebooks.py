"""Checks what ruff does not: notebooks store no outputs, no bar stands above a sentence, no file names a machine."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Home folders and work folders, not part of a longer relative path or of a web address.
MACHINE_PATH = re.compile(r"(?<![\w.:/~*-])(?:/(?:home|Users|root|work)/\w|[A-Z]:\\{1,2}Users\\)")


def committed_files() -> list[Path]:
    """Files that git keeps or would keep."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def stored_results(notebook: dict) -> list[str]:
    """What a notebook stores that running it made: one line each."""
    found = []
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code" and (cell.get("outputs") or cell.get("execution_count")):
            found.append(f"cell {number} stores outputs or an execution count")
    if "widgets" in notebook["metadata"]:
        found.append("the state of widgets is stored")
    return found


def fold_bars(notebook: dict) -> list[str]:
    """The cells that end with a computed sentence and are folded: a page shows a bar above each."""
    found = []
    for number, cell in enumerate(notebook["cells"], 1):
        if cell["cell_type"] == "code" and "hide-input" in cell["metadata"].get("tags", []):
            last = ast.parse("".join(cell["source"])).body[-1]
            if isinstance(last, ast.Expr) and ast.unparse(last).startswith("say("):
                found.append(f"cell {number} only says something: tag it remove-input, not hide-input")
    return found


def machine_paths(text: str) -> list[str]:
    """The lines that name a machine's own folder."""
    lines = enumerate(text.splitlines(), 1)
    return [f"line {number} names a machine's folder: {line.strip()[:80]}" for number, line in lines
            if MACHINE_PATH.search(line) or f"{ROOT}/" in line]  # fmt: skip


def main() -> int:
    """Print every finding; exit status 1 where there is one."""
    findings = []
    for path in committed_files():
        try:
            text = path.read_text("utf8")
        except UnicodeDecodeError:
            continue  # a picture
        found = machine_paths(text)
        if path.suffix == ".ipynb":
            notebook = json.loads(text)
            found += stored_results(notebook) + fold_bars(notebook)
        findings += [f"{path.relative_to(ROOT)}: {finding}" for finding in found]
    print("\n".join(findings) or "Notebooks are clean, and no file names a machine's folder.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
