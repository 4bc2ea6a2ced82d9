"""The training objective: `ict_lib.objective`, against a slow one that replays its random draws."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.networks.build import build_network
from ict_lib.objective import consistency_training_loss, distance_between, levels
from ict_lib.recipe import CT, ICT, LADDER
from ict_lib.run import mistakes
from tests import mutants
from tests.slow_objective import Line, clean, loss_of, slow_levels, slow_loss

CPU = torch.device("cpu")
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
    ),
]
RECIPES = {**dict(LADDER), "l1": replace(ICT, distance="l1"), "own constants": replace(ICT, huber_c=2.0, p_mean=1.0)}


class Spy(nn.Module):
    """Passes everything on, and keeps it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x, sigma, label=None):
        self.x, self.sigma, self.label = x, sigma, label
        self.output = self.model(x, sigma, label)
        return self.output


# Independent slow reference


@pytest.mark.parametrize("step", [0, 123_456, 400_000])
@pytest.mark.parametrize("name", RECIPES)
def test_loss_and_gradient_against_the_slow_loss(name, step):
    recipe, student, teacher = RECIPES[name], (0.8, -0.3), (0.7, 0.1)
    x, model = clean(6, 2, 3), ConsistencyModel(Line(*student))
    output = loss_of(model, ConsistencyModel(Line(*teacher)), x, recipe, step)
    expected = slow_loss(x, recipe, output.num_scales, student, teacher)
    assert output.per_sample.tolist() == pytest.approx(expected, rel=1e-3)
    output.loss.backward()
    up, down = (slow_loss(x, recipe, output.num_scales, (0.8 + h, -0.3), teacher) for h in (1e-5, -1e-5))
    slope = (math.fsum(up) - math.fsum(down)) / (2e-5 * len(x))
    assert float(model.network.a.grad) == pytest.approx(slope, rel=1e-3, abs=1e-6)


# Value from the paper


@pytest.mark.parametrize("recipe", [CT, ICT, replace(ICT, weighting="inverse_root_gap")])
def test_eleven_levels_are_ten_pairs_with_their_weights_and_probabilities(recipe):
    pairs = levels(recipe, 11, CPU)
    sigmas, weight, probability = slow_levels(recipe, 11)
    for tensor, expected in zip(pairs, (sigmas[:-1], sigmas[1:], weight, probability), strict=True):
        assert tensor.dtype == torch.float32
        assert tensor.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("recipe", [replace(ICT, s0=4, s1=8), replace(CT, s0=5)])
def test_pairs_are_drawn_as_often_as_the_schedule_says(recipe):
    num, model = 100_000, ConsistencyModel(Line(0, 0))
    output = loss_of(model, model, torch.zeros(num, 1), recipe)
    seen, (sigmas, _, probability) = output.sigma_hi.unique(return_counts=True), slow_levels(recipe, 5)
    assert seen[0].tolist() == pytest.approx(sigmas[1:], rel=1e-6)
    for count, p in zip((seen[1] / num).tolist(), probability, strict=True):
        assert count == pytest.approx(p, abs=5 * math.sqrt(p * (1 - p) / num))


# Invariant


def test_both_see_the_same_noise_at_neighbouring_levels():
    x, student, teacher = clean(8, 2, 3), Spy(ConsistencyModel(Line(1, 1))), Spy(ConsistencyModel(Line(1, 1)))
    output = loss_of(student, teacher, x, step=200_000)
    noises = [(m.x - x) / m.sigma.view(-1, 1, 1) for m in (student, teacher)]
    torch.testing.assert_close(*noises, rtol=1e-4, atol=1e-4)
    assert torch.equal(student.sigma, output.sigma_hi)
    assert torch.equal(teacher.sigma, output.sigma_lo)
    grid = torch.tensor(slow_levels(ICT, output.num_scales)[0])
    place = [torch.searchsorted(grid, s * 0.9999) for s in (output.sigma_lo, output.sigma_hi)]
    assert torch.equal(place[0] + 1, place[1])


OPTIONS = {
    "mlp": {"width": 32, "blocks": 2},
    "small_unet": {"channels": 8, "blocks": 1},
    "ncsnpp": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_resolutions": (4,)},
    "adm": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_resolutions": (4,), "head_channels": 8},
}


class Fixed(nn.Module):
    """A network with dropout that always gets the same input and level, whatever it is asked."""

    def __init__(self, name, device):
        super().__init__()
        network = build_network(name, (1, 8, 8), replace(ICT, dropout=0.3), options=OPTIONS[name])
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
        self.model, self.outputs = ConsistencyModel(network).to(device).train(), []

    def forward(self, x, sigma, label=None):
        self.outputs.append(self.model(torch.ones_like(x), 1.5, label))
        return self.outputs[-1]


def check_equal_outputs(name, device):
    model = Fixed(name, device)
    output = loss_of(model, model, clean(4, 1, 8, 8, dtype=torch.float32).to(device))
    assert torch.equal(*model.outputs[-2:])  # a pass before them finds out where masks are wanted
    assert output.per_sample.tolist() == [0.0] * 4


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPTIONS)
def test_trap_9_equal_inputs_and_levels_give_equal_outputs_under_dropout(name, device, monkeypatch):
    check_equal_outputs(name, device)
    monkeypatch.setattr("ict_lib.techniques.dropout.shared_mask", mutants.cpu_only_mask)
    with pytest.raises(AssertionError):
        check_equal_outputs(name, device)


def test_the_mask_changes_from_step_to_step():
    model, x = Fixed("mlp", "cpu"), clean(4, 1, 8, 8, dtype=torch.float32)
    for seed in (0, 1):
        loss_of(model, model, x, seed=seed)
    assert not torch.equal(model.outputs[-3], model.outputs[-1])


