"""A plan of a run, as numbers, as text and as a command: `ict_lib.plan`."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ict_lib.plan import Plan, plan_of
from ict_lib.plan import __main__ as command
from ict_lib.plan.cost import Memory
from ict_lib.plan.marks import Setting
from ict_lib.plan.passes import Passes
from ict_lib.plan.speed import Speed
from ict_lib.plan.text import count, duration, quantity, text_of
from ict_lib.run_config import RunConfig

from ict_lib.recipe import ICT

ROOT = Path(__file__).resolve().parents[1]
SPEED = Speed(1250.0, 128, 21, "a device", "tf32", True, 17 * 10**9)


@pytest.fixture(scope="module")
def ict():
    return plan_of("cifar10/ict", root=ROOT)


def by_hand(**changes):
    """A plan with round numbers."""
    config = RunConfig(data="cifar10", network="ncsnpp", steps=1000, batch_size=100, micro_batch=25, precision="tf32")
    passes = Passes(2_000_000, 5 * 10**9, 0, 3 * 10**9, 10**9, 25)
    memory = Memory({"weights": 8 * 10**6}, {"backward pass": 3 * 10**9, "copy of the gradients": 1, "sampling": 10**9})
    plan = Plan("a/run", config, 2, 2, passes, memory, {"weights": 5 * 10**8, "milestones": 0, "data set": 10**9}, [])
    return replace(plan, **changes)


# --- value ---


def test_the_plan_of_ict_on_cifar10(ict):
    assert ict.name == "cifar10/ict"
    assert (ict.devices, ict.trainings) == (8, 1)
    assert ict.passes.parameters == 56_395_523
    assert ict.passes.forward / 1e9 == pytest.approx(42.5, abs=0.06)
    assert ict.flops == pytest.approx(4 * 42.47e9 * 1024 * 400_000, rel=1e-3)  # 69.6 EFLOP
    assert ict.pflop_days == pytest.approx(69.6e18 / 1e15 / 86_400, rel=1e-3)
    assert ict.hours is None
    assert 10e9 < ict.memory.most < 24e9
    assert ict.memory.in_turn["backward pass"] / 128 == pytest.approx(121e6, rel=0.01)
    assert [setting.name for setting in ict.uncertain] == ["optimizer.betas", "optimizer.weight_decay", "num_samples"]


def test_hours_are_images_over_speed():
    plan = by_hand(images_per_second=10.0)
    assert plan.images == 2 * 1000 * 100
    assert plan.flops == 200_000 * 20 * 10**9
    assert plan.hours == pytest.approx(200_000 / 2 / 10 / 3600)
    assert by_hand().at(SPEED).hours == pytest.approx(200_000 / 2 / 1250 / 3600)
    assert by_hand().at(SPEED).speed == SPEED


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
    assert count(2, "micro-batch", "es") == "2 micro-batches"


# --- invariant ---


def test_devices_share_the_batch_and_change_nothing_else(ict):
    four = plan_of("cifar10/ict", devices=4, images_per_second=1000.0, root=ROOT)
    assert (four.devices, four.passes, four.memory, four.disk) == (4, ict.passes, ict.memory, ict.disk)
    assert four.hours == pytest.approx(1024 * 400_000 / 4 / 1000 / 3600)
    assert "2 micro-batches of 128 images a step" in text_of(four)


def test_a_value_that_was_changed_is_no_longer_from_memory():
    plan = plan_of("digits/ict", root=ROOT)
    assert plan.uncertain == []  # its file has no marks
    changed = plan_of("cifar10/ict", changes=["num_samples=10000", "network_options.channels=16"], root=ROOT)
    assert [setting.name for setting in changed.uncertain] == ["optimizer.betas", "optimizer.weight_decay"]
    assert changed.passes.parameters < 1_000_000


def test_the_digits_are_trained_once_a_seed():
    plan = plan_of("digits/ict", images_per_second=1000.0, root=ROOT)
    assert plan.trainings == 3
    assert plan.images == 3 * 6000 * 256
    assert plan.config.recipe == ICT
    assert text_of(plan).startswith(
        "digits/ict: 3 trainings, each of 6,000 steps of 256 images\non 1 device, 1 micro-batch"
    )


def test_planning_needs_neither_data_nor_files(tmp_path, monkeypatch):
    monkeypatch.setenv("ICT_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "none"))
    plan_of("digits/ct", root=ROOT)
    assert list(tmp_path.iterdir()) == []


# --- text: every number with its unit, in columns ---

WHOLE = """\
a/run: 2 trainings, each of 1,000 steps of 100 images
on 2 devices, each 2 micro-batches of 25 images a step

network ncsnpp                2,000,000 parameters
a forward pass                5 GFLOP an image
a training step               20 GFLOP an image (4.0 forward passes), 2 TFLOP a batch
all steps                     4 PFLOP

