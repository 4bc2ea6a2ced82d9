"""The grid of noise levels: `ict_lib.grid`."""

import math

import pytest
import torch

from ict_lib.grid import karras_sigmas, require_ascending
from ict_lib.run import mistakes
from tests import mutants


def slow_sigmas(num_scales, sigma_min, sigma_max, rho):
    """The formula of Karras et al., level by level; i counts from 1 as in the paper."""
    low, high = math.exp(math.log(sigma_min) / rho), math.exp(math.log(sigma_max) / rho)
    return [(low + (i - 1) / (num_scales - 1) * (high - low)) ** rho for i in range(1, num_scales + 1)]


# Value from the paper


@pytest.mark.parametrize(("index", "sigma"), [(492, 0.821), (571, 1.526), (466, 0.661), (513, 0.973)])
def test_the_published_intermediate_levels_lie_on_the_last_grid(index, sigma):
    assert round(float(karras_sigmas(1281)[index]), 3) == sigma


def check_ends(implementation):
    for num_scales in (2, 11, 1281):
        sigmas = implementation(num_scales)
        assert float(sigmas[0]) == 0.002
        assert float(sigmas[-1]) == 80.0
        assert bool((sigmas.diff() > 0).all())


def test_trap_12_sigma_min_is_the_first_level():
    check_ends(karras_sigmas)
    with pytest.raises(AssertionError):
        check_ends(mistakes.karras_sigmas_without_minimum)


def check_eleven_levels_make_ten_pairs(implementation):
    sigmas = implementation(11)
    assert len(sigmas) == 11
    assert len(sigmas.diff()) == 10


def test_trap_8_num_scales_counts_levels():
    check_eleven_levels_make_ten_pairs(karras_sigmas)
    with pytest.raises(AssertionError):
        check_eleven_levels_make_ten_pairs(mutants.karras_sigmas_of_pairs)


# Invariant


@pytest.mark.parametrize("rho", [1.0, 2.0, 7.0, 20.0])
def test_the_root_of_the_levels_is_equally_spaced(rho):
    steps = (karras_sigmas(33, rho=rho) ** (1 / rho)).diff()
    torch.testing.assert_close(steps, steps.mean().expand(32), rtol=1e-9, atol=0)


def test_rho_one_is_equal_spacing():
    torch.testing.assert_close(karras_sigmas(5, 1.0, 3.0, 1.0), torch.tensor([1, 1.5, 2, 2.5, 3], dtype=torch.float64))


def test_doubling_the_pairs_keeps_every_old_level():
    for num_scales in (11, 21, 641):
        torch.testing.assert_close(
            karras_sigmas(2 * num_scales - 1)[::2], karras_sigmas(num_scales), rtol=1e-12, atol=0
        )


def test_other_units_scale_every_level():
    torch.testing.assert_close(karras_sigmas(11, 0.2, 8000.0), 100 * karras_sigmas(11), rtol=1e-12, atol=0)


def test_a_higher_rho_puts_more_levels_at_low_noise():
    assert (karras_sigmas(41, rho=9.0)[1:-1] < karras_sigmas(41, rho=3.0)[1:-1]).all()


# Independent slow reference


@pytest.mark.parametrize("num_scales", [2, 3, 11, 160, 1281])
@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), [(0.002, 80.0, 7.0), (0.05, 1.3, 3.5)])
def test_against_the_formula_level_by_level(num_scales, sigma_min, sigma_max, rho):
    expected = slow_sigmas(num_scales, sigma_min, sigma_max, rho)
    assert karras_sigmas(num_scales, sigma_min, sigma_max, rho).tolist() == pytest.approx(expected, rel=1e-12)


# Shapes and dtypes


@pytest.mark.parametrize("num_scales", [2, 3, 1281])
def test_shape_and_dtype(num_scales):
    sigmas = karras_sigmas(num_scales)
    assert sigmas.shape == (num_scales,)
    assert sigmas.dtype == torch.float64


def test_neighbours_stay_apart_in_float32():
    assert (karras_sigmas(1281).float().diff() > 0).all()


# Errors


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"num_scales": 1}, "num_scales is 1"),
        ({"num_scales": 0}, "num_scales is 0"),
        ({"num_scales": 11, "sigma_min": 0.0}, r"is \(0\.0, 80\.0\): 0 < min"),
        ({"num_scales": 11, "sigma_min": -1.0}, r"is \(-1\.0, 80\.0\)"),
        ({"num_scales": 11, "sigma_min": 80.0}, "0 < min < max"),
        ({"num_scales": 11, "sigma_max": 0.001}, r"\(0\.002, 0\.001\)"),
        ({"num_scales": 11, "sigma_max": math.inf}, r"\(0\.002, inf\)"),
        ({"num_scales": 11, "sigma_max": math.nan}, r"\(0\.002, nan\)"),
        ({"num_scales": 11, "rho": 0.0}, "rho is 0.0"),
        ({"num_scales": 11, "rho": math.nan}, "rho is nan"),
    ],
)
def test_a_bad_grid_is_refused(arguments, shown):
    with pytest.raises(ValueError, match=shown):
        karras_sigmas(**arguments)


@pytest.mark.parametrize(
    ("sigmas", "shown"),
    [
        ([1.0], r"shape of sigmas is \(1,\)"),
        ([[1.0, 2.0]], r"shape of sigmas is \(1, 2\)"),
        ([0.0, 1.0], r"sigmas\[0\] is 0\.0: a positive"),
        ([1.0, 2.0, 2.0], r"sigmas\[1\] = 2.0 and \[2\] = 2.0"),
        ([1.0, 3.0, 2.0, 0.5], r"sigmas\[1\] = 3.0 and \[2\] = 2.0"),
        ([1.0, math.nan], r"sigmas\[0\] = 1.0 and \[1\] = nan"),
        ([math.nan, 1.0], r"sigmas\[0\] is nan"),
    ],
)
def test_what_is_no_grid_is_refused(sigmas, shown):
    with pytest.raises(ValueError, match=shown):
        require_ascending(torch.tensor(sigmas))
