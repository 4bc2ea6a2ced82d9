"""Which pairs of noise levels are drawn: `ict_lib.techniques.noise_schedule`."""

import itertools
import math
from statistics import NormalDist

import pytest
import torch

from ict_lib.grid import karras_sigmas
from ict_lib.techniques.noise_schedule import lognormal_pmf, uniform_pmf
from tests import mutants


def mass_below(pmf, sigmas, level):
    """Probability of the pairs whose student's level is at most ``level``."""
    return float(pmf[sigmas[1:] <= level].sum())


# Value from the paper


def check_median(implementation):
    sigmas = karras_sigmas(1281)
    first = int((implementation(sigmas).cumsum(0) >= 0.5).nonzero()[0])
    assert float(sigmas[first]) == pytest.approx(0.33, abs=0.01)


def test_trap_6_the_median_level_is_a_third():
    check_median(lognormal_pmf)
    with pytest.raises(AssertionError):
        check_median(mutants.lognormal_pmf_of_positive_mean)


def test_a_quarter_of_the_mass_lies_below_a_tenth_on_the_last_grid():
    sigmas = karras_sigmas(1281)
    assert mass_below(lognormal_pmf(sigmas), sigmas, 0.1) == pytest.approx(0.27, abs=0.005)


def test_half_of_the_mass_lies_below_a_tenth_on_the_first_grid():
    """Coarse pairs straddle 0.1: those that begin below it are meant."""
    sigmas = karras_sigmas(11)
    assert float(lognormal_pmf(sigmas)[sigmas[:-1] < 0.1].sum()) == pytest.approx(0.49, abs=0.005)


def check_one_probability_a_pair(implementation):
    assert implementation(karras_sigmas(11)).shape == (10,)


def test_trap_8_ten_probabilities_for_eleven_levels():
    check_one_probability_a_pair(lognormal_pmf)
    check_one_probability_a_pair(uniform_pmf)
    with pytest.raises(AssertionError):
        check_one_probability_a_pair(mutants.uniform_pmf_per_level)


# Invariant


@pytest.mark.parametrize("pmf", [lognormal_pmf, uniform_pmf])
@pytest.mark.parametrize("num_scales", [2, 3, 11, 1281])
def test_probabilities_are_positive_and_sum_to_one(pmf, num_scales):
    probabilities = pmf(karras_sigmas(num_scales))
    assert (probabilities > 0).all()
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-12)


def test_a_finer_grid_splits_the_mass_of_every_pair():
    fine, coarse = lognormal_pmf(karras_sigmas(81)), lognormal_pmf(karras_sigmas(41))
    torch.testing.assert_close(fine.view(40, 2).sum(1), coarse)


def test_other_units_shift_the_mean_by_their_logarithm():
    sigmas = karras_sigmas(41)
    torch.testing.assert_close(lognormal_pmf(50 * sigmas, p_mean=-1.1 + math.log(50)), lognormal_pmf(sigmas))


def test_a_very_wide_normal_leaves_the_logarithmic_gaps():
    sigmas = karras_sigmas(21)
    gaps = sigmas.log().diff()
    torch.testing.assert_close(lognormal_pmf(sigmas, p_std=1e4), gaps / gaps.sum(), rtol=1e-5, atol=0)


# Independent slow reference


@pytest.mark.parametrize(("p_mean", "p_std"), [(-1.1, 2.0), (-1.2, 1.2), (1.0, 0.7)])
def test_against_the_normal_distribution_pair_by_pair(p_mean, p_std):
    sigmas, normal = karras_sigmas(41).tolist(), NormalDist(p_mean, p_std)
    mass = [normal.cdf(math.log(b)) - normal.cdf(math.log(a)) for a, b in itertools.pairwise(sigmas)]
    pmf = lognormal_pmf(torch.tensor(sigmas, dtype=torch.float64), p_mean, p_std)
    assert pmf.tolist() == pytest.approx([m / sum(mass) for m in mass], rel=1e-9, abs=1e-15)


def test_against_drawing_a_normal_and_rounding_it_down_to_the_grid():
    sigmas, num = karras_sigmas(11), 200_000
    draws = (-1.1 + 2.0 * torch.randn(num, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).exp()
    inside = draws[(draws >= 0.002) & (draws < 80)]
    seen = torch.bincount(torch.bucketize(inside, sigmas, right=True) - 1, minlength=10) / len(inside)
    pmf = lognormal_pmf(sigmas)
    assert ((seen - pmf).abs() < 5 * (pmf * (1 - pmf) / len(inside)).sqrt()).all()


def test_uniform_is_one_over_the_number_of_pairs():
    assert uniform_pmf(karras_sigmas(151)).tolist() == [1 / 150] * 150


# Shapes and dtypes


@pytest.mark.parametrize("pmf", [lognormal_pmf, uniform_pmf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype(pmf, dtype):
    probabilities = pmf(karras_sigmas(7).to(dtype))
    assert probabilities.shape == (6,)
    assert probabilities.dtype == torch.float64


# Errors


@pytest.mark.parametrize("pmf", [lognormal_pmf, uniform_pmf])
@pytest.mark.parametrize("sigmas", [[3.0, 2.0], [1.0], [[1.0, 2.0]], [0.0, 1.0], [1.0, math.nan]])
def test_what_is_no_ascending_grid_is_refused(pmf, sigmas):
    with pytest.raises(ValueError, match="sigmas"):
        pmf(torch.tensor(sigmas))


@pytest.mark.parametrize(
    ("p_mean", "p_std", "shown"),
    [
        (-1.1, 0.0, "p_std is 0.0"),
        (-1.1, -2.0, "p_std is -2.0"),
        (-1.1, math.nan, "p_std is nan"),
        (900.0, 1.0, r"p_mean, p_std is \(900\.0, 1\.0\): some mass"),
        (math.nan, 2.0, r"p_mean, p_std is \(nan"),
    ],
)
def test_an_impossible_schedule_is_refused(p_mean, p_std, shown):
    with pytest.raises(ValueError, match=shown):
        lognormal_pmf(karras_sigmas(11), p_mean, p_std)


def test_the_gradient_with_respect_to_the_levels_is_that_of_the_formula():
    sigmas = karras_sigmas(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: lognormal_pmf(s), sigmas, eps=1e-7, atol=1e-5)
