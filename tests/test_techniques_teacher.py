"""The decay of CT's moving-average teacher: `ict_lib.techniques.teacher`. That iCT has none: test_training_loop.py."""

import math

import pytest

from ict_lib.techniques.teacher import ema_decay
from tests import mutants

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


# Invariant


@pytest.mark.parametrize("released_code", [False, True])
def test_slower_as_the_levels_grow(released_code):
    decays = [ema_decay(n, released_code=released_code) for n in range(2, 1282)]
    assert decays == sorted(decays)
    assert 0 < decays[0] < decays[-1] < 1


def test_n_updates_at_n_levels_forget_always_the_same():
    for num_scales in (2, 30, 151):
        assert ema_decay(num_scales) ** num_scales == pytest.approx(0.9**2, rel=1e-12)


# Independent slow reference


@pytest.mark.parametrize("mu0", [0.1, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("s0", [2, 10])
@pytest.mark.parametrize("num_scales", [2, 11, 1281])
def test_against_a_power_of_mu0(mu0, s0, num_scales):
    assert ema_decay(num_scales, s0, mu0) == pytest.approx(mu0 ** (s0 / num_scales), rel=1e-12)


# Types and errors


def test_a_plain_number():
    assert type(ema_decay(11)) is float


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [((1,), "num_scales is 1"), ((0,), "num_scales is 0")]
    + [((11, 2, mu0), f"mu0 is {mu0}") for mu0 in (0.0, 1.0, -0.5, 1.5, math.nan)],
)
def test_an_impossible_decay_is_refused(arguments, shown):
    with pytest.raises(ValueError, match=shown):
        ema_decay(*arguments)
