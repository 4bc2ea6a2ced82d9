"""The timer, and what is timed with it: `ict_lib.scale.speed`. None of these tests says how fast anything is."""

import re
import time
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.config import Run
from ict_lib.data import stand_in
from ict_lib.scale.cost import Traffic, count_passes, without_memory
from ict_lib.scale.speed import bare_passes, measure_speed, overhead, prepared, product_rate, repeated, traffic
from ict_lib.training import Training

CPU = torch.device("cpu")
SMALL = Run(batch_size=64, micro_batch=16, processes=4, network_options={"width": 16, "blocks": 1}, device="cpu")
UNET = Run(network="small_unet", network_options={"channels": 8, "blocks": 1}, batch_size=4, device="cpu", log_every=2)
FLOPS = 10**5  # about what an image takes in SMALL


class SlowSteps(Training):
    """Half a second more for each line of metrics."""

    def __next__(self):
        time.sleep(0.5)
        return super().__next__()


# --- value: the work that is timed ---


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_bare_passes_are_four_forward_passes_of_each_image_and_step(micro_batch):
    run = replace(UNET, micro_batch=micro_batch)
    with without_memory():
        step = count_passes(run).step
    passes = bare_passes(prepared(run))
    with FlopCounterMode(display=False) as counter:
        passes()
    images = run.log_every * run.batch_size
    assert 0.9 * images * step < counter.get_total_flops() <= images * step  # the first layer needs no input gradient


def test_a_speed_says_what_was_trained():
    rate, how = measure_speed(replace(SMALL, precision="fp16", compile=True), FLOPS, seconds=1.0)
    assert rate > 16
    steps = re.fullmatch(r"measured on CPU, .*: (\d+) steps, batches of 16, fp32", how)  # neither fp16 nor compiled
    assert 2 <= int(steps[1]) <= 200


# --- invariant ---


def test_the_traffic_of_one_image_and_of_two_tells_that_of_five():
    found, five = traffic(SMALL), prepared(replace(SMALL, batch_size=5, micro_batch=None, processes=1, log_every=1))
    next(five)
    with Traffic() as counted:
        next(five)
    assert counted.operations == found["operations"] > 100
    assert counted.bytes == found["bytes_per_step"] + 5 * found["bytes_per_image"]
    weights = 4 * sum(weight.numel() for weight in five.student.parameters())
    assert found["bytes_per_step"] > 20 * weights > 0  # RAdam alone has seven operations on three tensors of a weight


def test_works_take_turns_and_stop_in_time():
    order = []
    times = repeated([lambda: order.append("a"), lambda: order.append("b")], CPU, seconds=0, least=3)
    assert order == ["a", "b"] * 3
    assert [len(each) for each in times] == [3, 3]
    (times,) = repeated([lambda: time.sleep(0.05)], CPU, seconds=0.2, most=1000)
    assert min(times) >= 0.05
    assert 1 < len(times) <= 4
    (times,) = repeated([lambda: None], CPU, seconds=60, most=5)
    assert len(times) == 5


def test_a_large_network_takes_few_images_and_two_steps_on_a_cpu():
    assert "2 steps, batches of 1, " in measure_speed(SMALL, flops=10**15, seconds=0.0)[1]


def test_nothing_is_written_or_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = replace(SMALL, evaluate_every=1, measure_every=1, checkpoint_every=1, steps=1, tensorboard=True)
    assert "2 steps" in measure_speed(run, FLOPS, seconds=0.0)[1]  # more than the run has
    assert list(tmp_path.iterdir()) == []


# --- independent slow reference ---


def test_what_a_step_does_besides_its_passes_is_seen():
    run = Run(network_options={"width": 16, "blocks": 1}, batch_size=4, log_every=2, device="cpu")
    slow = overhead(SlowSteps(run, data=stand_in("digits", 50)), 0, least=3)
    assert slow["step_ms"] > 250  # of two steps
    assert slow["ratio"] == pytest.approx(slow["step_ms"] / slow["bare_ms"], rel=0.5)
    assert slow["ratio"] > 4
    assert slow["images_per_second"] == pytest.approx(4e3 / slow["step_ms"])
    assert slow["ratio_low"] <= slow["ratio"] <= slow["ratio_high"]
    assert slow["turns"] == 3


# --- shapes, dtypes ---


def test_the_batch_of_a_stand_in_may_be_larger_than_it():
    run = Run(network_options={"width": 16, "blocks": 1}, batch_size=5000, log_every=1, device="cpu")
    assert overhead(prepared(run), 0, least=1)["turns"] == 1


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_matrices_multiply_at_some_rate(precision):
    assert product_rate(precision, CPU, 32, seconds=0) > 0


# --- errors ---


def test_what_the_training_lacks_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("ICT_VGG16", str(tmp_path / "none.pth"))
    lpips = replace(UNET, recipe=replace(UNET.recipe, distance="lpips"))
    with pytest.raises(FileNotFoundError, match="ICT_VGG16"):
        measure_speed(lpips, FLOPS, seconds=0.0)
