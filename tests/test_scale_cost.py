"""What a run takes, counted without memory: operations, memory and disk, in `ict_lib.scale.cost`."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.config import Run
from ict_lib.data import DATASETS, load_dataset, stand_in
from ict_lib.recipe import CT, ICT, ICT_DEEP
from ict_lib.sampling import sample
from ict_lib.scale.cost import (
    SAMPLED,
    LiveBytes,
    Memory,
    Passes,
    Traffic,
    checkpoint_bytes,
    count_passes,
    data_bytes,
    disk,
    memory,
    without_memory,
)
from ict_lib.techniques.dropout import shared_mask
from ict_lib.training import Training
from ict_lib.training.model import build_model

NCSNPP = Run(data="cifar10", network="ncsnpp", batch_size=4)
ADM = Run(data="imagenet64", network="adm", conditional=True, batch_size=4)
LPIPS = replace(CT, distance="lpips")
TINY = {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention_resolutions": [4]}
SMALL = {
    "mlp": Run(batch_size=6, network_options={"width": 32, "blocks": 2}),
    "small_unet": Run(network="small_unet", batch_size=6, network_options={"channels": 16}),
    "ncsnpp": Run(network="ncsnpp", batch_size=4, network_options=TINY),
    "adm": Run(
        network="adm",
        conditional=True,
        batch_size=4,
        network_options={**TINY, "head_channels": 8, "dropout_resolution": 4},
    ),
}
# Of NCSN++ with 128 images, so that the sums need no counting
COUNTED = Passes(56_395_523, 42_472_552_544, 0, 15_500_000_000, 500_000_000, 2_800_000_000, 128)
CIFAR10 = Run(data="cifar10", network="ncsnpp", steps=400_000, milestone_every=50_000)
WEIGHTS = 4 * 56_395_523


def counted(run, device="cuda", real=False):
    with nullcontext() if real else without_memory():
        return count_passes(run, device, sampled=8)


# --- value: the networks of the paper, and sums by hand ---


@pytest.mark.parametrize(
    ("run", "parameters", "gflop"),
    [
        (NCSNPP, 56_395_523, 42.5),
        pytest.param(replace(NCSNPP, recipe=ICT_DEEP), 97_610_499, 76.4, marks=pytest.mark.slow),
        pytest.param(ADM, 282_168_003, 219.3, marks=pytest.mark.slow),
        pytest.param(replace(ADM, recipe=ICT_DEEP), 472_767_555, 362.8, marks=pytest.mark.slow),
        pytest.param(replace(ADM, network_options={"adaptive_norm": True}), 295_899_267, 219.3, marks=pytest.mark.slow),
    ],
    ids=["ncsnpp", "ncsnpp-deep", "adm", "adm-deep", "adm-adagn"],
)
def test_parameters_and_operations_of_the_papers_networks(run, parameters, gflop):
    passes = counted(run)
    assert passes.parameters == parameters
    assert passes.forward / 1e9 == pytest.approx(gflop, abs=0.06)
    assert passes.step == 4 * passes.forward
    assert passes.shard == 4


def test_operations_are_two_for_each_weight_of_the_layers():
    layers = [(64, 64), (64, 16), *2 * [(16, 16), (64, 16), (16, 16)], (16, 64)]
    run = Run(network_options={"width": 16, "blocks": 2})
    assert counted(run).forward == sum(2 * a * b for a, b in layers)


def test_lpips_takes_vgg16_of_two_images_and_half_of_that_for_the_gradient():
    """VGG16's thirteen convolutions at 224 x 224: 15.35 billion products an image, and as many sums."""
    sides, channels = [224, 112, 56, 28, 14], [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    of_each = [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    products = sum(9 * channels[i] * channels[i + 1] * sides[s] ** 2 for i, s in enumerate(of_each))
    assert products == pytest.approx(15.35e9, rel=1e-3)
    passes, plain = counted(replace(SMALL["ncsnpp"], recipe=LPIPS)), counted(replace(SMALL["ncsnpp"], recipe=CT))
    assert passes.distance / (2 * 2 * products) == pytest.approx(1, rel=1e-3)  # its five heads are a thousandth
    assert passes.step == 4 * passes.forward + 1.5 * passes.distance
    assert (plain.distance, plain.forward) == (0, passes.forward)
    assert passes.kept > plain.kept + 4 * 50e6  # of four images, more than the 50 MB of its first layers each


def test_memory_of_ict_on_cifar10():
    found = memory(CIFAR10, COUNTED)
    assert found.always == {
        "weights": WEIGHTS,
        "moving average": WEIGHTS,
        "gradients": WEIGHTS,
        "RAdam's moments": 2 * WEIGHTS,
        "data set": 50_000 * (3 * 32 * 32 + 8),
    }
    in_turn = {"backward pass": 15_500_000_000, "copy of the gradients": WEIGHTS, "sampling": 2_800_000_000}
    assert found.in_turn == in_turn
    assert found.most == 5 * WEIGHTS + 50_000 * 3080 + 15_500_000_000


def test_disk_of_ict_on_cifar10():
    found = disk(replace(CIFAR10, measure_every=20_000), COUNTED)
    assert found["newest checkpoints"] == 4 * 4 * WEIGHTS  # three, and the one that is being written
    assert found["milestones"] == 8 * 4 * WEIGHTS
    assert found["weights"] == 2 * WEIGHTS  # the last and the best
    assert found["data set"] == data_bytes("cifar10") == 50_000 * 3080


def test_each_training_of_a_study_leaves_its_weights():
    study = replace(CIFAR10, seeds=[0, 1], variants={"a": {}, "b": {"recipe": {"dropout": 0.0}}, "c": {}})
    assert disk(study, COUNTED)["weights"] == 6 * WEIGHTS


def test_cts_teacher_has_weights_of_its_own_in_memory_and_on_disk():
    ct = replace(CIFAR10, recipe=CT)
    assert memory(ct, COUNTED).always["teacher"] == WEIGHTS
    assert "teacher" not in memory(CIFAR10, COUNTED).always
    assert checkpoint_bytes(ct, COUNTED) - checkpoint_bytes(CIFAR10, COUNTED) == WEIGHTS


def test_imagenet_stays_in_its_file_but_for_the_labels():
    assert memory(ADM, COUNTED).always["data set"] == 1_281_167 * 8
    assert disk(ADM, COUNTED)["data set"] == 1_281_167 * (3 * 64 * 64 + 8)
    assert data_bytes("digits") < load_dataset("digits").pixels.nbytes  # which are floats


# --- invariant: without memory as with it ---


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SMALL)
def test_the_counts_without_memory_are_those_of_a_real_pass(name, precision):
    run = replace(SMALL[name], precision=precision)
    real, counts = counted(run, "cpu", real=True), counted(run, "cpu")
    assert counts._replace(kept=0, sampling=0) == real._replace(kept=0, sampling=0)
    assert counts.kept == pytest.approx(real.kept, rel=0.005)
    assert counts.sampling == pytest.approx(real.sampling, rel=0.005)


def test_what_is_kept_grows_with_the_shard_and_nothing_else_does():
    few, many = (counted(replace(SMALL["ncsnpp"], batch_size=n)) for n in (2, 8))
    assert many.kept == pytest.approx(4 * few.kept, rel=1e-3)
    assert many.masks == 4 * few.masks > 0
    assert many._replace(kept=0, masks=0, shard=0) == few._replace(kept=0, masks=0, shard=0)
    assert counted(replace(SMALL["ncsnpp"], batch_size=8, micro_batch=2)) == few


def test_half_precision_keeps_less_of_a_convolution():
    full, half = (counted(replace(SMALL["ncsnpp"], batch_size=64, precision=p)).kept for p in ("tf32", "fp16"))
    assert 0.5 * full < half < 0.95 * full


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_mask_has_a_byte_a_number(device):
    run, bare = (replace(SMALL["mlp"], recipe=replace(ICT, dropout=rate)) for rate in (0.5, 0.0))
    masked, plain = counted(run, device), counted(bare, device)
    assert (masked.masks, plain.masks) == (2 * 6 * 32, 0)  # two blocks, six images, 32 numbers each
    assert masked.kept - plain.kept >= masked.masks


def test_images_are_drawn_as_many_at_a_time_as_sampling_does():
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
    assert seen == [SAMPLED, 400 - SAMPLED] == [256, 144]


def test_of_what_comes_in_turn_the_largest_counts():
    assert Memory({"a": 1, "b": 2}, {"x": 10, "y": 7}).most == 13
    assert Memory({"a": 1, "b": 2}, {"x": 10, "y": 70}).most == 73


def test_each_seed_keeps_its_files_and_one_checkpoint_is_written_at_a_time():
    one, three = (disk(replace(CIFAR10, seeds=seeds), COUNTED) for seeds in ([0], [0, 1, 2]))
    assert three["newest checkpoints"] - one["newest checkpoints"] == 2 * 3 * checkpoint_bytes(CIFAR10, COUNTED)
    assert three["milestones"] == 3 * one["milestones"]
    assert three["weights"] == 3 * one["weights"]
    assert three["data set"] == one["data set"]


def test_a_last_step_off_the_beat_is_a_milestone_too():
    odd = disk(replace(CIFAR10, steps=9, milestone_every=4), COUNTED)
    assert odd["milestones"] == 3 * checkpoint_bytes(CIFAR10, COUNTED)
    assert disk(replace(CIFAR10, milestone_every=None), COUNTED)["milestones"] == 0


# --- independent slow reference: a real training, its operations, tensors and files ---


@pytest.mark.parametrize("name", SMALL)
def test_the_operations_are_those_of_a_real_training_step(name):
    run = replace(SMALL[name], log_every=1)
    training = Training(run, data=stand_in(run.data, 16))
    with FlopCounterMode(display=False) as counter:
        next(training)
    real = counter.get_total_flops() / run.batch_size
    assert 0.9 * counted(run).step < real <= counted(run).step  # first layers need no gradient of their input
    if name not in ("mlp", "small_unet"):
        assert counted(run).step == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("recipe", [CT, ICT], ids=["ct", "ict"])
def test_memory_and_disk_are_those_of_a_real_training_at_its_fullest(tmp_path, recipe):
    run = Run(recipe=recipe, batch_size=4, steps=12, log_every=1, checkpoint_every=1, milestone_every=3)
    training, passes = Training(run, folder=tmp_path, data=stand_in("digits")), counted(run)
    list(training)
    models = {training.student, training.teacher, training.average}
    tensors = [parameter for model in models for parameter in model.parameters()]
    tensors += [parameter.grad for parameter in training.student.parameters()]
    for state in training.learner.optimizer.state.values():
        tensors += [state["exp_avg"], state["exp_avg_sq"]]
    tensors += [training.data.pixels, training.data.labels]
    assert sum(memory(run, passes).always.values()) == sum(tensor.nbytes for tensor in tensors)
    files, expected = list(tmp_path.glob("step-*.ckpt")), disk(run, passes)
    assert len(files) == 3 + 4
    found = sum(path.stat().st_size for path in files) + checkpoint_bytes(run, passes)
    assert found == pytest.approx(expected["newest checkpoints"] + expected["milestones"], rel=0.05)


def test_what_is_kept_is_nearly_all_that_a_backward_pass_needs():
    """The bytes of the tensors that autograd saves, each storage once, by its own hooks."""
    run = SMALL["small_unet"]
    model, data = build_model(run, (1, 8, 8), 10), DATASETS["digits"]
    own, saved = {parameter.untyped_storage()._cdata for parameter in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    x = torch.randn(6, *data.shape)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), shared_mask(None, x, None, model):
        loss = model(x, torch.ones(6)).square().mean()
    assert loss.requires_grad
    assert counted(run, "cpu").kept == pytest.approx(sum(saved.values()), rel=0.05)


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


def test_traffic_by_hand():
    x, y = torch.zeros(100), torch.zeros(50)
    with Traffic() as counted:
        a = x + 1  # reads and writes 400 bytes
        b = a.view(10, 10).t()  # neither
        torch.empty(1000)
        assert (counted.operations, counted.bytes) == (1, 800)
        b.mul_(2)  # reads and writes 400
        assert (counted.operations, counted.bytes) == (2, 1600)
        torch._foreach_lerp_([a, y], [x, y], 0.5)  # reads 600 and 600, writes 600
        assert (counted.operations, counted.bytes) == (3, 3400)
        torch.cat([x, y])  # reads and writes 600
    assert (counted.operations, counted.bytes) == (4, 4600)


# --- shapes, devices, errors ---


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
    run = replace(SMALL[name], precision=precision)
    real, counts = counted(run, "cuda", real=True), counted(run, "cuda")
    assert counts._replace(kept=0, sampling=0) == real._replace(kept=0, sampling=0)
    assert counts.kept == pytest.approx(real.kept, rel=0.05)
