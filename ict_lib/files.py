"""Files that are whole or not there."""

import os
from pathlib import Path


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Replace a file by new content, or leave it as it was.

    Source: own.

    Args:
        path: the file.
        parts: what it shall hold, one after another.

    Raises:
        OSError: if the content could not be written; the file is then as before.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
