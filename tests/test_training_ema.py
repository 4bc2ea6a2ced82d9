"""The moving average of weights: `ict_lib.training.ema`."""

import copy

import pytest
import torch
from torch import nn

from ict_lib.training.ema import ema_update
from tests import mutants


class Net(nn.Module):
    """Parameters of several shapes, one of them frozen, and two buffers."""

    def __init__(self, seed, dtype=torch.float32):
        super().__init__()
        gen = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(torch.randn(3, 4, generator=gen, dtype=dtype))
        self.b = nn.Parameter(torch.randn((), generator=gen, dtype=dtype))
        self.c = nn.Parameter(torch.randn(2, generator=gen, dtype=dtype), requires_grad=False)
        self.register_buffer("frequencies", torch.randn(5, generator=gen, dtype=dtype))
        self.register_buffer("count", torch.tensor(seed))


def numbers(module):
    return [v for p in module.parameters() for v in p.flatten().tolist()]


# Value: one step with decay 0.9


def check_a_tenth_of_the_way(implementation):
    average, model = Net(0), Net(1)
    before, target = numbers(average), numbers(model)
    implementation(average, model, 0.9)
    assert numbers(average) == pytest.approx([b + (t - b) / 10 for b, t in zip(before, target, strict=True)], abs=1e-6)
    assert numbers(model) == target


def test_trap_3_the_average_moves_by_a_tenth_and_the_model_not_at_all():
    check_a_tenth_of_the_way(ema_update)
    for mutant in (mutants.ema_update_swapped, mutants.ema_update_reversed):
        with pytest.raises(AssertionError):
            check_a_tenth_of_the_way(mutant)


# Invariant


def test_decay_zero_copies():
    average, model = Net(0), Net(1)
    ema_update(average, model, 0.0)
    assert numbers(average) == numbers(model)


def test_an_average_of_equals_stays():
    average, model = Net(1), Net(1)
    ema_update(average, model, 0.99993)
    assert numbers(average) == numbers(model)


def test_buffers_are_copied():
    average, model = Net(0), Net(1)
    ema_update(average, model, 0.9)
    assert torch.equal(average.frequencies, model.frequencies)
    assert int(average.count) == 1


def test_a_fixed_model_is_approached_as_the_power_of_the_decay():
    average, model = Net(0), Net(1)
    start = copy.deepcopy(average)
    for _ in range(20):
        ema_update(average, model, 0.8)
    torch.testing.assert_close(average.a - model.a, 0.8**20 * (start.a - model.a), rtol=1e-3, atol=1e-6)


# Independent slow reference: the weighted sum of all models there were


def test_against_the_weighted_sum_over_the_history():
    average, history = Net(0, torch.float64), [Net(seed, torch.float64) for seed in range(1, 8)]
    first, decays = numbers(average), [0.9, 0.99, 0.5, 0.0, 0.9, 0.7, 0.99993]
    for model, decay in zip(history, decays, strict=True):
        ema_update(average, model, decay)
    expected = first
    for model, decay in zip(history, decays, strict=True):
        expected = [decay * e + (1 - decay) * m for e, m in zip(expected, numbers(model), strict=True)]
    assert numbers(average) == pytest.approx(expected, rel=1e-12, abs=1e-12)


# Dtypes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_is_kept_and_no_graph_is_built(dtype):
    average, model = Net(0, dtype), Net(1, dtype)
    ema_update(average, model, 0.9)
    assert average.a.dtype == dtype
    assert average.a.is_leaf
    assert average.a.grad_fn is None


def test_a_small_step_is_not_lost_in_float32():
    """With decay 0.99993 a step moves by 7e-5 of the way."""
    average, model = Net(0), Net(1)
    before = copy.deepcopy(average)
    ema_update(average, model, 0.99993)
    torch.testing.assert_close(average.a - before.a, 7e-5 * (model.a - before.a), rtol=0.01, atol=2e-7)


# Errors


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1, float("nan")])
def test_a_decay_that_would_never_move_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay is {decay}"):
        ema_update(Net(0), Net(1), decay)


def test_another_architecture_is_refused():
    with pytest.raises((ValueError, RuntimeError)):
        ema_update(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.9)
