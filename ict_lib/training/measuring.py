"""Measuring a training while it goes on: all processes draw, one computes, and the best weights are kept."""

from pathlib import Path

import safetensors

from ict_lib.consistency import ConsistencyModel
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.measure import draw, measure
from ict_lib.group import Alone
from ict_lib.run_config import RunConfig
from ict_lib.training.checkpoint import BEST
from ict_lib.training.weights import save_weights

RANKED_BY = "fid_1_step"


def measure_together(
    average: ConsistencyModel, data: Dataset, config: RunConfig, step: int, group: Alone
) -> dict[str, float]:
    """Measure the averaged weights in one step and in two, and keep them if no earlier ones had a lower FID.

    The numbers do not depend on how many processes there are, and are those that the run's end would give.

    Source: own.

    Args:
        average: the weights to sample, the same in all processes.
        data: what is trained on.
        config: of the training; ``measuring`` says what is asked for, ``folder`` where the best weights go.
        step: training steps taken.
        group: of processes; each of them calls this.

    Returns:
        What :func:`ict_lib.evaluation.measure.measure` gives, in the process of rank 0; nothing in the others.
    """
    asked, top, found = config.measuring, config.recipe.sigma_max, {}
    for label, sigmas in {"1_step": (top,), "2_steps": (top, asked.sigma_mid)}.items():
        images = draw(average, data, asked.num_samples, sigmas, seed=final_seed(config.seed), group=group)
        if group.rank == 0:
            found |= measure(images, data, label)
    if found and config.folder:
        keep_best(Path(config.folder) / BEST, average, step, found[RANKED_BY])
    return found


def final_seed(seed: int) -> int:
    """Return the seed of the noise from which a training's images are measured; no quick look uses it.

    Source: own.

    Args:
        seed: of the training.
    """
    return 10_000 + seed


def keep_best(path: Path, model: ConsistencyModel, step: int, value: float) -> None:
    """Write weights if they are the best so far.

    Source: own.

    Args:
        path: of the best weights.
        model: that was measured.
        step: training steps that it took.
        value: lower is better.
    """
    before = best_so_far(path)
    if before is None or value < before[1] or step < before[0]:  # later ones are of a training that was given up
        save_weights(path, model, {"step": str(step), RANKED_BY: repr(value)})


def best_result(config: RunConfig) -> dict[str, float]:
    """Return of which step a training's best weights are, and their FID, as entries of its result.

    The best of many measurements looks better than it is: it was chosen by the number that is reported.

    Source: own.

    Args:
        config: of the training.

    Returns:
        ``best_step`` and ``best_fid_1_step``; nothing if the training was not measured on its way.
    """
    best = best_so_far(Path(config.folder) / BEST) if config.folder else None
    return {"best_step": best[0], f"best_{RANKED_BY}": best[1]} if best else {}


def best_so_far(path: Path) -> tuple[int, float] | None:
    """Read of which step the best weights are, and their FID.

    Source: own.

    Args:
        path: of the best weights.

    Returns:
        Step and FID; None where there are none yet.
    """
    if not path.exists():
        return None
    with safetensors.safe_open(path, "pt") as file:
        notes = file.metadata()
    return int(notes["step"]), float(notes[RANKED_BY])
