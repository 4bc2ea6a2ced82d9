"""What the processes of `test_training_launch.py` do; torchrun starts it as a module of its own."""

import math
import sys
from dataclasses import replace

import torch

from ict_lib.evaluation.measure import BLOCK
from ict_lib.recipe import CT, ICT
from ict_lib.training import Training, program
from ict_lib.training.measuring import evaluate
from tests import mutants

LONG = {"steps": 400, "log_every": 2, "checkpoint_every": 20, "num_samples": 20, "evaluate_every": 50}


class NanOnRankOne(Training):
    """One shard of step 7 becomes NaN, on one process only."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        draw, at = self.batches, 6 if self.group.rank == 1 else -1
        self.batches = lambda step: [s._replace(x=s.x * (math.nan if step == at else 1)) for s in draw(step)]


class OtherWeights(Training):
    """Rank 1 builds other weights than rank 0, as a processor of another kind might."""

    def _learner(self):
        learner = super()._learner()
        for weight in learner.weights if self.group.rank == 1 else ():
            weight.data += 1e-3
        return learner


class Drifting(Training):
    """One bit of rank 1's average changes at step 5; a checkpoint is due at step 8."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        draw = self.batches
        self.batches = lambda step: (step == 4 and self.drift()) or draw(step)

    def drift(self):
        for weight in self.average.parameters() if self.group.rank == 1 else ():
            weight.data = torch.nextafter(weight.data, torch.tensor(9.0))


class Measured(Training):
    """Measures on the way, as the processes of a run do."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs, evaluate=evaluate)


# name -> class and changes of the run
CASES = {
    "ICT": (Training, {"recipe": ICT}),
    "CT": (Training, {"recipe": CT}),
    "CT with dropout": (Training, {"recipe": replace(CT, dropout=0.3), "learning_rate": 1e-2}),
    "four shards": (Training, {"micro_batch": 2, "conditional": True}),
    "fp16": (Training, {"precision": "fp16"}),
    "measured": (Measured, {"num_samples": BLOCK + 100, "sigma_mid": 0.8}),
    "trap 11": (mutants.CurriculumOfMainProcess, {}),
    "nan": (NanOnRankOne, {"log_every": 4}),
    "other weights": (OtherWeights, {"recipe": ICT}),
    "drift": (Drifting, {"checkpoint_every": 8}),
    "long": (Measured, LONG),
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
    except (FloatingPointError, RuntimeError) as stop:
        error = str(stop)
    kept = {key: [getattr(record, key) for record in records] for key in ("step", "num_scales", "loss", "measured")}
    return {"weights": weights(training), "error": error, **kept}


def all_cases(run, seed, folder, group, **_):
    """Go through the cases with the processes that there are; each leaves what it got. Then rank 1 makes a mistake."""
    with (folder / f"starts-{group.rank}").open("a") as file:
        file.write("started\n")
    got = {name: outcome(cls(replace(run, **changes), seed, group=group)) for name, (cls, changes) in CASES.items()}
    torch.save(got, folder / f"rank-{group.rank}.pt")
    group.extremes(0, 0)
    if group.rank == 1:
        raise KeyError("a mistake of rank one")
    group.extremes(0, 0)
    yield


if __name__ == "__main__":
    program.main(sys.argv[1:], all_cases)
