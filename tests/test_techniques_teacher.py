"""Section 3.2, `ict_lib.techniques.teacher`: who teaches, how the teacher follows, CT's decay, the moving average."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ict_lib.recipe import CT, ICT, LADDER
from ict_lib.run import mistakes
from ict_lib.techniques.teacher import ema_decay, ema_update, follow, follower, lag, make_teacher
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


# Value from the paper


def check_divides_by_the_number_of_levels(implementation):
    assert implementation(2) == pytest.approx(0.9, rel=1e-12)
    assert implementation(151) == pytest.approx(math.exp(2 * math.log(0.9) / 151), rel=1e-12)
    assert implementation(201, 2, 0.95) == pytest.approx(0.95 ** (2 / 201), rel=1e-12)


def test_trap_16_the_paper_divides_by_n():
    check_divides_by_the_number_of_levels(ema_decay)
    with pytest.raises(AssertionError):
        check_divides_by_the_number_of_levels(mutants.ema_decay_of_released_code)


@pytest.mark.parametrize("num_scales", [3, 18, 151])
def test_trap_16_the_released_code_is_a_switch(num_scales):
    released = ema_decay(num_scales, released_code=True)
    assert released == pytest.approx(mutants.ema_decay_of_released_code(num_scales), rel=1e-12)
    assert released == pytest.approx(ema_decay(num_scales - 1), rel=1e-12)
    assert released < ema_decay(num_scales)


@pytest.mark.parametrize(("steps", "share"), [(800_000, 0.0009), (6_000, 0.12)])
def test_trap_20_the_lag_of_cts_teacher_does_not_shrink_with_the_run(steps, share):
    assert lag(CT, steps) == pytest.approx(717, abs=0.5)
    assert lag(CT, steps) / steps == pytest.approx(share, rel=0.05)


def test_the_lag_is_the_mean_age_of_the_weights_in_the_average():
    decay = ema_decay(151, mu0=0.5)
    age = sum(k * (1 - decay) * decay ** (k - 1) for k in range(1, 20_000))  # the newest weights are one step old
    assert lag(replace(CT, mu0=0.5), 6000) == pytest.approx(age, rel=1e-6)
    assert lag(ICT, 6000) == 0


def check_a_tenth_of_the_way(implementation):
    average, model = Net(0), Net(1)
    before, target = numbers(average), numbers(model)
    implementation(average, model, 0.9)
    assert numbers(average) == pytest.approx([b + (t - b) / 10 for b, t in zip(before, target, strict=True)], abs=1e-6)
    assert numbers(model) == target


def test_trap_3_the_average_moves_by_a_tenth_and_the_model_not_at_all():
    check_a_tenth_of_the_way(ema_update)
    for mutant in (mistakes.ema_update_swapped, mistakes.ema_update_reversed):
        with pytest.raises(AssertionError):
            check_a_tenth_of_the_way(mutant)


def check_ict_has_no_teacher_weights(implementation):
    student = Net(0)
    assert implementation(student, ICT) is student


def test_trap_15_the_teacher_of_ict_is_the_student():
    check_ict_has_no_teacher_weights(make_teacher)
    with pytest.raises(AssertionError):
        check_ict_has_no_teacher_weights(mutants.make_teacher_of_its_own)


def test_the_teacher_of_ct_is_a_copy_without_gradient():
    student = Net(0)
    teacher = make_teacher(student, CT)
    assert numbers(teacher) == numbers(student)
    assert not {p.data_ptr() for p in teacher.parameters()} & {p.data_ptr() for p in student.parameters()}
    assert not any(p.requires_grad for p in teacher.parameters())
    assert [p.requires_grad for p in student.parameters()] == [True, True, False]


def test_the_teacher_of_ct_starts_a_tenth_of_the_way_behind_and_lags_more_and_more():
    """0.9 at the first N of 2, and 0.9^(2/151) at the last; a curriculum of its own starts at its own N(0)."""
    for recipe, num_scales, decay in (
        (CT, 2, 0.9),
        (CT, 151, 0.9 ** (2 / 151)),
        (replace(CT, s0=5, mu0=0.8), 50, 0.8 ** (5 / 50)),
        (replace(ICT, teacher="ema"), 21, 0.9 ** (11 / 21)),
    ):
        student, teacher = Net(1, torch.float64), make_teacher(Net(0, torch.float64), recipe)
        before = numbers(teacher)
        follow(teacher, student, recipe, num_scales)
        moved = [b + (1 - decay) * (s - b) for b, s in zip(before, numbers(student), strict=True)]
        assert numbers(teacher) == pytest.approx(moved, rel=1e-12)


# Invariant


@pytest.mark.parametrize("recipe", [recipe for _, recipe in LADDER])
def test_following_never_changes_the_student(recipe):
    student, trained = Net(0), Net(1)
    teacher = make_teacher(student, recipe)
    student.load_state_dict(trained.state_dict())  # as an optimizer would have moved it
    follow(teacher, student, recipe, 11)
    assert numbers(student) == numbers(trained)


@pytest.mark.parametrize("released_code", [False, True])
def test_slower_as_the_levels_grow(released_code):
    decays = [ema_decay(n, released_code=released_code) for n in range(2, 1282)]
    assert decays == sorted(decays)
    assert 0 < decays[0] < decays[-1] < 1


def test_n_updates_at_n_levels_forget_always_the_same():
    for num_scales in (2, 30, 151):
        assert ema_decay(num_scales) ** num_scales == pytest.approx(0.9**2, rel=1e-12)


def test_decay_zero_copies_and_buffers_are_copied_always():
    average, model = Net(0), Net(1)
    ema_update(average, model, 0.9)
    assert torch.equal(average.frequencies, model.frequencies)
    assert int(average.count) == 1
    ema_update(average, model, 0.0)
    assert numbers(average) == numbers(model)


def test_an_average_of_equals_stays():
    model = Net(1)
    average = follower(model)
    ema_update(average, model, 0.99993)
    assert numbers(average) == numbers(model)


# Independent slow reference


@pytest.mark.parametrize("mu0", [0.1, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("s0", [2, 10])
@pytest.mark.parametrize("num_scales", [2, 11, 1281])
def test_against_a_power_of_mu0(mu0, s0, num_scales):
    assert ema_decay(num_scales, s0, mu0) == pytest.approx(mu0 ** (s0 / num_scales), rel=1e-12)


def test_against_the_weighted_sum_over_the_history():
    average, history = Net(0, torch.float64), [Net(seed, torch.float64) for seed in range(1, 8)]
    expected, decays = numbers(average), [0.9, 0.99, 0.5, 0.0, 0.9, 0.7, 0.99993]
    for model, decay in zip(history, decays, strict=True):
        ema_update(average, model, decay)
        expected = [decay * e + (1 - decay) * m for e, m in zip(expected, numbers(model), strict=True)]
    assert numbers(average) == pytest.approx(expected, rel=1e-12, abs=1e-12)


# Types and dtypes


def test_a_plain_number():
    assert type(ema_decay(11)) is float


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


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [((1,), "num_scales is 1"), ((0,), "num_scales is 0")]
    + [((11, 2, mu0), f"mu0 is {mu0}") for mu0 in (0.0, 1.0, -0.5, 1.5, math.nan)],
)
def test_an_impossible_decay_is_refused(arguments, shown):
    with pytest.raises(ValueError, match=shown):
        ema_decay(*arguments)


@pytest.mark.parametrize("decay", [1.0, 1.5, -0.1, float("nan")])
def test_a_decay_that_would_never_move_is_refused(decay):
    with pytest.raises(ValueError, match=f"decay is {decay}"):
        ema_update(Net(0), Net(1), decay)


def test_another_architecture_is_refused():
    with pytest.raises((ValueError, RuntimeError)):
        ema_update(nn.Linear(2, 2), nn.Linear(2, 2, bias=False), 0.9)
