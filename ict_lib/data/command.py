"""Bring a data set into its folder: ``python -m ict_lib data NAME [FOLDER] [--source SOURCE]``."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from ict_lib.checks import require_known
from ict_lib.data import DATASETS, fetch
from ict_lib.data.cache import data_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("name", help=", ".join(DATASETS))
    parser.add_argument("folder", nargs="?", type=Path, help="of all data sets; otherwise ICT_DATA, or the cache")
    parser.add_argument("--source", type=Path, help="of ImageNet: photographs in a folder a class, or published .npz")


def main(given: argparse.Namespace) -> int:
    """Fetch or pack, with a bar, and say where it is; stopped, the same command goes on."""
    require_known("data set", given.name, DATASETS)  # before there is a bar
    try:
        with tqdm(desc=given.name, unit=" images") as bar:
            for done, bar.total in fetch(given.name, given.folder, given.source):
                bar.update(done - bar.n)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 1
    print(f"{done:,} images of {given.name}, checked. To train on them: export ICT_DATA={data_folder(given.folder)}")
    return 0
