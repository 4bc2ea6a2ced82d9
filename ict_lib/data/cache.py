"""Where files that can be made or downloaded again are kept, data sets among them, and how these are asked for."""

import os
import shlex
from pathlib import Path


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Choose the folder for files that can be made or downloaded again, absolute; it is not created here.

    The first that applies: ``folder``; the environment variable ``ICT_CACHE``; ``.cache/ict_lib`` of the project, if
    the library runs from a checkout; ``ict_lib`` in ``XDG_CACHE_HOME``; ``.cache/ict_lib`` of the home folder.
    """
    chosen = folder or os.environ.get("ICT_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").is_file():
        return project / ".cache" / "ict_lib"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "ict_lib"


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Choose the folder of the data sets: ``folder``, else ``ICT_DATA``, else ``data`` in the `cache_folder`."""
    chosen = folder or os.environ.get("ICT_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "data"


def fetch_command(name: str, folder: Path) -> str:
    """Write the command that brings a data set into a folder, for error messages."""
    return f"python -m ict_lib data {name} {shlex.quote(str(folder))}"
