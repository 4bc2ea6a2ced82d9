"""Memory and disk of a run: `ict_lib.plan.cost`."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ict_lib.data import digits
from ict_lib.data.stand_in import FORMS, stand_in
from ict_lib.plan.cost import MAPPED, Memory, checkpoint_bytes, data_bytes, disk, memory
from ict_lib.plan.passes import Passes, count_passes, without_memory
from ict_lib.recipe import CT, ICT
from ict_lib.run_config import Measuring, RunConfig
from ict_lib.training.loop import Training

NCSNPP = Passes(56_395_523, 42_472_552_544, 0, 15_500_000_000, 11_400_000_000, 128)
CIFAR10 = RunConfig(data="cifar10", network="ncsnpp", steps=400_000, milestone_every=50_000)
MEASURING = Measuring(20_000, 50_000, 0.821)

# --- value: sums by hand ---


def test_memory_of_ict_on_cifar10():
    found = memory(CIFAR10, NCSNPP)
    weights = 4 * 56_395_523  # 226 MB, as the exchange of gradients says
    assert found.always == {
        "weights": weights,
        "moving average": weights,
        "gradients": weights,
        "RAdam's moments": 2 * weights,
        "data set": 50_000 * (3 * 32 * 32 + 8),
    }
    assert found.in_turn == {
        "backward pass": 15_500_000_000,
        "copy of the gradients": weights,
        "sampling": 11_400_000_000,
    }
    assert found.most == 5 * weights + 50_000 * 3080 + 15_500_000_000


def test_disk_of_ict_on_cifar10():
    weights = 4 * 56_395_523
    found = disk(replace(CIFAR10, measuring=MEASURING), 1, NCSNPP)
    assert found["newest checkpoints"] == 4 * 4 * weights  # three, and the one that is being written
    assert found["milestones"] == 8 * 4 * weights
    assert found["weights"] == 2 * weights  # the last and the best
    assert found["data set"] == 50_000 * 3080


def test_cts_teacher_has_weights_of_its_own_in_memory_and_on_disk():
    ct = replace(CIFAR10, recipe=CT)
    weights = 4 * 56_395_523
    assert memory(ct, NCSNPP).always["teacher"] == weights
    assert "teacher" not in memory(CIFAR10, NCSNPP).always
    assert checkpoint_bytes(ct, NCSNPP) - checkpoint_bytes(CIFAR10, NCSNPP) == weights


def test_imagenet_stays_in_its_file_but_for_the_labels():
    assert MAPPED == ("imagenet64",)
    config = RunConfig(data="imagenet64", network="adm")
    assert memory(config, NCSNPP).always["data set"] == 1_281_167 * 8
    assert disk(config, 1, NCSNPP)["data set"] == 1_281_167 * (3 * 64 * 64 + 8)


# --- invariant ---


def test_of_what_comes_in_turn_the_largest_counts():
    assert Memory({"a": 1, "b": 2}, {"x": 10, "y": 7}).most == 13
    assert Memory({"a": 1, "b": 2}, {"x": 10, "y": 70}).most == 73


def test_each_seed_keeps_its_files_and_one_checkpoint_is_written_at_a_time():
    one, three = (disk(CIFAR10, trainings, NCSNPP) for trainings in (1, 3))
    size = checkpoint_bytes(CIFAR10, NCSNPP)
    assert three["newest checkpoints"] - one["newest checkpoints"] == 2 * 3 * size
    assert three["milestones"] == 3 * one["milestones"]
    assert three["weights"] == 3 * one["weights"]
    assert three["data set"] == one["data set"]


def test_a_last_step_off_the_beat_is_a_milestone_too():
    size = checkpoint_bytes(CIFAR10, NCSNPP)
    assert disk(replace(CIFAR10, steps=9, milestone_every=4), 1, NCSNPP)["milestones"] == 3 * size
    assert disk(replace(CIFAR10, milestone_every=None), 1, NCSNPP)["milestones"] == 0


# --- independent slow reference: real files and real tensors ---


@pytest.mark.parametrize("recipe", [CT, ICT], ids=["ct", "ict"])
def test_the_disk_is_that_of_a_real_training_at_its_fullest(tmp_path, recipe):
    options = {"recipe": recipe, "batch_size": 4, "folder": str(tmp_path)}
    config = RunConfig(**options, steps=12, log_every=1, checkpoint_every=1, milestone_every=3)
    with without_memory():
        passes = count_passes(config, FORMS["digits"], torch.device("cuda"))
    for _ in Training(config, data=stand_in("digits", 16)):
        pass
    files = list(Path(tmp_path).glob("step-*.ckpt"))
    assert len(files) == 3 + 4
    expected = disk(config, 1, passes)
    found = sum(path.stat().st_size for path in files) + checkpoint_bytes(config, passes)
    assert found == pytest.approx(expected["newest checkpoints"] + expected["milestones"], rel=0.05)


@pytest.mark.parametrize("recipe", [CT, ICT], ids=["ct", "ict"])
def test_the_memory_that_is_always_there_is_that_of_a_real_training(recipe):
    config = RunConfig(network_options={"width": 64, "blocks": 2}, recipe=recipe, batch_size=8, log_every=1)
    with without_memory():
        passes = count_passes(config, FORMS["digits"], torch.device("cuda"))
    training = Training(config, data=stand_in("digits"))
    next(training)
    states = training.optimizer.state.values()
    tensors = [p for model in {training.student, training.teacher, training.average} for p in model.parameters()]
    tensors += [p.grad for p in training.student.parameters()]
    tensors += [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]
    tensors += [training.data.pixels, training.data.labels]
    assert sum(memory(config, passes).always.values()) == sum(t.numel() * t.element_size() for t in tensors)


# --- shapes ---


def test_the_sizes_of_the_data_sets():
    assert data_bytes(FORMS["cifar10"]) == pytest.approx(154e6, rel=0.01)
    assert data_bytes(FORMS["imagenet64"]) == pytest.approx(15.8e9, rel=0.01)
    assert data_bytes(FORMS["digits"]) < digits.load().pixels.nbytes  # which are floats
