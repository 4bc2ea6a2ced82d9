"""How fast a machine trains: `ict_lib.plan.speed`."""

from dataclasses import replace
from math import inf

import pytest
import torch

from ict_lib.bench import timing
from ict_lib.plan import speed
from ict_lib.plan.speed import fitting, measure_speed
from ict_lib.run_config import Measuring, RunConfig

SMALL = RunConfig(batch_size=64, micro_batch=16, network_options={"width": 16, "blocks": 1}, device="cpu")


class Clock:
    """Stands for a training of known speed: a step takes ``fixed + each * images`` seconds of a clock that it moves."""

    def __init__(self, fixed, each, first=0.0):
        self.fixed, self.each, self.first, self.now, self.made = fixed, each, first, 0.0, []

    def training(self, config, data=None):
        self.made.append(config)
        clock, left = self, [self.first]

        class Fake:
            last, device = None, torch.device("cpu")

            def __init__(self):
                self.config = config

            def __next__(self):
                clock.now += clock.fixed + clock.each * config.batch_size + (left.pop() if left else 0)

        return Fake()


@pytest.fixture
def clock(monkeypatch):
    def install(*numbers):
        made = Clock(*numbers)
        monkeypatch.setattr(speed, "Training", made.training)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
        return made

    return install


# --- value ---


@pytest.mark.parametrize(
    ("most", "tried", "took", "seconds", "fits"),
    [
        (128, 1, 1.0, 60, 20),
        (128, 8, 1.0, 60, 128),
        (128, 1, 100.0, 60, 1),
        (16, 1, 0.001, 60, 16),
        (50, 8, 4.0, 60, 40),
    ],
)
def test_so_many_images_that_three_steps_fit(most, tried, took, seconds, fits):
    assert fitting(most, tried, took, seconds) == fits
    assert fits == 1 or 3 * fits * took / tried <= seconds


def test_the_speed_of_a_training_whose_speed_is_known(clock):
    made = clock(0.5, 0.25, 7.0)
    found = measure_speed(SMALL)
    assert found.images_per_second == pytest.approx(16 / (0.5 + 16 * 0.25))
    assert found.batch == 16
    assert made.now < 2 * 60 + 3 * 7 + 10
    assert found.steps == 13  # of 4.5 s: one more would end after a minute


# --- invariant ---


def test_a_slow_cpu_takes_fewer_images_and_two_steps(clock):
    clock(0.0, 2.0)
    found = measure_speed(SMALL)
    assert found.batch == 10
    assert found.images_per_second == pytest.approx(0.5)
    assert found.steps == 2  # of 20 s: a third would end too late
    clock(0.0, 50.0)
    found = measure_speed(SMALL)
    assert (found.batch, found.steps) == (1, 2)
    assert found.images_per_second == pytest.approx(0.02)


def test_a_fixed_cost_does_not_hide_the_speed_of_many_images(clock):
    """With one image alone, 16 would seem to take too long."""
    clock(1.5, 0.01)
    assert measure_speed(SMALL).batch == 16


def test_what_is_trained_is_the_run_with_one_micro_batch_a_step_and_no_files(clock):
    made = clock(0.0, 0.01)
    measuring = Measuring(1, 10, 0.821)
    config = replace(SMALL, precision="fp16", compile=True, folder="none", measuring=measuring, steps=3)
    found = measure_speed(config)
    last = made.made[-1]
    assert (last.batch_size, last.micro_batch, last.folder, last.measuring, last.log_every) == (16, None, None, None, 1)
    assert last.steps > 1000
    assert (last.precision, last.compile) == (found.precision, found.compiled) == ("fp32", False)  # on a CPU
    assert (last.network, last.network_options, last.recipe) == (config.network, config.network_options, config.recipe)


def test_an_accelerator_trains_as_the_run_says_and_may_compile_for_long(clock, monkeypatch):
    class Device:
        type = "xpu"

    monkeypatch.setattr(speed, "pick_device", lambda name: Device())
    monkeypatch.setattr(speed, "device_name", lambda device: "a device")
    made = clock(0.0, 0.01, 500.0)
    found = measure_speed(replace(SMALL, precision="fp16", compile=True))
    assert (found.precision, found.compiled, found.device, found.peak_memory) == ("fp16", True, "a device", None)
    assert [config.batch_size for config in made.made] == [16]
    assert found.images_per_second == pytest.approx(100)


# --- a real training ---


def test_a_real_training_of_a_second():
    found = measure_speed(SMALL, seconds=1.0)
    assert found.batch == 16
    assert found.images_per_second > 16
    assert 2 <= found.steps <= speed.MOST_STEPS
    assert found.device.startswith("CPU")


# --- errors ---


def test_a_step_that_takes_longer_than_a_minute_stops_it(clock):
    made = clock(0.0, 61.0)
    with pytest.raises(TimeoutError, match="a step of 1 images took 61 s: stopped"):
        measure_speed(SMALL)
    assert made.now == 61


def test_a_slow_second_step_stops_an_accelerator(clock):
    made = clock(0.0, 5.0)
    training = speed._warm(SMALL, 16, inf)
    with pytest.raises(TimeoutError, match="a step of 16 images took 80 s"):
        speed._seconds(training)
    assert made.now == 160
