"""In which numbers a training computes: `ict_lib.training.precision`, its use in the loop, and compilation."""

import math
from dataclasses import replace

import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import stand_in
from ict_lib.grid import karras_sigmas
from ict_lib.networks.blocks import Unrounded, UnroundedConv
from ict_lib.recipe import ICT
from ict_lib.run import mistakes
from ict_lib.techniques.dropout import find_places, shared_mask
from ict_lib.training import Training, fit, train
from ict_lib.training.model import MOST_APART, build_learner, build_model, compile_passes, passes_apart
from ict_lib.training.precision import loss_scaler, multiplying, passing
from ict_lib.training.step import MOST_LOST, fatal
from tests import mutants
from tests.test_networks import OPTIONS, build
from tests.test_training_loop import RECIPES, numbers, small
from tests.test_training_loop_resume import interrupted, message_of, poisoned, same

CPU = torch.device("cpu")
PRECISIONS = ["fp32", "tf32", "bf16", "fp16"]


NAMES = {
    "products": lambda: torch.backends.cuda.matmul.fp32_precision,
    "convolutions": lambda: torch.backends.cudnn.conv.fp32_precision,
    "products, by the older name": lambda: torch.backends.cuda.matmul.allow_tf32,
    "convolutions, by the older name": lambda: torch.backends.cudnn.allow_tf32,
    "products, as compilation asks": torch.get_float32_matmul_precision,
    "products on a CPU": lambda: torch.backends.mkldnn.matmul.fp32_precision,
    "convolutions on a CPU": lambda: torch.backends.mkldnn.conv.fp32_precision,
    "all": lambda: torch.backends.fp32_precision,
    "trying cuDNN's kernels": lambda: torch.backends.cudnn.benchmark,
}


def settings():
    """How torch multiplies by each name; ``refused`` where it sees a contradiction."""

    def read(name):
        try:
            return NAMES[name]()
        except RuntimeError:
            return "refused"

    return {name: read(name) for name in NAMES}


@pytest.fixture
def set_back():
    """Afterwards torch is as it is when it is loaded."""
    before = settings()
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    for place in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv):
        place.fp32_precision = "none"
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = "tf32"
    assert settings() == before


def trained(precision, steps=12, **changes):
    training = train(small(precision=precision, steps=steps, **changes))
    return training, list(training)


# Value


def as_loaded():
    """Leaves torch alone, whose convolutions round."""


def by_product_precision():
    torch.set_float32_matmul_precision("medium")


def by_older_name():
    torch.backends.cuda.matmul.allow_tf32 = True


def by_newer_name():
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def for_convolutions_alone():
    torch.backends.cudnn.conv.fp32_precision = "ieee"


def for_all():
    torch.backends.fp32_precision = "tf32"


