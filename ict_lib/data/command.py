"""The command ``python -m ict_lib data``: fetch or pack a data set, and check every byte of it."""

import argparse
import sys

from tqdm import tqdm

from ict_lib.data import fetch
from ict_lib.data.cache import data_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("name", help="digits, fashion_mnist, cifar10 or imagenet64")
    parser.add_argument("folder", nargs="?", help="where it goes; else $ICT_DATA, else the cache")
    parser.add_argument("--source", help="of ImageNet: a folder of photographs for each class, or of the .npz archives")
    parser.add_argument("--workers", type=int, default=0, help="processes beside this one that read photographs")


def main(given: argparse.Namespace) -> int:
    """Fetch a data set with a progress bar; stopped, the same command goes on."""
    try:
        with tqdm(unit=" images") as bar:
            for done, bar.total in fetch(given.name, given.folder, given.source, given.workers):
                bar.update(done - bar.n)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 1
    folder = data_folder(given.folder)
    print(f"{done:,} images of {given.name}, whole. To train on them: export ICT_DATA={folder}")
    return 0
