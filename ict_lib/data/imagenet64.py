"""ImageNet at 64x64. To make it: ``python -m ict_lib.data.imagenet64 SOURCE TARGET [--workers N]``."""

import argparse
import os
from pathlib import Path

from tqdm import tqdm

from ict_lib.data.cache import data_folder
from ict_lib.data.dataset import Dataset
from ict_lib.data.packed import load_packed
from ict_lib.data.packing import pack

SUBFOLDER = "imagenet64"


def load(folder: str | os.PathLike[str] | None = None, check: bool = True) -> Dataset:
    """Open the training part, packed by this module's command; mirror images are allowed, as in ADM.

    Whether iCT flipped images of ImageNet is not known.

    Source: Russakovsky et al. 2015, arXiv:1409.0575; the file is our own.

    Args:
        folder: holds ``imagenet64``; see `data_folder` for where it is otherwise.
        check: compare every pixel with its checksum, which reads 16 GB once.

    Returns:
        Images, uint8 ``[num, 3, 64, 64]``, mapped from their file, and labels; 1,281,167 and 0 to 999 if the source
        was whole.

    Raises:
        FileNotFoundError: if a file is missing, with the command that makes it.
        ValueError: if a file is damaged, cut short or of another version.
    """
    target = data_folder(folder) / SUBFOLDER
    command = f"python -m ict_lib.data.imagenet64 SOURCE {target}"
    return load_packed(target, "imagenet64", flip=True, command=command, check=check)


def main(arguments: list[str] | None = None) -> None:
    """Pack ImageNet, with a progress bar; started again it goes on where it was."""
    parser = argparse.ArgumentParser(prog="python -m ict_lib.data.imagenet64", description=main.__doc__)
    parser.add_argument("source", type=Path, help="a folder of photographs for each class, or train_data_batch_*")
    parser.add_argument("target", type=Path, help="such as $ICT_DATA/imagenet64, where training looks for it")
    parser.add_argument("--workers", type=int, default=1, help="processes; with archives each takes 2 GB of memory")
    given = parser.parse_args(arguments)
    from ict_lib.data.imagenet64_sources import WHOLE, plan_for  # needs Pillow, which training does not

    try:
        plan = plan_for(given.source)
        with tqdm(total=len(plan.labels), unit=" images") as bar:
            for done in pack(plan, given.target, given.workers):
                bar.update(done)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on") from None
    note = "" if len(plan.labels) == WHOLE else f" (the whole training part has {WHOLE:,} of 1,000)"
    print(f"{len(plan.labels):,} images of {len(plan.classes):,} classes in {given.target}{note}")


if __name__ == "__main__":
    main()
