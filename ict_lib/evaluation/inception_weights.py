"""The weights of torch-fidelity's Inception network: a file that is given, kept, or downloaded once."""

import os
from pathlib import Path

from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

from ict_lib.data.published import published_file


def inception_weights(
    weights: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
) -> Path:
    """Find the weights, or download them from where torch-fidelity has them.

    They must be the published ones: with other weights an FID compares to no other.

    Source: own.

    Args:
        weights: path of the file; see :func:`~ict_lib.data.published.published_file` for where it is otherwise looked
            for. The environment variable is ``ICT_INCEPTION``.
        cache_dir: folder to look and download into; see `cache_folder` for where it is otherwise.
        download: fetch them if they are not there.

    Returns:
        Path of a file whose SHA-256 starts as its published name says.

    Raises:
        FileNotFoundError: if ``weights`` or the variable names what is not a file, or none is there and none fetched.
        ValueError: if the file is damaged or another one.
        RuntimeError: if there is no file and it cannot be downloaded; says what to put where.
    """
    return published_file(URL_INCEPTION_V3, "ICT_INCEPTION", weights, cache_dir, download)
