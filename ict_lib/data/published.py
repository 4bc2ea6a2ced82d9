"""A published file of weights: given, kept, or downloaded once; checked by the hash in its name."""

import hashlib
import os
from pathlib import Path

import torch

from ict_lib.data.cache import cache_folder


def published_file(
    url: str,
    variable: str,
    path: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Path:
    """Find a file that was published under a name ending in the start of its SHA-256, or download it.

    The last part of the URL is the file's name, such as ``vgg16-397923af.pth``. Looked for in this order: ``path``, the
    file that the environment variable names, the `cache_folder`, the torch hub folder, where other programs keep it.

    Raises:
        FileNotFoundError: if ``path`` or the variable names what is not a file, or none is there and none fetched.
        ValueError: if the file is damaged or another one.
        RuntimeError: if there is no file and it cannot be downloaded; says what to put where.
    """
    name = url.rsplit("/", 1)[1]
    given, source = (os.environ.get(variable) or None, variable) if path is None else (path, "the path given")
    kept = cache_folder(cache_dir) / name
    if given is not None:
        if not (copy := Path(given).expanduser()).is_file():
            raise FileNotFoundError(f"{source} is {str(given)!r}, which is not a file; expected a copy of {name}")
        return _checked(copy, name)
    for place in (kept, Path(torch.hub.get_dir()) / "checkpoints" / name):
        if place.is_file():
            return _checked(place, name)
    if not download:
        hint = f"downloaded from {url} when it is needed; {variable} may name a copy"
        raise FileNotFoundError(f"{kept} is missing: {hint}")
    return _download(url, kept, variable)


def _hash_prefix(name: str) -> str:
    return Path(name).stem.rsplit("-", 1)[1]


def _checked(path: Path, name: str) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(_hash_prefix(name)):
        rule = f"its SHA-256 is {found}, must start with {_hash_prefix(name)}"
        raise ValueError(f"{path} is damaged or not {name}: {rule}")
    return path


def _download(url: str, path: Path, variable: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_prefix(path.name), progress=False)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"the weights {path.name} are missing and cannot be downloaded ({error}). Get {url} on a machine with a "
            f"network and put it in the folder {path.parent}, or set the environment variable {variable} to its path"
        ) from None  # the traceback of a missing network helps nobody
    return path
