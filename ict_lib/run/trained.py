"""The trained model of a finished run, read back; the data need not be there."""

from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import DATASETS
from ict_lib.run.manifest import run_of
from ict_lib.recipe import require
from ict_lib.run.record import read
from ict_lib.training.model import build_model
from ict_lib.training.weights import load_weights


def trained_model(name: str, seed: int | None = None) -> ConsistencyModel:
    """Read the model that a run left: the averaged weights, in the network that its manifest names.

    Source: own.

    Args:
        name: of the run, such as ``digits/ict``.
        seed: of the training; None takes the run's first.

    Returns:
        The model, on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: if there is no record, or no weights, with the command that makes them.
        ValueError: if the run has no such seed, or the weights are damaged or another network's.
    """
    record = read(name)
    run = run_of(record.manifest)
    seed = run.seeds[0] if seed is None else seed
    require(seed in run.seeds, "seed", seed, f"one of the run's, {run.seeds},")
    path = record.folder / f"weights-seed-{seed}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: weights are not kept in git; `make run RUN={name}` makes them")
    config = replace(run.config, seed=seed)
    try:
        model = build_model(config, DATASETS[config.data].shape, _num_classes(path))
        load_weights(path, model)
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged, or not of the network in its manifest: {error}") from None
    return model.eval()


def _num_classes(path: Path) -> int:
    """Count the classes that a network was trained with; 0 for none."""
    with safe_open(path, "pt") as file:
        names, table = file.keys(), "network.classes.weight"
        return file.get_slice(table).get_shape()[0] if table in names else 0
