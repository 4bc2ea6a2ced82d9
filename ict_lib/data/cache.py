"""Where files that can be made or downloaded again are kept, data sets among them."""

import os
from pathlib import Path


def cache_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Choose the folder for files that can be made or downloaded again; it is not created here.

    The first that applies: ``folder``; the environment variable ``ICT_CACHE``; ``.cache/ict_lib`` of the
    project, if the library runs from a checkout; ``ict_lib`` in ``XDG_CACHE_HOME``; ``.cache/ict_lib`` of the
    home folder.

    Source: own.

    Args:
        folder: a folder that goes before all others.

    Returns:
        The folder, absolute.
    """
    chosen = folder or os.environ.get("ICT_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").is_file():
        return project / ".cache" / "ict_lib"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "ict_lib"


def data_folder(folder: str | os.PathLike[str] | None = None) -> Path:
    """Choose the folder of the data sets, each in its own subfolder; it is not created here.

    The first that applies: ``folder``; the environment variable ``ICT_DATA``; ``data`` in the `cache_folder`.

    Source: own.

    Args:
        folder: a folder that goes before all others.

    Returns:
        The folder, absolute.
    """
    chosen = folder or os.environ.get("ICT_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "data"
