"""One step and the loop around it, as plain functions: `ict_lib.training.step`."""

import copy
import math

import pytest
import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.group import Alone
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.objective import LossOutput, consistency_training_loss
from ict_lib.recipe import CT, ICT
from ict_lib.training import Learner, Shard, fit, training_step
from tests.test_training_loop import numbers

RECIPES = {"CT": CT, "ICT": ICT}


def model(dropout=0.3):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = ResidualMLP((2,), 0.02, dropout, width=16, blocks=1)
        nn.init.normal_(network.last.weight)
    return ConsistencyModel(network)


def points(step, parts=1, num=12):
    """Two moons of a sort, in shards."""
    x = torch.randn(num, 2, generator=torch.Generator().manual_seed(step))
    x[:, 1] = x[:, 0].sign()
    generators = [torch.Generator().manual_seed(100 * step + part) for part in range(parts)]
    return [Shard(x, None, gen, 1 / parts) for x, gen in zip(x.chunk(parts), generators, strict=True)]


# Reference: a step over shards, written out


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_over_shards_against_the_mean_written_out(recipe, parts):
    recipe = RECIPES[recipe]
    learner, student = Learner(model(), recipe, 0.01), model()
    teacher = copy.deepcopy(student) if recipe.teacher == "ema" else student
    average, optimizer = copy.deepcopy(student), torch.optim.RAdam(student.parameters(), lr=0.01)
    for step in range(7):
        output = training_step(learner, points(step, parts), step, 20, 0.9, Alone())
        losses = [
            consistency_training_loss(student, teacher, shard.x, recipe, step, 20, shard.generator)
            for shard in points(step, parts)
        ]
        loss = sum(one.loss for one in losses) / parts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mu = math.exp(2 * math.log(0.9) / losses[0].num_scales)
        for p, t, a in zip(student.parameters(), teacher.parameters(), average.parameters(), strict=True):
            t.data = mu * t.data + (1 - mu) * p.data
            a.data = 0.9 * a.data + 0.1 * p.data
        torch.testing.assert_close(output.loss, loss.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(output.sigma_hi, torch.cat([one.sigma_hi for one in losses]))
        assert output.num_scales == losses[0].num_scales
    for mine, theirs in ((learner.student, student), (learner.teacher, teacher), (learner.average, average)):
        torch.testing.assert_close(numbers(mine), numbers(theirs), rtol=1e-4, atol=1e-6)


# Invariant


def test_a_group_adds_up_what_its_processes_found():
    """A pretended group of two that found the same: twice the loss and twice the gradient."""

    class Twice(Alone):
        def add_up(self, tensors):
            for tensor in tensors:
                tensor *= 2

    alone, twice = (Learner(model(), ICT) for _ in range(2))
    first = training_step(alone, points(0), 0, 9, 0.9, Alone())
    second = training_step(twice, points(0), 0, 9, 0.9, Twice())
    assert second.loss == 2 * first.loss
    for a, b in zip(alone.weights, twice.weights, strict=True):
        assert torch.equal(2 * a.grad, b.grad)


def test_fit_goes_on_where_it_is_told_to():
    whole, first = Learner(model(), CT), Learner(model(), CT)
    outputs = list(fit(whole, points, 6))
    for _, output in zip(range(2), fit(first, points, 6), strict=False):
        assert isinstance(output, LossOutput)
    rest = list(fit(first, points, 6, start=2))
    assert [float(one.loss) for one in rest] == [float(one.loss) for one in outputs[2:]]
    assert torch.equal(numbers(whole.average), numbers(first.average))


def test_fit_learns_where_the_points_are():
    learner = Learner(model(0.0), ICT, 3e-3)
    losses = [float(output.loss) for output in fit(learner, lambda step: points(step, num=64), 200)]

    assert all(math.isfinite(loss) for loss in losses)
    x = torch.cat([shard.x for shard in points(1, num=200)])
    noisy = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    before, after = (m.eval()(noisy, torch.full((200,), 0.5)).detach() - x for m in (model(0.0), learner.average))
    assert after.norm() < before.norm()


# Shapes, and what has a gradient


@pytest.mark.parametrize("recipe", RECIPES)
def test_only_the_student_has_gradients(recipe):
    learner = Learner(model(), RECIPES[recipe])
    output = training_step(learner, points(0, 3), 0, 9, 0.9, Alone())
    assert output.loss.shape == ()
    assert output.per_sample.shape == output.sigma_lo.shape == output.sigma_hi.shape == (12,)
    assert not output.loss.requires_grad
    assert all(weight.grad is not None for weight in learner.weights)
    frozen = [learner.average] + ([learner.teacher] if recipe == "CT" else [])
    assert all(p.grad is None and not p.requires_grad for one in frozen for p in one.parameters())
