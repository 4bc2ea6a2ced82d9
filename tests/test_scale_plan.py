"""A plan of a run, as numbers, as text and as a command: `ict_lib.scale.estimate` and `ict_lib.scale.plan`."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ict_lib.__main__ import main as door
from ict_lib.config import Run
from ict_lib.recipe import ICT
from ict_lib.scale.cost import Memory, Passes
from ict_lib.scale.plan import Plan, count, duration, measured, plan_of, quantity, text_of

ROOT = Path(__file__).resolve().parents[1]
HOW = "measured on a device: 21 steps, batches of 128, tf32, compiled; 17.0 GB held"
TINY = ["network_options={channels: 16, multipliers: [1, 1], blocks: 1}", "batch_size=64", "micro_batch=8"]


@pytest.fixture(scope="module")
def ict():
    return plan_of("cifar10/ict")


def by_hand(**changes):
    """A plan with round numbers."""
    run = Run(name="a/run", data="cifar10", network="ncsnpp", steps=1000, seeds=[0, 1], precision="tf32")
    run = replace(run, batch_size=100, micro_batch=25, processes=2)
    passes = Passes(2_000_000, 5 * 10**9, 0, 3 * 10**9, 42 * 10**7, 10**9, 25)
    memory = Memory({"weights": 8 * 10**6}, {"backward pass": 3 * 10**9, "copy of the gradients": 1, "sampling": 10**9})
    disk = {"weights": 5 * 10**8, "milestones": 0, "data set": 10**9}
    return replace(Plan(run, passes, memory, disk, {}), **changes)


# --- value ---


def test_the_plan_of_ict_on_cifar10(ict):
    assert (ict.run.name, ict.run.processes, ict.run.seeds) == ("cifar10/ict", 8, [0])
    assert ict.passes.parameters == 56_395_523
    assert ict.passes.forward / 1e9 == pytest.approx(42.5, abs=0.06)
    assert ict.flops == pytest.approx(4 * 42.47e9 * 1024 * 400_000, rel=1e-3)  # 69.6 EFLOP
    assert ict.pflop_days == pytest.approx(69.6e18 / 1e15 / 86_400, rel=1e-3)
    assert ict.hours is None
    assert 10e9 < ict.memory.most < 24e9
    assert ict.memory.in_turn["backward pass"] / 128 == pytest.approx(119.4e6, rel=0.01)
    memory = {"optimizer.betas": "[0.9, 0.999]", "optimizer.weight_decay": "0", "num_samples": "50000"}
    assert ict.uncertain == memory


def test_hours_are_images_over_speed():
    plan = by_hand(images_per_second=10.0)
    assert plan.images == 2 * 1000 * 100
    assert plan.flops == 200_000 * 20 * 10**9
    assert plan.hours == pytest.approx(200_000 / 2 / 10 / 3600)
    assert by_hand().hours is None


def test_hours_of_a_study_are_those_of_as_many_trainings_at_a_time_as_there_are_cores(monkeypatch):
    study = {"variants": {"a": {}, "b": {}, "c": {}}, "device": "cpu", "processes": 1}
    monkeypatch.setattr("ict_lib.files.cores", lambda: 4)
    plan = by_hand(images_per_second=10.0)
    small = replace(plan, run=replace(plan.run, network="mlp", data="digits", **study))
    assert small.images == 3 * 2 * 1000 * 100  # three variants, two seeds
    assert small.hours == pytest.approx(2 * 100_000 / 10 / 3600)  # of six trainings four, then two
    assert replace(plan, run=replace(plan.run, **study)).hours == pytest.approx(small.hours * 3)  # each takes all cores
    assert replace(small, run=replace(small.run, variants={})).hours == pytest.approx(100_000 * 2 / 10 / 3600)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1 kB"),
        (42_472_552_544, "42.5 GB"),
        (6.96e19, "69.6 EB"),
        (2.87e21, "2.87 ZB"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(number, text):
    assert quantity(number, "B") == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.5, "30 minutes"), (1, "60 minutes"), (11.42, "11.4 hours"), (72, "3 days"), (24 * 365.25 * 20, "20 years")],
)
def test_durations_are_in_the_unit_that_fits(hours, text):
    assert duration(hours) == text


def test_a_number_of_things():
    assert [count(n, "device") for n in (0, 1, 2000)] == ["0 devices", "1 device", "2,000 devices"]


# --- invariant ---


def test_devices_share_the_batch_and_change_nothing_else():
    eight, four = (plan_of("cifar10/ict", 1000.0, [*TINY, f"processes={n}"]) for n in (8, 4))
    assert (four.passes, four.memory, four.disk) == (eight.passes, eight.memory, eight.disk)
    assert four.hours == pytest.approx(64 * 400_000 / 4 / 1000 / 3600)
    assert "on 4 devices, each 2 shards of 8 images a step" in text_of(four)


def test_a_value_that_was_changed_is_no_longer_from_memory():
    assert plan_of("digits/ict").uncertain == {}  # its file names no sources
    changed = plan_of("cifar10/ict", changes=[*TINY, "num_samples=10000"])
    assert list(changed.uncertain) == ["optimizer.betas", "optimizer.weight_decay"]
    assert changed.passes.parameters < 1_000_000


def test_a_value_in_a_dict_and_a_note_are_said():
    deep = ["network_options={channels: 16, multipliers: [1, 1, 1, 1], blocks: 1, head_channels: 16}", "batch_size=64"]
    plan = plan_of("imagenet64/ict-deep", changes=[*deep, "processes=1"])
    assert plan.uncertain["recipe.depth"] == "2; 6 blocks instead of 3"
    assert plan.uncertain["sigma_mid"] == "0.973"


def test_the_digits_are_trained_once_a_seed():
    plan = plan_of("digits/ict", images_per_second=1000.0)
    assert plan.images == 3 * 6000 * 256
    assert plan.run.recipe == ICT
    assert text_of(plan).startswith(
        "digits/ict: 3 trainings, each of 6,000 steps of 256 images\non 1 device, 1 shard of"
    )


def test_a_study_is_counted_with_all_its_trainings():
    plan = plan_of("digits/ladder", images_per_second=1000.0)
    assert plan.images == 16 * len(plan.run.seeds) * 6000 * 256
    said = text_of(plan)
    assert said.startswith(f"digits/ladder: {16 * len(plan.run.seeds)} trainings, each of 6,000 steps of 256 images\n")
    assert "\n16 variants, counted with the network" in said


def test_changes_in_one_word_are_told_apart():
    """As make hands them over."""
    one = plan_of("cifar10/ict", changes=[" ".join([*TINY, "num_samples=10000"])])
    assert list(one.uncertain) == ["optimizer.betas", "optimizer.weight_decay"]


def test_planning_needs_neither_data_nor_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ICT_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "none"))
    plan_of("digits/ct")
    assert list(tmp_path.iterdir()) == []


# --- text: every number with its unit, in columns ---

WHOLE = """\
a/run: 2 trainings, each of 1,000 steps of 100 images
on 2 devices, each 2 shards of 25 images a step