memory of a device, in GB = 10^9 bytes
  weights                         0.01
  then, one at a time
    backward pass                 3.00   kept of 25 images, tf32
    copy of the gradients         0.00   exchanged, then in RAdam
    sampling                      1.00   256 images
  together at the most            3.01   and CUDA's work space

disk, in GB = 10^9 bytes
  weights                         0.50
  data set                        1.00
  together                        1.50

speed of a device             1,250 images/s = 25 TFLOP/s
                              measured on a device: 21 steps of 128 images, tf32, compiled; 17.0 GB held
time                          1.33 minutes, without exchange between devices and without measuring

from memory, not from the paper [M]
  recipe.dropout              0.2   a note"""


def test_the_whole_text():
    plan = by_hand(uncertain=[Setting("recipe.dropout", 0.2, "M", "a note", False)]).at(SPEED)
    assert text_of(plan) == WHOLE


def test_small_sizes_are_in_megabytes_and_lpips_is_named():
    small = Memory({"weights": 2 * 10**6}, {"backward pass": 0, "copy of the gradients": 1, "sampling": 10**6})
    text = text_of(by_hand(memory=small, passes=Passes(1, 10, 4, 0, 0, 25)), "not measured: a reason")
    assert "memory of a device, in MB = 10^6 bytes\n  weights                         2.00" in text
    assert "46 FLOP an image (4.6 forward passes, LPIPS among them)" in text
    assert "time                          not measured: a reason" in text


# --- the command ---


@pytest.fixture
def machine(monkeypatch, tmp_path):
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    monkeypatch.setenv("ICT_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)


def test_the_command_prints_plan_speed_and_what_is_to_be_done(machine, monkeypatch, capsys):
    monkeypatch.setattr(command, "measure_speed", lambda config: SPEED)
    assert command.main(["cifar10/ict", "--devices", "4", "steps=1000"]) == 0
    out = capsys.readouterr().out
    assert "cifar10/ict: 1,000 steps of 1,024 images\non 4 devices" in out
    assert "measured on a device" in out
    assert re.search(r"to do on this machine:\n  - data set: .*python -m ict_lib data cifar10", out)
    assert max(map(len, out.partition("to do")[0].splitlines())) <= 120


def test_a_speed_that_is_given_is_not_measured(machine, monkeypatch, capsys):
    monkeypatch.setattr(command, "measure_speed", lambda config: pytest.fail("measured"))
    assert command.main(["digits/ict", "--images-per-second", "1000"]) == 0
    out = capsys.readouterr().out
    assert "1,000 images/s = 5.01 GFLOP/s" in out
    assert "nothing is missing on this machine" in out
    assert command.main(["digits/ict", "--no-measure"]) == 0
    assert "time                          not measured\n" in capsys.readouterr().out


@pytest.mark.parametrize("error", [TimeoutError("a step took 99 s"), RuntimeError("CUDA out of memory\nmore")])
def test_a_measurement_that_fails_stops_nothing(machine, monkeypatch, capsys, error):
    def fail(config):
        raise error

    monkeypatch.setattr(command, "measure_speed", fail)
    assert command.main(["digits/ict"]) == 0
    assert f"time                          not measured: {str(error).splitlines()[0]}\n" in capsys.readouterr().out


def test_lpips_is_not_measured_without_vgg16_and_nothing_is_fetched(machine, monkeypatch):
    monkeypatch.setattr(command, "measure_speed", lambda config: pytest.fail("measured"))
    monkeypatch.delenv("ICT_VGG16", raising=False)
    plan = by_hand()
    lpips = replace(plan, config=replace(plan.config, recipe=replace(ICT, distance="lpips")))
    assert command.measured(lpips) == (lpips, "not measured: LPIPS lacks VGG16's weights")


# --- errors ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cifar10/itc"], "did you mean 'cifar10/ict'"),
        (["cifar10/ict", "--devices", "3"], "a divisor of the 8 shards"),
        (["cifar10/ict", "--devices", "0"], "processes > 0"),
        (["cifar10/ict", "--images-per-second", "-1"], "images_per_second is -1.0: images_per_second > 0"),
        (["cifar10/ict", "stpes=3"], "did you mean 'steps'"),
        (["cifar10/ict", "steps"], "name=value"),
    ],
)
def test_mistakes_are_refused_in_one_line(machine, capsys, words, said):
    assert command.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("refused:")
    assert said in error
    assert error.count("\n") == 1


def test_as_a_user_calls_it(tmp_path):
    words = [sys.executable, "-m", "ict_lib.plan", "digits/ict", "--no-measure", "steps=100", "--devices", "2"]
    quiet = {**os.environ, "ICT_CACHE": str(tmp_path)}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120, env=quiet)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("digits/ict: 3 trainings, each of 100 steps of 256 images\non 2 devices, each 1")
