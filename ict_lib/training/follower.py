"""Reading a file of metrics while another process writes it."""

import json
import os
from pathlib import Path
from typing import Any


class Follower:
    """Reads the lines of a :class:`MetricsLog` that another process writes, as they come.

    Source: own.

    Args:
        path: of the file; it may be replaced by another of that name, which is then read from its start.
    """

    def __init__(self, path: Path):
        self.path, self._file, self._rest = path, path.open("rb"), b""

    def new(self) -> list[dict[str, Any]]:
        """Return the lines that were completed since the last call."""
        if not os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
            self._file.close()
            self._file, self._rest = self.path.open("rb"), b""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        return [json.loads(line) for line in whole]

    def __del__(self):
        self._file.close()
