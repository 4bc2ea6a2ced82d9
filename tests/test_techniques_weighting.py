"""Weights of the pairs of noise levels: `ict_lib.techniques.weighting`."""

import math

import pytest
import torch

from ict_lib.grid import karras_sigmas
from ict_lib.techniques.weighting import inverse_gap, inverse_root_gap, uniform
from tests import mutants

# Value from the paper


@pytest.mark.parametrize(("num_scales", "highest", "lowest"), [(1281, "25585", "2.94"), (11, "67.9", "0.029")])
def test_the_range_of_the_weights(num_scales, highest, lowest):
    weights = inverse_gap(karras_sigmas(num_scales))
    for weight, printed in ((weights[0], highest), (weights[-1], lowest)):
        decimals = len(printed.partition(".")[2])
        assert f"{float(weight):.{decimals}f}" == printed


def check_one_weight_a_pair(implementation):
    assert implementation(karras_sigmas(11)).shape == (10,)


def test_trap_8_ten_weights_for_eleven_levels():
    check_one_weight_a_pair(inverse_gap)
    check_one_weight_a_pair(uniform)
    with pytest.raises(AssertionError):
        check_one_weight_a_pair(mutants.inverse_gap_per_level)


# Invariant


def test_weight_times_gap_is_one():
    sigmas = karras_sigmas(321)
    torch.testing.assert_close(inverse_gap(sigmas) * (sigmas[1:] - sigmas[:-1]), torch.ones(320, dtype=torch.float64))


def test_low_noise_counts_most():
    assert (inverse_gap(karras_sigmas(1281)).diff() < 0).all()


def test_the_unit_is_one_over_data_units():
    sigmas = karras_sigmas(21)
    torch.testing.assert_close(inverse_gap(100 * sigmas), inverse_gap(sigmas) / 100)


def test_ct_weighs_all_pairs_alike():
    assert uniform(karras_sigmas(151)).tolist() == [1.0] * 150


def test_the_root_lies_halfway():
    sigmas = karras_sigmas(41)
    torch.testing.assert_close(inverse_root_gap(sigmas) ** 2, inverse_gap(sigmas) * uniform(sigmas))


# Independent slow reference


def test_against_a_loop():
    sigmas = karras_sigmas(41).tolist()
    expected = [1 / (sigmas[i + 1] - sigmas[i]) for i in range(len(sigmas) - 1)]
    assert inverse_gap(torch.tensor(sigmas, dtype=torch.float64)).tolist() == pytest.approx(expected, rel=1e-14)


# Shapes and dtypes


@pytest.mark.parametrize("weighting", [inverse_gap, inverse_root_gap, uniform])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype(weighting, dtype):
    weights = weighting(karras_sigmas(7).to(dtype))
    assert weights.shape == (6,)
    assert weights.dtype == dtype


# Errors and gradients


@pytest.mark.parametrize("weighting", [inverse_gap, inverse_root_gap, uniform])
@pytest.mark.parametrize("sigmas", [[3.0, 2.0], [1.0, 1.0], [1.0], [[1.0, 2.0]], [-1.0, 1.0], [1.0, math.nan]])
def test_what_is_no_ascending_grid_is_refused(weighting, sigmas):
    with pytest.raises(ValueError, match="sigmas"):
        weighting(torch.tensor(sigmas))


def test_the_gradient_is_that_of_the_formula():
    sigmas = karras_sigmas(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: inverse_gap(s).log(), sigmas, eps=1e-7)
