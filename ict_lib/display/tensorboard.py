"""A run in TensorBoard: while it trains, or afterwards by ``python -m ict_lib tensorboard digits/ict``."""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from ict_lib.run import record as records
from ict_lib.training.folder import LOOKS

PLACE = "tensorboard"  # below the run's results


class TensorBoardLog:
    """The event files of one training, below ``tensorboard/seed-N`` of its run; what is added is on disk at once.

    A new log of a training's folder, ``runs/<name>/seed-N``, takes the place of what was there, with the lines of
    metrics so far: an interruption shows nowhere. TensorBoard's axis ``relative`` shows their seconds of training.
    """

    def __init__(self, training: Path, lines: Iterable[dict[str, Any]] = ()):
        self.folder, self._looks, lines = training.parent / PLACE / training.name, training / LOOKS, list(lines)
        for path in self.folder.glob("events.out.tfevents.*"):
            path.unlink()
        self._writer = SummaryWriter(self.folder)
        self._start = time.time() - (lines[-1]["seconds"] if lines else 0.0)
        self.add(*lines)

    def add(self, *lines: dict[str, Any]) -> None:
        """Add lines of metrics: a scalar for each number but ``seed`` and ``step``, and the samples of that step."""
        for line in lines:
            step, clock = line["step"], self._start + line["seconds"]
            for name, value in line.items():
                if name not in ("seed", "step") and type(value) in (int, float):
                    self._writer.add_scalar(name, value, step, clock)
            look = self._looks / f"step-{step:09d}.png"
            if look.exists():
                with Image.open(look) as picture:
                    levels = np.asarray(picture.convert("RGB"))
                self._writer.add_image("samples", levels, step, clock, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the file, after the last line."""
        self._writer.close()


def write_tensorboard(name: str) -> Path:
    """Write the event files of a finished run, in the place of earlier ones; return the folder for ``--logdir``.

    If the run has left no record, there is a FileNotFoundError with the command that makes one.
    """
    record = records.read(name)
    for seed in record.run.seeds:
        TensorBoardLog(record.folder / f"seed-{seed}", record.of_seed(seed)).close()
    return record.folder / PLACE


def main(given: argparse.Namespace) -> int:
    """Write the files of all runs and say how to see them."""
    for name in given.runs:
        print(f"to see it: tensorboard --logdir {write_tensorboard(name)}")
    return 0