CALLERS = [as_loaded, by_product_precision, by_older_name, by_newer_name, for_convolutions_alone, for_all]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_tf32_rounds_32_bit_factors_and_all_is_put_back(precision, caller, set_back):
    """Whatever the caller had set, by whatever name."""
    caller()
    before, rounds = settings(), precision == "tf32"
    with multiplying(precision):
        found = list(settings().values())
        assert found[:2] == 2 * ["tf32" if rounds else "ieee"]
        assert found[2:5] == [rounds, rounds, "high" if rounds else "highest"]
        assert found[5:7] == ["ieee", "ieee"]
        assert found[8]
    assert settings() == before
    with pytest.raises(KeyError), multiplying(precision):
        raise KeyError
    assert settings() == before


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_a_networks_passes_compute_in_what_the_precision_says(precision, dtype):
    seen = []
    training = train(small(precision=precision))
    training.student.network.blocks[0].enter.register_forward_hook(lambda *hook: seen.append(hook[2].dtype))
    output = []
    training.student.register_forward_hook(lambda *hook: output.append(hook[2].dtype))
    next(training)
    assert seen == [dtype, dtype]  # teacher and student
    assert output == [torch.float32, torch.float32]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_gradients_averages_and_moments_are_32_bit(precision):
    training, _ = trained(precision, steps=2)
    kept = [
        *training.student.parameters(),
        *training.average.parameters(),
        *[p.grad for p in training.student.parameters()],
    ]
    kept += [value for state in training.optimizer.state.values() for value in state.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


# What tells the noise level keeps 32 bits


def told_the_level(name, precision):
    """What reaches the embedding on the grid of 1,281 levels, what leaves it, and what each block makes of it."""
    sigmas, label = karras_sigmas(1281).float(), torch.zeros(1281).long()
    model, seen = ConsistencyModel(build(name.split()[0], num_classes=10, **EMBEDDINGS[name])).eval(), []
    told = [module.condition for module in model.modules() if hasattr(module, "condition")]
    for layer in [model.network.embedding, *told]:
        layer.register_forward_hook(lambda _, given, made: seen.extend([given[0], made]))
    with torch.no_grad(), passing(precision, CPU):
        model(torch.zeros(1281, 1, 8, 8), sigmas, label)
    assert len(seen) == 2 + 2 * len(told) > 2
    return seen


def check_neighbours_are_told_apart(name, precision):
    """Every pair as two different numbers, and as different as without rounding."""
    for found, exact in zip(told_the_level(name, precision), told_the_level(name, "fp32"), strict=True):
        steps, wanted = (numbers.double().view(1281, -1).diff(dim=0) for numbers in (found, exact))
        assert (steps != 0).any(dim=1).all()
        torch.testing.assert_close(steps, wanted, rtol=1e-2, atol=1e-5)


EMBEDDINGS = {"mlp": {}, "small_unet": {}, "ncsnpp": {}, "adm": {}, "adm x1000": {"embedding_scale": 1000.0}}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_trap_19_neighbours_at_1281_levels_are_told_different_levels(name, precision):
    check_neighbours_are_told_apart(name, precision)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", EMBEDDINGS)
def test_trap_19_an_embedding_in_16_bits_is_noticed(name, precision, monkeypatch):
    monkeypatch.setattr(Unrounded, "forward", torch.nn.Linear.forward)
    with pytest.raises(AssertionError):
        check_neighbours_are_told_apart(name, precision)


def test_trap_19_a_c_noise_in_16_bits_is_noticed(monkeypatch):
    monkeypatch.setattr("ict_lib.consistency.c_noise", mistakes.c_noise_in_16_bits)
    with pytest.raises(AssertionError):
        check_neighbours_are_told_apart("mlp", "bf16")
    alike = (told_the_level("mlp", "bf16")[0].diff(dim=0) == 0).float().mean()
    assert float(alike) == pytest.approx(0.36, abs=0.01)


# And so do the layers that see the image and make one


def check_first_and_last_have_32_bits(name, precision):
    network, seen = build(name), {}
    layers = {"first": network.first, "last": network.last[-1] if name != "mlp" else network.last}
    layers["within"] = next(m.enter if name == "mlp" else m.enter[-1] for m in network.modules() if hasattr(m, "enter"))
    for place, layer in layers.items():
        layer.register_forward_hook(lambda _, given, made, place=place: seen.update({place: made.dtype}))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), passing(precision, CPU):
        ConsistencyModel(network).eval()(x, 1.0)
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert seen == {"first": torch.float32, "within": half, "last": torch.float32}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", OPTIONS)
def test_the_first_and_the_last_layer_have_32_bits(name, precision, monkeypatch):
    check_first_and_last_have_32_bits(name, precision)
    monkeypatch.setattr(Unrounded, "forward", torch.nn.Linear.forward)
    monkeypatch.setattr(UnroundedConv, "forward", torch.nn.Conv2d.forward)
    with pytest.raises(AssertionError):
        check_first_and_last_have_32_bits(name, precision)


# Invariant: 16 bits learn nearly the same, and what follows from a gradient that overflowed is nothing


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_16_bit_training_ends_near_the_32_bit_one_but_not_on_it(precision):
    options = {"learning_rate": 1e-3, "batch_size": 64}
    exact, near = (numbers(trained(p, 30, **options)[0].student) for p in ("fp32", precision))
    start = numbers(train(small(**options)).student)
    moved = (exact - start).norm()
    assert 0 < (near - exact).norm() < 0.5 * moved  # fp16 skips its first steps


def test_fp32_and_tf32_are_the_same_on_a_cpu():
    assert torch.equal(numbers(trained("fp32")[0].student), numbers(trained("tf32")[0].student))


def overflowing(training, at):
    """Let the gradient of some steps overflow, as one too large for fp16 does."""

    def poison(gradient):
        return gradient * float("inf") if training.step + 1 in at else gradient

    next(training.student.parameters()).register_hook(poison)
    return training


def test_an_overflow_skips_the_step_halves_the_scale_and_is_counted():
    training = overflowing(train(small(precision="fp16", ema_decay=0)), at=(3, 4))
    weights, skipped, scales = [], [], []
    for metrics in training:
        weights.append(numbers(training.student))
        skipped.append(metrics.skipped)
        scales.append(training.learner.scaler.get_scale())
    first = scales[0]
    assert [skipped[step - 1] - skipped[1] for step in (2, 3, 4, 5)] == [0, 1, 2, 2]
    assert torch.equal(weights[1], weights[3])
    assert not torch.equal(weights[3], weights[4])
    assert scales[3] == scales[1] / 4 <= first / 4


