"""Bring a data set into its folder: ``python -m ict_lib data NAME [FOLDER] [--source SOURCE]``."""

import argparse
import signal

from tqdm import tqdm

from ict_lib.data import DATASETS, fetch
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
    whole = DATASETS[given.name].num
    part = f" (the whole set has {whole:,})" * (done != whole)
    where = f"To train on them: export ICT_DATA={data_folder(given.folder)}"
    print(f"{done:,} images of {given.name}{part}, checked. {where}")
    return 0
