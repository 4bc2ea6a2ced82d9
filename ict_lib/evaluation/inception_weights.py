"""The weights of torch-fidelity's Inception network: a file that is given, kept, or downloaded once."""

import hashlib
import os
from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from ict_lib.data.cache import cache_folder

FILE = URL_INCEPTION_V3.rsplit("/", 1)[1]
HASH_PREFIX = Path(FILE).stem.rsplit("-", 1)[1]  # the file is named after the start of its SHA-256


def inception_weights(
    weights: str | os.PathLike[str] | None = None, cache_dir: str | os.PathLike[str] | None = None
) -> Path:
    """Find the weights, or download them from where torch-fidelity has them.

    Looked for in this order: ``weights``, the cache folder, torch-fidelity's own place in the torch hub
    folder. The file must be the published one: with other weights an FID compares to no other.

    Source: own.

    Args:
        weights: path of the file.
        cache_dir: folder to look and download into; see `cache_folder` for where it is otherwise.

    Returns:
        Path of a file whose SHA-256 starts as its published name says.

    Raises:
        FileNotFoundError: if ``weights`` is given and is not a file.
        ValueError: if the file is damaged or another one.
        RuntimeError: if there is no file and it cannot be downloaded; says what to put where.
    """
    if weights is not None:
        path = Path(weights)
        if not path.is_file():
            raise FileNotFoundError(f"weights = {str(path)!r} is not a file; expected a copy of {FILE}")
        return _checked(path)
    kept = cache_folder(cache_dir) / FILE
    for path in (kept, Path(torch.hub.get_dir()) / "checkpoints" / FILE):
        if path.is_file():
            return _checked(path)
    return _download(kept)


def _checked(path: Path) -> Path:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(HASH_PREFIX):
        raise ValueError(f"{path} is damaged or not {FILE}: its SHA-256 is {found}, must start with {HASH_PREFIX}")
    return path


def _download(path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(URL_INCEPTION_V3, str(path), hash_prefix=HASH_PREFIX, progress=False)
    except (OSError, RuntimeError) as error:
        raise RuntimeError(
            f"the Inception weights are missing and cannot be downloaded ({error}). Get {URL_INCEPTION_V3} "
            f"on a machine with a network and put it in the folder {path.parent} as {path.name}, "
            "or give its path as the parameter weights"
        ) from None  # the traceback of a missing network helps nobody
    return path