@pytest.mark.parametrize("log_every", [12, 5, 4])
def test_fp16_skips_a_step_whose_loss_is_no_number_and_says_so(log_every):
    """Two records of one training: the loss is the mean of those that count."""
    training = poisoned(train(small(precision="fp16", log_every=log_every)), 7, 8)
    records, whole = list(training), list(train(small(precision="fp16", log_every=log_every)))
    assert [record.step for record in records] == [record.step for record in whole]
    assert all(math.isfinite(record.loss) for record in records)
    assert records[-1].skipped == whole[-1].skipped + 2
    assert numbers(training.student).isfinite().all()


@pytest.mark.parametrize(
    ("lost", "scaled", "at"),
    [
        ("....", False, None),
        ("..x.x", False, 2),
        ("..x.x", True, None),
        ("." + 9 * "x" + "." + 9 * "x" + ".", True, None),
        (".x." + 11 * "x" + ".", True, 12),
        ("xxxx", True, 3),
        ("x", True, 0),
        ("x.", True, None),
    ],
)
def test_in_fp16_ten_in_a_row_are_fatal_or_all_of_a_record(lost, scaled, at):
    losses = torch.tensor([math.nan if mark == "x" else 1.0 for mark in lost])
    assert (MOST_LOST, fatal(losses, scaled)) == (10, at)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_other_precisions_scale_nothing_and_skip_nothing(precision):
    training, records = trained(precision)
    assert not training.learner.scaler.is_enabled()
    assert {record.skipped for record in records} == {0}
    assert loss_scaler("fp16", CPU).get_scale() == 2**16


@pytest.mark.parametrize("after", [2, 3, 7])
def test_fp16_resumes_bit_for_bit_with_the_scale_that_it_had(tmp_path, after):
    options = small(precision="fp16", checkpoint_every=1)
    whole = train(small(precision="fp16"))
    list(whole)
    interrupted(options, tmp_path, after)
    resumed = train(options, folder=tmp_path)
    assert resumed.step == after
    list(resumed)
    assert same(resumed, whole)
    assert resumed.learner.scaler.state_dict() == whole.learner.scaler.state_dict()
    assert resumed.last.skipped == whole.last.skipped


# Independent reference: fp16 written out, without autocast and without a scaler


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_linear_layer_rounds_its_factors_and_sums(precision, dtype):
    layer, x = torch.nn.Linear(32, 8), torch.randn(4, 32)
    with passing(precision, CPU):
        found = layer(x)
    rounded = [tensor.to(dtype).double() for tensor in (x, layer.weight, layer.bias)]
    torch.testing.assert_close(found.double(), rounded[0] @ rounded[1].T + rounded[2], rtol=2e-2, atol=2e-2)


@pytest.mark.slow
def test_trap_9_a_compiled_network_drops_the_same_units_as_without_compilation():
    """And compiles each of the two passes once: other masks are other data. The mutant lets the compiler draw."""

    def outputs(compile_it, sharing):
        model, found = build_model(small(network_options={"width": 8, "blocks": 1}), (1, 8, 8), 10).train(), []
        for parameter in model.parameters():
            parameter.data.normal_(generator=torch.Generator().manual_seed(1))
        x, sigma = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)), torch.full((6,), 2.0)
        find_places(model, x)
        compile_it(model)
        for seed in (5, 6):
            with sharing(torch.Generator().manual_seed(seed), x, None, model):
                with torch.no_grad():
                    found.append(model(x, sigma))
                found.append(model(x, sigma).detach())
        return torch.stack(found)

    def check(sharing):
        wanted = outputs(lambda _: None, shared_mask)
        torch.testing.assert_close(outputs(compile_passes, sharing), wanted, rtol=1e-4, atol=1e-5)
        assert not torch.equal(wanted[1], wanted[2])

    torch._dynamo.utils.counters.clear()
    check(shared_mask)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    with pytest.raises(AssertionError):
        check(mutants.cpu_only_mask)


def test_a_training_is_compiled_however_many_the_process_has_done_before(monkeypatch):
    """Torch counts what it made of one function, whosever network it was, and then stops without an error."""
    compile_it = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda network: compile_it(network, backend="eager"))
    torch._dynamo.utils.counters.clear()
    for seed in (1, 2, 3):
        model = build_model(small(network="mlp", network_options={"width": 8}), (1, 8, 8), 10, seed)
        compile_passes(model)
        with torch._dynamo.config.patch(recompile_limit=1), torch.no_grad():
            model(torch.zeros(2, 1, 8, 8), torch.full((2,), 2.0))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == seed


# On a GPU: never run yet

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
UNET = {"network": "small_unet", "network_options": {"channels": 8, "blocks": 1}, "device": "cuda"}