def test_the_generator_decides_everything_and_nothing_else_changes():
    model, x = Fixed("mlp", "cpu"), clean(4, 1, 8, 8, dtype=torch.float32)
    before = torch.get_rng_state()
    line = ConsistencyModel(Line(1, 1))
    same, again, other = (loss_of(line, line, x, seed=seed).per_sample for seed in (0, 0, 1))
    loss_of(model, model, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert torch.equal(consistency_training_loss(line, line, x, ICT, 0, 400_000).per_sample, same)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("shape", [(5, 2), (5, 3, 4, 4)])
def test_what_comes_back(shape):
    model, label = Spy(ConsistencyModel(Line(1, 1))), torch.arange(5)
    output = loss_of(model, model, clean(*shape, dtype=torch.float32), label=label)
    assert {t.shape for t in (output.per_sample, output.sigma_lo, output.sigma_hi)} == {(5,)}
    assert output.loss.shape == ()
    assert float(output.loss.detach()) == pytest.approx(float(output.per_sample.mean()))
    assert output.loss.requires_grad
    assert not output.per_sample.requires_grad
    assert model.label is label


def test_a_sample_does_not_see_the_others():
    model, x, other = ConsistencyModel(Line(0.5, 1)), clean(6, 2), clean(6, 2, seed=1)
    other[2] = x[2]
    first, second = (loss_of(model, model, batch).per_sample for batch in (x, other))
    assert float(first[2]) == pytest.approx(float(second[2]), rel=1e-12)
    assert (first != second).sum() == 5


# Errors and gradients


class Constant(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x, sigma, label=None):
        return self.output


def check_teacher_is_a_constant(loss):
    model = ConsistencyModel(Line(0.8, -0.3))
    spy, x = Spy(model), clean(6, 2)
    own = torch.autograd.grad(loss_of(model, spy, x, step=200_000, loss=loss).loss, model.parameters())
    fixed = loss_of(model, Constant(spy.output.detach()), x, step=200_000)
    torch.testing.assert_close(own, torch.autograd.grad(fixed.loss, model.parameters()))


def test_trap_13_no_gradient_enters_the_teacher():
    check_teacher_is_a_constant(consistency_training_loss)
    with pytest.raises(AssertionError):
        check_teacher_is_a_constant(mistakes.loss_with_live_teacher)


def test_a_teacher_of_its_own_gets_no_gradient():
    student, teacher = ConsistencyModel(Line(0.8, 0)), ConsistencyModel(Line(0.8, 0))
    loss_of(student, teacher, clean(4, 2)).loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())


@pytest.mark.parametrize("step", [-1, 400_001])
def test_a_step_outside_of_training_is_refused(step):
    model = ConsistencyModel(Line(1, 1))
    with pytest.raises(ValueError, match=re.escape(f"step, total_steps is {step, 400000}")):
        loss_of(model, model, clean(2, 2), step=step)


def test_an_output_of_another_shape_is_refused():
    short, model = Constant(torch.zeros(4, 1)), ConsistencyModel(Line(1, 1))
    with pytest.raises(ValueError, match=r"\(4, 1\)"):
        loss_of(model, short, clean(4, 2))
    with pytest.raises(ValueError, match=r"\(4, 1\): \(4, 2\) is needed"):
        loss_of(short, short, clean(4, 2))


def images(seed):
    return clean(2, 3, 8, 8, seed=seed, dtype=torch.float32)


def ends(*shape):
    return torch.zeros(2, 1, *shape)


def test_lpips_is_the_network_that_is_handed_in():
    """A stand-in that tells student from teacher by their mean: the objective weighs what it says."""
    recipe, seen = replace(CT, distance="lpips"), []

    def network(x, y):
        seen.append((x, y))
        return (x - y).square().mean(dim=(1, 2, 3), keepdim=True)

    student, teacher = Spy(ConsistencyModel(Line(0.8, -0.3))), Spy(ConsistencyModel(Line(0.7, 0.1)))
    output = loss_of(student, teacher, images(0), recipe, perceptual=network)
    (x, y), large = seen[0], (2, 3, 224, 224)
    assert x.shape == y.shape == large
    for z, model in ((x, student), (y, teacher)):
        torch.testing.assert_close(z, nn.functional.interpolate(model.output, large[2:], mode="bilinear"))
    torch.testing.assert_close(output.per_sample, (x - y).square().mean(dim=(1, 2, 3)).detach())  # CT's weight is 1


def test_lpips_without_a_network_says_what_to_hand_in():
    recipe, model = replace(CT, distance="lpips"), ConsistencyModel(Line(1, 1))
    for call in (lambda: loss_of(model, model, images(0), recipe), lambda: distance_between(recipe, *ends(3, 8, 8))):
        with pytest.raises(ValueError, match=r"distance is 'lpips': perceptual=.*ict_lib\.networks\.lpips"):
            call()


@pytest.mark.parametrize("shape", [(2,), (4, 8, 8)])
def test_lpips_of_what_are_no_images_is_refused_before_its_network_is_asked(shape):
    with pytest.raises(ValueError, match=r"\[batch, 1 or 3, height, width\]"):
        distance_between(replace(CT, distance="lpips"), *ends(*shape), lambda *_: pytest.fail("the network was asked"))


@pytest.mark.parametrize("distance", ["squared_l2", "l1", "pseudo_huber"])
def test_other_distances_need_nothing(distance):
    assert torch.equal(distance_between(replace(ICT, distance=distance), *ends(2)), torch.zeros(1))
