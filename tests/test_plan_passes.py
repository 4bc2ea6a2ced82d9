"""What passes take, counted without memory: `ict_lib.plan.passes` and `ict_lib.plan.live`."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.bench.arithmetic import forward_flops
from ict_lib.data.stand_in import FORMS, stand_in
from ict_lib.plan.live import LiveBytes
from ict_lib.plan.passes import SAMPLED, Passes, count_passes, without_memory
from ict_lib.recipe import CT, ICT, ICT_DEEP
from ict_lib.run_config import RunConfig
from ict_lib.sampling import sample
from ict_lib.training.loop import Training
from ict_lib.training.model import build_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NCSNPP = RunConfig(data="cifar10", network="ncsnpp", batch_size=4)
ADM = RunConfig(data="imagenet64", network="adm", conditional=True, batch_size=4)
LPIPS = replace(CT, distance="lpips")
SMALL = {
    "mlp": RunConfig(batch_size=6, network_options={"width": 32, "blocks": 2}),
    "small_unet": RunConfig(network="small_unet", batch_size=6, network_options={"channels": 16}),
    "ncsnpp": replace(NCSNPP, network_options={"channels": 16, "multipliers": [1, 2], "blocks": 1}),
    "adm": replace(
        ADM, network_options={"channels": 16, "multipliers": [1, 2, 2, 2], "blocks": 1, "head_channels": 16}
    ),
}


def counted(config, device=CUDA, real=False, sampled=8):
    with nullcontext() if real else without_memory():
        return count_passes(config, FORMS[config.data], device, sampled)


# --- value: the networks of the paper ---


@pytest.mark.parametrize(
    ("config", "parameters", "gflop"),
    [
        (NCSNPP, 56_395_523, 42.5),
        pytest.param(replace(NCSNPP, recipe=ICT_DEEP), 97_610_499, 76.4, marks=pytest.mark.slow),
        pytest.param(ADM, 282_168_003, 219.3, marks=pytest.mark.slow),
        pytest.param(replace(ADM, recipe=ICT_DEEP), 472_767_555, 362.8, marks=pytest.mark.slow),
        pytest.param(replace(ADM, network_options={"adaptive_norm": True}), 295_899_267, 219.3, marks=pytest.mark.slow),
    ],
    ids=["ncsnpp", "ncsnpp-deep", "adm", "adm-deep", "adm-adagn"],
)
def test_parameters_and_operations_of_the_papers_networks(config, parameters, gflop):
    passes = counted(config)
    assert passes.parameters == parameters
    assert passes.forward / 1e9 == pytest.approx(gflop, abs=0.06)
    assert passes.step == 4 * passes.forward
    assert passes.micro_batch == 4


def test_lpips_takes_vgg16_of_two_images_and_half_of_that_for_the_gradient():
    """VGG16's thirteen convolutions at 224 x 224: 15.35 billion products an image, and as many sums."""
    sides, channels = [224, 112, 56, 28, 14], [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    of_each = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    products = sum(9 * channels[i] * channels[i + 1] * sides[s] ** 2 for i, s in enumerate(of_each))
    assert products == pytest.approx(15.35e9, rel=1e-3)
    small = SMALL["ncsnpp"]
    passes, plain = counted(replace(small, recipe=LPIPS)), counted(replace(small, recipe=CT))
    assert passes.distance / (2 * 2 * products) == pytest.approx(1, rel=1e-3)  # its five heads are a thousandth
    assert passes.step == 4 * passes.forward + 1.5 * passes.distance
    assert plain.distance == 0
    assert plain.forward == passes.forward
    assert passes.kept > plain.kept + 4 * 50e6  # of four images, more than the 50 MB of its first layers each


# --- invariant: without memory as with it ---


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_the_counts_without_memory_are_those_of_a_real_pass(name, precision):
    config = replace(SMALL[name], precision=precision)
    real, counts = counted(config, CPU, real=True), counted(config, CPU)
    assert counts._replace(kept=0, sampling=0) == real._replace(kept=0, sampling=0)
    assert counts.kept == pytest.approx(real.kept, rel=0 if precision == "fp32" else 0.005)
    assert counts.sampling == pytest.approx(real.sampling, rel=0.005)


def test_what_is_kept_grows_with_the_micro_batch_and_nothing_else_does():
    few, many = (counted(replace(SMALL["ncsnpp"], batch_size=n, micro_batch=n)) for n in (2, 8))
    assert many.kept == pytest.approx(4 * few.kept, rel=1e-3)
    assert many._replace(kept=0, micro_batch=0) == few._replace(kept=0, micro_batch=0)
    shard = counted(replace(SMALL["ncsnpp"], batch_size=8, micro_batch=2))
    assert shard == few


def test_half_precision_keeps_less_of_a_convolution():
    full, half = (counted(replace(SMALL["ncsnpp"], batch_size=64, precision=p)).kept for p in ("tf32", "fp16"))
    assert 0.5 * full < half < 0.95 * full


def test_dropout_keeps_a_byte_a_number_on_cuda_and_four_on_the_cpu():
    config = replace(SMALL["mlp"], recipe=replace(ICT, dropout=0.5))
    bare = replace(config, recipe=replace(ICT, dropout=0.0))
    cuda, cpu = (counted(config, device).kept - counted(bare, device).kept for device in (CUDA, CPU))
    assert cuda > 0
    assert cpu - cuda == 2 * 6 * 32 * 3  # two blocks, six images, 32 numbers each, three bytes more


def test_images_are_drawn_as_many_at_a_time_as_sampling_does():
    assert SAMPLED == 256
    seen = []

    class Spy(torch.nn.Module):
        sigma_min = 0.002

        def __init__(self):
            super().__init__()
            self.p = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, sigma, label=None):
            seen.append(len(x))
            return x

    sample(Spy(), 400, (1, 2, 2))
    assert seen == [256, 144]


