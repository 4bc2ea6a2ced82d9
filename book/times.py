"""Notes how long the cells of each page took in the last build, and on which machine: ``make times``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from execute import CACHE, ROOT, chapters, read
from jupyter_cache import get_cache
from top import TIMES

from ict_lib.files import cores, write_json
from ict_lib.scale.record import made_by


def main() -> int:
    """Write the times, and return the exit code: 2 where a page was not executed."""
    seconds = {
        Path(record.uri).relative_to(ROOT).with_suffix("").as_posix(): round(record.data["execution_seconds"], 1)
        for record in get_cache(CACHE).list_cache_records()
    }
    pages = [page for page in chapters() if any(cell.cell_type == "code" for cell in read(page).cells)]
    missing = [page for page in pages if page not in seconds]
    if missing:
        print(f"refused: not executed yet: {', '.join(missing)}; make times executes all", file=sys.stderr)
        return 2
    machine = {name: value for name, value in made_by(torch.device("cpu")).items() if name != "device"}
    write_json(TIMES, {**machine, "at_a_time": cores(), "seconds": {page: seconds[page] for page in pages}})
    return 0


if __name__ == "__main__":
    sys.exit(main())