network ncsnpp                2,000,000 parameters
a forward pass                5 GFLOP an image
a training step               20 GFLOP an image (4.0 forward passes), 2 TFLOP a batch
all steps                     4 PFLOP

memory of a device, in GB = 10^9 bytes
  weights                         0.01
  then, one at a time
    backward pass                 3.00   kept of 25 images, tf32, 420 MB of it masks of dropout
    copy of the gradients         0.00   in RAdam
    sampling                      1.00   256 images
  tensors at the most             3.01   and what torch and measuring take

disk, in GB = 10^9 bytes
  weights                         0.50
  data set                        1.00
  together                        1.50

speed of a device             1,250 images/s = 25 TFLOP/s
                              measured on a device: 21 steps, batches of 128, tf32, compiled; 17.0 GB held
time                          1.33 minutes, without exchange between devices and without measuring

from memory, not from the paper [M]
  recipe.dropout              0.2   a note"""


def test_the_whole_text():
    assert text_of(by_hand(images_per_second=1250.0, how=HOW, uncertain={"recipe.dropout": "0.2   a note"})) == WHOLE


def test_small_sizes_are_in_megabytes_and_lpips_is_named():
    small = Memory({"weights": 2 * 10**6}, {"backward pass": 0, "copy of the gradients": 1, "sampling": 10**6})
    text = text_of(by_hand(memory=small, passes=Passes(1, 10, 4, 0, 0, 0, 25)), "not measured: a reason")
    assert "memory of a device, in MB = 10^6 bytes\n  weights                         2.00" in text
    assert "46 FLOP an image (4.6 forward passes, LPIPS among them)" in text
    assert "time                          not measured: a reason" in text


# --- the command ---


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with neither data nor weights."""
    for variable in ("ICT_DATA", "ICT_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("ICT_VGG16", raising=False)
    monkeypatch.chdir(ROOT)


def test_the_command_prints_plan_and_what_is_to_be_done(machine, capsys):
    assert door(["plan", "cifar10/ict", "--devices", "4", "steps=1000", *TINY, "--no-measure"]) == 0
    out = capsys.readouterr().out
    assert "cifar10/ict: 1,000 steps of 64 images\non 4 devices" in out
    assert "time                          not measured\n" in out
    assert re.search(r"to do on this machine:\n  - data set: .*python -m ict_lib data cifar10", out)
    assert max(map(len, out.partition("to do")[0].splitlines())) <= 120


def test_a_speed_is_given_or_measured(machine, capsys):
    assert door(["plan", "digits/ict", "--images-per-second", "1000"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert "1,000 images/s = 5.01 GFLOP/s" in out
    assert "nothing is missing on this machine" in out
    plan, said = measured(plan_of("digits/ict", changes=["device=cpu", "batch_size=2"]), seconds=0.1)
    assert said == ""
    assert re.search(r"\n {30}measured on CPU, .*: \d+ steps, batches of 2, fp32\n", text_of(plan))
    assert "about a minute" in capsys.readouterr().err


def test_a_measurement_that_fails_stops_nothing(capsys):
    plan = by_hand(run=replace(by_hand().run, device="cuda:99", steps=10))
    found, said = measured(plan)
    assert found == plan
    assert said.startswith("not measured: ")
    assert "\n" not in said


def test_what_takes_an_accelerator_is_not_measured_without_one(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    plan = by_hand()  # 4 PFLOP: 200,000 images, by two devices
    found, said = measured(plan)
    assert found == plan
    rate = 200_000 / 2 / (7 * 24 * 3600)
    assert said == f"not measured: no accelerator is here; a week, if each device trains on {rate:.3g} images/s"


def test_lpips_is_not_measured_without_vgg16_and_nothing_is_fetched(machine):
    plan = by_hand()
    lpips = replace(plan, run=replace(plan.run, recipe=replace(ICT, distance="lpips")))
    assert measured(lpips) == (lpips, "not measured: LPIPS lacks VGG16's weights")


# --- errors ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cifar10/itc"], "did you mean 'cifar10/ict'"),
        (["cifar10/ict", "--devices", "3"], "cannot be shared by 3 processes"),
        (["cifar10/ict", "--devices", "0"], "processes is 0: 1 <= processes"),
        (["cifar10/ict", "--images-per-second", "-1"], "images-per-second is -1.0: a positive number"),
        (["cifar10/ict", "stpes=3"], "did you mean 'steps'"),
        (["cifar10/ict", "steps"], "name=value"),
    ],
)
def test_mistakes_are_refused_in_one_line(machine, capsys, words, said):
    assert door(["plan", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("refused:")
    assert said in error
    assert error.count("\n") == 1


def test_as_a_user_calls_it(tmp_path):
    words = [sys.executable, "-m", "ict_lib", "plan", "digits/ict", "--no-measure", "steps=100", "--devices", "2"]
    quiet = {**os.environ, "ICT_CACHE": str(tmp_path)}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, env=quiet)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("digits/ict: 3 trainings, each of 100 steps of 256 images\non 2 devices, each 1")
