"""Measure this machine: ``python -m ict_lib.bench cpu|gpu [--limit SECONDS] [PART OF A CASE'S NAME ...]``."""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ict_lib.bench import record
from ict_lib.bench.cases import Case, chosen, cpu_cases, gpu_cases
from ict_lib.bench.isolation import LATE, isolated


def run(cases: list[Case], path: Path, head: dict[str, Any], limit: float) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure cases one after another, and write the record after each.

    Source: own.

    Args:
        cases: in order.
        path: of the record.
        head: of the record.
        limit: seconds for all; a case that they cut off does not replace what an earlier call measured.

    Yields:
        Name and result of each case.
    """
    made, started = record.begin(path, head), time.monotonic()
    for case in cases:
        left = limit - (time.monotonic() - started)
        found = isolated(case.measure, case.arguments, left) if left > 0 else {"failed": LATE}
        if found.get("failed") != LATE or case.name not in made["cases"]:
            record.add(path, made, case.name, case.about | found)
        yield case.name, found


def line(name: str, found: dict[str, Any]) -> str:
    """Write a case as one line for a terminal.

    Source: own.

    Args:
        name: of the case.
        found: what was measured.
    """
    flat = {**found, **found.get("flops", {})}
    numbers = [f"{key} {value:.4g}" for key, value in flat.items() if isinstance(value, float)]
    return f"{name:<22} " + (found.get("failed") or ", ".join(numbers))


def main(words: list[str]) -> int:
    """Run the command line and return its exit code: 0 done, 2 refused."""
    parser = argparse.ArgumentParser(prog="python -m ict_lib.bench", description=__doc__)
    parser.add_argument("kind", choices=("cpu", "gpu"))
    parser.add_argument("cases", nargs="*", help="parts of names; none measures all")
    parser.add_argument("--limit", type=float, default=350, help="seconds for all")
    given = parser.parse_intermixed_args(words)
    if given.kind == "gpu" and not torch.cuda.is_available():
        print("refused: there is no CUDA device here", file=sys.stderr)
        return 2
    try:
        cases = chosen(gpu_cases() if given.kind == "gpu" else cpu_cases(), given.cases)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    head = record.header(torch.device("cuda" if given.kind == "gpu" else "cpu"))
    path = record.path_of(head)
    for name, found in run(cases, path, head, given.limit):
        print(line(name, found), flush=True)
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
