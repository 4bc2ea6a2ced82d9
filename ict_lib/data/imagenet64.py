"""ImageNet at 64x64, packed into one file that is read through a memory map."""

import os
from collections.abc import Iterator
from pathlib import Path

from ict_lib.data.cache import data_folder, fetch_command
from ict_lib.data.dataset import Dataset
from ict_lib.data.packed import load_packed


def load(folder: str | os.PathLike[str] | None = None, verify: bool = False) -> Dataset:
    """Open the training part; mirror images are allowed, as in ADM. Whether iCT flipped images of it is not known.

    Images are uint8 ``[num, 3, 64, 64]``, mapped from their file; 1,281,167, and labels 0 to 999, if the source was
    whole. The folder, else the `data_folder`, holds ``imagenet64``. Sizes and labels are always compared with the
    header; ``verify`` compares every pixel with its checksum, which reads 16 GB once. Raises as `load_dataset` does.

    Source: Russakovsky et al. 2015, arXiv:1409.0575; the file is our own.
    """
    root = data_folder(folder)
    command = f"{fetch_command('imagenet64', root)} --source SOURCE"
    return load_packed(root / "imagenet64", "imagenet64", flip=True, command=command, verify=verify)


def pack_source(source: Path, root: Path, workers: int = 0) -> Iterator[tuple[int, int]]:
    """Pack a source into ``imagenet64`` of a folder, see `packing.pack`; yield images so far, and images in all."""
    from ict_lib.data.imagenet64_sources import source_of  # needs Pillow and torchvision, which training does not
    from ict_lib.data.packing import pack

    found = source_of(source)
    for done in pack(found, root / "imagenet64", workers):
        yield done, len(found.labels)
