"""What a training says of itself as it goes on."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ict_lib.config import Run


@dataclass(frozen=True)
class Metrics:
    """What is known of a training after some step."""

    seed: int  # of the training
    step: int  # steps taken
    num_scales: int  # N at that step
    loss: float  # mean over the steps since the record before
    images_seen: int  # samples used, all steps together
    seconds: float  # training time so far, without evaluation and without what was lost to an interruption
    skipped: int = 0  # steps so far that changed no weight because a gradient overflowed; in fp16 alone
    peak_memory_bytes: int = 0  # the most memory that the process of rank 0 has held
    # what was measured at that step, if it was due; see :mod:`ict_lib.training.measuring`
    measured: dict[str, float] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """Return all of it as one flat dict: a line of a run's record."""
        line = asdict(self)
        return line | line.pop("measured")

    def result(self) -> dict[str, Any]:
        """Return what the last metrics say of the whole training."""
        whole = ("seed", "seconds", "images_seen", "skipped", "peak_memory_bytes")
        return {**{name: getattr(self, name) for name in whole}, **self.measured}

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> "Metrics":
        """Make metrics of a line again."""
        own = {field.name for field in fields(cls)} - {"measured"}
        measured = {name: value for name, value in line.items() if name not in own}
        return cls(**{name: value for name, value in line.items() if name in own}, measured=measured)


def lines_left(run: Run, step: int) -> int:
    """Return how many lines of metrics are still to come after a step."""
    return -(-run.steps // run.log_every) - step // run.log_every if step < run.steps else 0