@pytest.mark.parametrize("precision", [pytest.param(name, marks=GPU) for name in PRECISIONS])
def test_every_precision_trains_on_a_gpu_with_channels_beside_each_other(precision):
    training, records = trained(precision, **UNET)
    assert all(math.isfinite(record.loss) for record in records)
    assert training.student.network.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert {p.dtype for p in training.student.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", [pytest.param(name, marks=GPU) for name in ("tf32", "fp16")])
def test_a_compiled_training_on_a_gpu_ends_near_the_plain_one(precision):
    """TF32 among them: compilation asks how it was set."""
    plain, compiled = (numbers(trained(precision, compile=c, **UNET)[0].student) for c in (False, True))
    assert (plain - compiled).abs().max() < 0.01


@pytest.mark.parametrize("conditional", [pytest.param(value, marks=GPU) for value in (False, True)])
def test_a_step_on_a_gpu_waits_for_nothing(conditional):
    """But in fp16, whose scaler asks whether a gradient overflowed. The images are mirrored."""
    run = small(**UNET, precision="bf16", micro_batch=4, steps=1000, conditional=conditional)
    training = Training(run, data=stand_in("cifar10", 50))
    steps = fit(training.learner, training.batches, run.steps, run.ema_decay)
    next(steps)
    try:
        torch.cuda.set_sync_debug_mode("error")
        next(steps)
        next(steps)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# One mask: outputs at one input. Its own convolutions halve the channels, for which compilation lays out the two
# passes differently on a GPU.

WIDE = {"network": "small_unet", "network_options": {"channels": 64, "blocks": 1}, "recipe": replace(ICT, dropout=0.5)}
ROUNDED = {"fp32": 1e-4, "tf32": 0.01, "fp16": 0.01, "bf16": 0.05}  # of the output; where nothing is compiled 0


def learner_of(device, **changes):
    """As a training builds it, with the check that belongs to it."""
    return build_learner(small(**{**WIDE, **changes}), (1, 8, 8), 10, 0, torch.device(device))


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_trap_9_teacher_and_student_agree_at_one_input(precision, device, compiled):
    learner = learner_of(device, precision=precision, compile=compiled)
    assert passes_apart(learner, (8, 1, 8, 8)) <= ROUNDED[precision] * compiled


@pytest.mark.parametrize("network", OPTIONS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_trap_9_two_masks_are_noticed(precision, network, monkeypatch):
    """At a rate of 0.2, and with the least that can be: ADM drops at the lowest resolutions alone."""
    options = OPTIONS[network] | ({"dropout_resolution": 4} if network == "adm" else {})
    changes = {"network": network, "network_options": options, "recipe": replace(ICT, dropout=0.2)}
    learner = learner_of("cpu", precision=precision, **changes)
    assert passes_apart(learner, (8, 1, 8, 8)) < MOST_APART
    monkeypatch.setattr("ict_lib.techniques.dropout.shared_mask", mutants.cpu_only_mask)
    assert passes_apart(learner, (8, 1, 8, 8)) > 2 * MOST_APART


def test_a_training_on_an_accelerator_does_not_begin_with_two_masks(monkeypatch):
    """The accelerator is pretended: "meta" is no CPU."""
    monkeypatch.setattr("ict_lib.training.model.passes_apart", lambda *_: 0.3)
    with pytest.raises(ValueError, match=r"teacher and student at one input is 0.3: less than 0.1 of it, or .* masks"):
        learner_of("meta")
    learner_of("meta", recipe=replace(ICT, dropout=0.0))


@pytest.mark.parametrize("recipe", ["ICT", "CT"])
def test_comparing_the_passes_leaves_no_trace(recipe):
    """CT's teacher has weights of its own."""
    learner = learner_of("cpu", recipe=replace(RECIPES[recipe], dropout=0.5))
    before, state = [numbers(model) for model in (learner.teacher, learner.student)], torch.get_rng_state()
    assert passes_apart(learner, (8, 1, 8, 8)) == 0
    assert torch.equal(torch.get_rng_state(), state)
    after = [numbers(model) for model in (learner.teacher, learner.student)]
    assert all(map(torch.equal, before, after))
    assert not any(weight.grad is not None for weight in learner.weights)


# Errors


def test_fp16_stops_after_ten_losses_in_a_row_that_are_no_numbers():
    training = poisoned(train(small(precision="fp16", steps=40, log_every=40)), *range(5, 30))
    assert message_of(training).startswith("the loss is nan at step 14, sigma from")


def test_gradients_that_overflow_at_any_scale_stop_the_training():
    training = overflowing(train(small(precision="fp16", steps=40, log_every=5)), at=range(1, 41))
    message = message_of(training)
    assert message.startswith("the loss scale fell below 1 by step 20: gradients overflow at any scale: stopped")
    assert torch.equal(numbers(training.student), numbers(train(small()).student))
