"""The memory, disk and operations that a run takes: sums over what the passes take."""

from typing import NamedTuple

from ict_lib.data import DATASETS, Entry
from ict_lib.plan.passes import Passes
from ict_lib.run_config import RunConfig
from ict_lib.training.checkpoint import KEEP

FLOAT = 4  # bytes: weights, averages, gradients and moments are 32-bit in every precision
LABEL = 8  # bytes
MAPPED = ("imagenet64",)  # data sets that stay in their file


class Memory(NamedTuple):
    """What a device holds while it trains, in bytes; without the work space and the gaps between tensors.

    Attributes:
        always: part -> bytes, there all the time.
        in_turn: part -> bytes, of which no two are there at once.
    """

    always: dict[str, int]
    in_turn: dict[str, int]

    @property
    def most(self) -> int:
        """Bytes at the peak."""
        return sum(self.always.values()) + max(self.in_turn.values())


def memory(config: RunConfig, passes: Passes) -> Memory:
    """Say what a device holds while it trains.

    Source: own.

    Args:
        config: of a training.
        passes: of its micro-batch.

    Returns:
        Bytes. The copy of the gradients is that of the exchange between processes, and after it one of RAdam.
    """
    weights, form = FLOAT * passes.parameters, DATASETS[config.data]
    always = {
        "weights": weights,
        "teacher": weights if config.recipe.teacher == "ema" else 0,
        "moving average": weights,
        "gradients": weights,
        "RAdam's moments": 2 * weights,
        "data set": LABEL * form.num if config.data in MAPPED else data_bytes(form),
    }
    in_turn = {"backward pass": passes.kept, "copy of the gradients": weights, "sampling": passes.sampling}
    return Memory({part: size for part, size in always.items() if size}, in_turn)


def disk(config: RunConfig, trainings: int, passes: Passes) -> dict[str, int]:
    """Say what a run has on the disk at the most, which is before its end, in bytes.

    Source: own.

    Args:
        config: of a training.
        trainings: one a seed.
        passes: of its micro-batch; only the parameters count.

    Returns:
        Part -> bytes. A checkpoint is written beside the others before the oldest is deleted.
    """
    one, weights = checkpoint_bytes(config, passes), FLOAT * passes.parameters
    milestones = -(-config.steps // config.milestone_every) if config.milestone_every else 0
    return {
        "newest checkpoints": (KEEP * trainings + 1) * one,
        "milestones": milestones * trainings * one,
        "weights": (2 if config.measuring else 1) * trainings * weights,  # the last, and the best
        "data set": data_bytes(DATASETS[config.data]),
    }


def checkpoint_bytes(config: RunConfig, passes: Passes) -> int:
    """Return the size of a checkpoint: student, average, both moments and, if it is another, the teacher.

    Source: own.

    Args:
        config: of a training.
        passes: of its micro-batch; only the parameters count.
    """
    return FLOAT * passes.parameters * (5 if config.recipe.teacher == "ema" else 4)


def data_bytes(form: Entry) -> int:
    """Return the size of a data set whose numbers are bytes, with its labels.

    Source: own.

    Args:
        form: of the data.
    """
    channels, height, width = form.shape
    return form.num * (channels * height * width + LABEL)
