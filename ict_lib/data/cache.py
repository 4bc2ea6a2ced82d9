"""Where files that can be made or downloaded again are kept, data sets and published weights among them."""

import hashlib
import os
from pathlib import Path

from ict_lib.files import command


def cache_folder() -> Path:
    """Choose the folder for files that can be made or downloaded again, absolute; it is not created here.

    The first that applies: the environment variable ``ICT_CACHE``; ``.cache/ict_lib`` of the project, if the library
    runs from a checkout; ``ict_lib`` in ``XDG_CACHE_HOME``; ``.cache/ict_lib`` of the home folder.
    """
    if chosen := os.environ.get("ICT_CACHE"):
        return Path(chosen).expanduser().absolute()
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").is_file():
        return project / ".cache" / "ict_lib"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "ict_lib"


def data_folder(folder: str | Path | None = None) -> Path:
    """Choose the folder of the data sets: ``folder``, else ``ICT_DATA``, else ``data`` in the `cache_folder`."""
    chosen = folder or os.environ.get("ICT_DATA")
    return Path(chosen).expanduser().absolute() if chosen else cache_folder() / "data"


def fetch_command(name: str, folder: Path) -> str:
    """Write the command that brings a data set into a folder, for error messages."""
    return command("data", name, str(folder))


def published_file(url: str, variable: str, download: bool = True) -> Path:
    """Find a file that was published under a name ending in the start of its SHA-256, or download it.

    The last part of the URL is the file's name, such as ``vgg16-397923af.pth``. Looked for in this order: the file that
    the environment variable names, the `cache_folder`, the torch hub folder, where other programs keep it.

    If the variable names what is not a file, or none is there and none is to be fetched, there is a FileNotFoundError;
    if the file is damaged or another one, a ValueError; if it cannot be downloaded, a RuntimeError that says what to
    put where.
    """
    import torch  # seconds, which a refused command need not wait for

    name, given = url.rsplit("/", 1)[1], os.environ.get(variable)
    kept, prefix = cache_folder() / name, Path(name).stem.rsplit("-", 1)[1]
    places = [Path(given).expanduser()] if given else [kept, Path(torch.hub.get_dir()) / "checkpoints" / name]
    for place in filter(Path.is_file, places):
        found = hashlib.sha256(place.read_bytes()).hexdigest()
        if not found.startswith(prefix):
            raise ValueError(f"{place} is damaged or not {name}: its SHA-256 is {found}, must start with {prefix}")
        return place
    if given:
        raise FileNotFoundError(f"{variable} is {given!r}, which is not a file; expected a copy of {name}")
    if not download:
        raise FileNotFoundError(f"{kept} is missing: downloaded from {url} when needed; {variable} may name a copy")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(kept), hash_prefix=prefix, progress=False)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"the weights {name} are missing and cannot be downloaded ({error}). Get {url} on a machine with a "
            f"network and put it in the folder {kept.parent}, or set the environment variable {variable} to its path"
        ) from None  # the traceback of a missing network helps nobody
    return kept
