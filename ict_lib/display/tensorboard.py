"""A run in TensorBoard: while it trains, or afterwards by ``python -m ict_lib.display.tensorboard digits/ict``."""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from ict_lib.run import record as records

PLACE = "tensorboard"  # below the run's results


class TensorBoardLog:
    """The event files of one training, below ``tensorboard/seed-N``; used as :class:`ict_lib.run.record.MetricsLog` is.

    What is added is on disk at once. Starting at step 0 deletes what an earlier training with this seed left; going on
    at a later step hides what came after it, and will be written again.

    Source: own; the format is TensorBoard's.

    Args:
        folder: of the run's results.
        seed: of the training.
        step: that the training goes on from.
        last: the line of that step; added if an interruption came between the checkpoint and the line.
    """

    def __init__(self, folder: str | Path, seed: int, step: int = 0, last: dict[str, Any] | None = None):
        self.folder = Path(folder) / PLACE / f"seed-{seed}"
        if step == 0:
            for path in self.folder.glob("events.out.tfevents.*"):
                path.unlink()
        missing = last is not None and last["step"] not in self._steps()
        self._writer = SummaryWriter(self.folder, purge_step=step + 1)
        self._writer.flush()
        if missing:
            self.append(last)

    def append(self, line: dict[str, Any], clock: float | None = None) -> None:
        """Add one line, which must hold its ``step``: a scalar for each number but ``seed`` and ``step``.

        Args:
            line: of ``metrics.jsonl``; what is not a number is passed over.
            clock: when it was, in seconds since 1970; None is now.
        """
        for name, value in line.items():
            if name not in ("seed", "step") and type(value) in (int, float):
                self._writer.add_scalar(name, value, line["step"], clock)
        self._writer.flush()

    def picture(self, name: str, sheet: np.ndarray, step: int) -> None:
        """Add a picture.

        Args:
            name: above it.
            sheet: 8-bit levels, shape ``[rows, columns]`` or ``[rows, columns, 3]``, from
                :func:`ict_lib.display.plots.grid`.
            step: at which it was drawn.

        Raises:
            ValueError: if ``sheet`` has another type or shape.
        """
        grey = sheet.ndim == 2
        if sheet.dtype != np.uint8 or not (grey or sheet.shape[2:] == (3,)):
            raise ValueError(f"sheet is {sheet.dtype} {sheet.shape}: uint8 [rows, columns] or [.., .., 3] is needed")
        self._writer.add_image(name, sheet, step, dataformats="HW" if grey else "HWC")
        self._writer.flush()

    def close(self) -> None:
        """Close the file, after the last line."""
        self._writer.close()

    def _steps(self) -> set[int]:
        """Read the steps that have a scalar."""
        found = EventAccumulator(str(self.folder), {"scalars": 0}).Reload()
        return {event.step for name in found.Tags()["scalars"] for event in found.Scalars(name)}


def convert(record: records.Record) -> Path:
    """Write the event files of a finished run, in the place of those that were there.

    Source: own.

    Args:
        record: of the run. TensorBoard's axis ``relative`` then shows the time of training.

    Returns:
        The folder, for ``tensorboard --logdir``.
    """
    start = time.time()
    for seed in record.manifest["seeds"]:
        log = TensorBoardLog(record.folder, seed)
        for line in record.metrics:
            if line["seed"] == seed:
                log.append(line, start + line["seconds"])
        log.close()
    return record.folder / PLACE


def main(words: list[str]) -> int:
    """Run the command line and return its exit code: 0 done, 2 refused."""
    if not words:
        print("refused: which runs? for example digits/ict", file=sys.stderr)
        return 2
    try:
        found = [records.read(word) for word in words]
    except FileNotFoundError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    for record in found:
        print(f"to see it: tensorboard --logdir {convert(record)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
