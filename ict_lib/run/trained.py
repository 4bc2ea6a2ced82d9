"""The trained model of a finished run, read back; the data need not be there."""

from pathlib import Path

from safetensors import SafetensorError

from ict_lib.config import Run
from ict_lib.consistency import ConsistencyModel
from ict_lib.data import DATASETS
from ict_lib.run.record import read
from ict_lib.training.model import build_model, load_weights


def trained_model(name: str, seed: int | None = None) -> ConsistencyModel:
    """Read the averaged weights that a run such as ``digits/ict`` left, on the CPU, in evaluation mode.

    ``seed`` is that of the training; None takes the run's first. ``FileNotFoundError`` if there is no record or no
    weights, with the command that makes them; ``ValueError`` if the run has no such seed, or they are damaged.
    """
    record = read(name)
    run = record.run
    return read_model(record.weights(seed), run, run.seeds[0] if seed is None else seed)


def read_model(path: Path, run: Run, seed: int) -> ConsistencyModel:
    """Read weights of one training of a run; refuse a file that is damaged, or of another network than the run's."""
    data = DATASETS[run.data]
    model = build_model(run, data.shape, data.num_classes, seed)
    try:
        load_weights(path, model)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged, or not of the network in its manifest: {error}") from None
    return model.eval()