@pytest.mark.parametrize("name", SMALL)
def test_a_forward_pass_is_counted_as_for_the_bench(name):
    assert counted(SMALL[name]).forward == forward_flops(SMALL[name])


# --- independent slow reference: a real training step, operation by operation ---


@pytest.mark.parametrize("name", SMALL)
def test_the_operations_are_those_of_a_real_training_step(name):
    config = replace(SMALL[name], log_every=1, steps=3)
    training = Training(config, data=stand_in(config.data, 16))
    with FlopCounterMode(display=False) as counter:
        next(training)
    real = counter.get_total_flops() / config.batch_size
    assert 0.9 * counted(config).step < real <= counted(config).step  # first layers need no gradient of their input
    if name not in ("mlp", "small_unet"):
        assert counted(config).step == pytest.approx(real, rel=0.01)


def test_what_is_kept_is_nearly_all_that_a_backward_pass_frees():
    """The memory that a real forward pass leaves behind, by the tensors that are alive after it."""
    config = SMALL["small_unet"]
    model = build_model(config, (1, 8, 8), 10)
    x = torch.randn(6, 1, 8, 8)
    with LiveBytes() as live:
        loss = model(x, 1.0).square().mean()
        kept = live.now
        loss.backward()
        gradients = sum(p.grad.numel() for p in model.parameters()) * 4
        del loss
    assert counted(config, CPU).kept == pytest.approx(kept - live.now + gradients, rel=0.05)


def test_live_bytes_by_hand():
    x = torch.zeros(100)  # from outside: not counted
    with LiveBytes() as live:
        a = x + 1
        b = a * 2
        assert (live.now, live.most) == (800, 800)
        view = b.view(10, 10)
        b.add_(1)
        del a
        assert (live.now, live.most) == (400, 800)
        del b
        assert live.now == 400  # the view holds it
        c = torch.cat([view.flatten(), x, x])
        del view
        assert (live.now, live.most) == (1200, 1600)
        del c
    assert (live.now, live.most) == (0, 1600)


# --- shapes, devices, errors ---


def test_the_step_counts_lpips_only_where_it_is():
    assert Passes(1, 10, 0, 0, 0, 1).step == 40
    assert Passes(1, 10, 4, 0, 0, 1).step == 46


def test_counting_leaves_no_trace():
    state = torch.get_rng_state()
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    counted(replace(SMALL["ncsnpp"], precision="bf16"))
    assert torch.equal(torch.get_rng_state(), state)
    assert (torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")) == before
    assert not torch.nn.Linear(2, 2).weight.is_cuda


def test_without_the_package_lpips_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "lpips", None)
    with pytest.raises(ImportError, match="lpips"):
        counted(replace(SMALL["ncsnpp"], recipe=LPIPS))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["tf32", "fp16"])
@pytest.mark.parametrize("name", SMALL)
def test_on_a_gpu_the_counts_are_those_of_a_real_pass(name, precision):
    config = replace(SMALL[name], precision=precision)
    real, counts = counted(config, CUDA, real=True), counted(config, CUDA)
    assert counts._replace(kept=0, sampling=0) == real._replace(kept=0, sampling=0)
    assert counts.kept == pytest.approx(real.kept, rel=0.05)
