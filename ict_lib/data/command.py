"""Bring a data set into its folder: ``python -m ict_lib data NAME [FOLDER] [--source SOURCE]``."""

import argparse
import signal

from tqdm import tqdm

from ict_lib.data import fetch
from ict_lib.data.cache import data_folder
from ict_lib.files import Stopped


def main(given: argparse.Namespace) -> int:
    """Fetch or pack, with a bar, and say where it is; stopped, the same command goes on."""
    try:
        with tqdm(desc=given.name, unit=" images") as bar:
            for done, bar.total in fetch(given.name, given.folder, given.source):
                bar.update(done - bar.n)
    except KeyboardInterrupt:
        raise Stopped("stopped; the same command goes on", signal.SIGINT) from None
    print(f"{done:,} images of {given.name}, checked. To train on them: export ICT_DATA={data_folder(given.folder)}")
    return 0
