"""What the processes of `test_training_launch.py` do; they import it, so it cannot stand there."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from ict_lib.run_config import Measuring
from ict_lib.training.worker import member

from ict_lib.evaluation.measure import BLOCK
from ict_lib.recipe import CT, ICT
from ict_lib.training import Training
from tests import mutants


class NanOnRankOne(Training):
    """One shard of step 7 becomes NaN, on one process only."""

    def _backward(self, shard, following):
        output = super()._backward(shard, following)
        return output._replace(loss=output.loss * math.nan) if (self.group.rank, self.step) == (1, 6) else output


# name -> class and changes of the configuration
CASES = {
    "ICT": (Training, {"recipe": ICT}),
    "CT": (Training, {"recipe": CT}),
    "four shards": (Training, {"micro_batch": 2, "conditional": True}),
    "fp16": (Training, {"precision": "fp16"}),
    "measured": (Training, {"measuring": Measuring(every=20, num_samples=BLOCK + 100, sigma_mid=0.8)}),
    "trap 11": (mutants.CurriculumOfMainProcess, {}),
    "nan": (NanOnRankOne, {"log_every": 4}),
    "long": (Training, {"steps": 400}),
}


def weights(training):
    """Student, teacher and average, flat."""
    models = (training.student, training.teacher, training.average)
    return torch.cat([p.detach().flatten() for model in models for p in model.parameters()])


def outcome(training):
    """What a training gives: weights, records, and its error if there is one."""
    records, error = [], ""
    try:
        records.extend(training)
    except FloatingPointError as stop:
        error = str(stop)
    kept = {key: [getattr(record, key) for record in records] for key in ("step", "num_scales", "loss", "measured")}
    return {"weights": weights(training), "error": error, **kept}


def all_cases(config):
    """Go through the cases with the processes that there are; each leaves what it got. Then rank 1 makes a mistake."""
    with member(config) as (config, group):
        plain = replace(config, folder=None)
        got = {name: outcome(cls(replace(plain, **changes), True, group)) for name, (cls, changes) in CASES.items()}
        torch.save(got, Path(config.folder) / f"rank-{group.rank}.pt")
        group.extremes(0, 0)
        if group.rank == 1:
            raise KeyError("a mistake of rank one")
        group.extremes(0, 0)
