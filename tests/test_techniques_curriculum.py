"""How the number of noise levels grows: `ict_lib.techniques.curriculum`."""

import itertools
from dataclasses import replace
from fractions import Fraction

import pytest

from ict_lib.recipe import CT, ICT
from ict_lib.run import mistakes
from ict_lib.techniques.curriculum import doubling, num_scales_at, square_root
from tests import mutants

# Value from the paper


def check_stages(implementation):
    levels = [11, 21, 41, 81, 161, 321, 641, 1281]
    for stage, expected in enumerate(levels):
        for step in (50_000 * stage, 50_000 * stage + 1, 50_000 * stage + 49_999):
            assert implementation(step, 400_000) == expected
    assert implementation(400_000, 400_000) == 1281


def test_trap_7_stages_of_50_000_steps_that_end_at_1281_levels():
    check_stages(doubling)
    with pytest.raises(AssertionError):
        check_stages(mistakes.doubling_with_log_of_sum)


def check_first_and_last(implementation):
    assert implementation(0, 400_000) == 10 + 1
    assert implementation(400_000, 400_000) == 1280 + 1


def test_trap_8_s0_and_s1_count_pairs():
    check_first_and_last(doubling)
    with pytest.raises(AssertionError):
        check_first_and_last(mutants.doubling_of_levels)


def test_imagenet_trains_100_000_steps_a_stage():
    assert [doubling(step, 800_000) for step in (0, 99_999, 100_000, 699_999, 700_000)] == [11, 11, 21, 641, 1281]


def test_ct_starts_with_two_levels_and_ends_with_s1_plus_one():
    assert square_root(0, 800_000) == 2
    assert square_root(800_000, 800_000) == 151
    assert square_root(800_000, 800_000, s1=200) == 201


def test_a_recipe_names_its_curriculum_and_may_change_its_ends():
    assert [num_scales_at(ICT, k, 400_000) for k in (0, 49_999, 50_000, 400_000)] == [11, 11, 21, 1281]
    assert [num_scales_at(CT, k, 800_000) for k in (0, 800_000)] == [2, 151]
    assert num_scales_at(replace(CT, s1=200), 800_000, 800_000) == 201
    assert num_scales_at(replace(ICT, s0=4, s1=16), 0, 10) == 5


# Invariant


@pytest.mark.parametrize("recipe", [CT, ICT, replace(CT, s0=5), replace(ICT, s0=7)])
def test_the_start_does_not_depend_on_the_number_of_steps(recipe):
    assert len({num_scales_at(recipe, 0, total) for total in (1, 6000, 800_000)}) == 1


@pytest.mark.parametrize("grow", [doubling, square_root])
@pytest.mark.parametrize("total_steps", [5, 7, 100, 999])
def test_never_falls_and_keeps_its_ends(grow, total_steps):
    s0, s1 = 3, 50
    levels = [grow(step, total_steps, s0, s1) for step in range(total_steps + 1)]
    assert levels == sorted(levels)
    assert levels[0] == (s0 + 1 if grow is doubling else s0)
    assert levels[-1] == s1 + 1


def test_every_stage_doubles_the_pairs():
    pairs = sorted({doubling(step, 4000) - 1 for step in range(4001)})
    assert all(b == 2 * a for a, b in itertools.pairwise(pairs))


def test_equal_ends_stay_constant():
    assert {doubling(step, 10, 20, 20) for step in range(11)} == {21}


# Independent slow reference, in exact arithmetic


def slow_doubling(step, total_steps, s0, s1):
    """For s1/s0 with a whole logarithm: count the doublings, then the whole stages that have passed."""
    doublings = 0
    while 2 ** (doublings + 1) <= s1 // s0:
        doublings += 1
    stage = int(Fraction(total_steps, doublings + 1))
    return min(s0 * 2 ** int(Fraction(step, stage)), s1) + 1


@pytest.mark.parametrize(("s0", "s1"), [(10, 1280), (1, 1), (2, 32), (5, 40)])
@pytest.mark.parametrize("total_steps", [8, 100, 1001, 6000])
def test_doubling_against_counting(total_steps, s0, s1):
    for step in range(0, total_steps + 1, max(1, total_steps // 300)):
        assert doubling(step, total_steps, s0, s1) == slow_doubling(step, total_steps, s0, s1)


def slow_square_root(step, total_steps, s0, s1):
    """The least whole m with m - 1 >= sqrt(...) - 1, compared as fractions of whole numbers; then N = m."""
    square = Fraction(step, total_steps) * ((s1 + 1) ** 2 - s0**2) + s0**2
    m = 1
    while m * m < square:
        m += 1
    return m


@pytest.mark.parametrize("total_steps", [1, 7, 400, 151**2 - 4])
def test_square_root_against_fractions(total_steps):
    """With K = 151^2 - 4 many roots are whole: one rounding error there adds a level (192, 3596, 14880)."""
    some = {192, 3596, 14880, *range(0, total_steps + 1, max(1, total_steps // 200))}
    for step in (step for step in some if step <= total_steps):
        assert square_root(step, total_steps) == slow_square_root(step, total_steps, 2, 150)


def test_more_doublings_than_steps_take_one_step_each():
    assert [doubling(step, 3) for step in range(4)] == [11, 21, 41, 81]


# Types


@pytest.mark.parametrize("grow", [doubling, square_root])
def test_whole_numbers(grow):
    assert all(type(grow(step, 100, 5, 47)) is int for step in range(101))


# Errors


@pytest.mark.parametrize("grow", [doubling, square_root])
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ((-1, 10), r"step, total_steps is \(-1, 10\)"),
        ((11, 10), r"step, total_steps is \(11, 10\)"),
        ((0, 0), r"step, total_steps is \(0, 0\)"),
        ((0, 10, 20, 10), r"s0, s1 is \(20, 10\)"),
        ((0, 10, 0, 10), r"s0, s1 is \(0, 10\)"),
    ],
)
def test_a_step_outside_of_training_or_a_falling_curriculum_is_refused(grow, arguments, shown):
    with pytest.raises(ValueError, match=shown):
        grow(*arguments)


def test_one_level_makes_no_pair():
    with pytest.raises(ValueError, match="s0 is 1"):
        square_root(0, 10, s0=1)
