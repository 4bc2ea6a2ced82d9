"""Section 3.2 on one data point: the known numbers, their limits, and the readings that miss them."""

import math

import pytest
import torch
from scipy.integrate import quad

from ict_lib.exact.mixture import Mixture
from ict_lib.exact.point_mass import (
    consistency_loss,
    descent,
    gradient_parts,
    limit_gradient,
    limit_loss,
    scaled_gradient,
)
from ict_lib.grid import karras_sigmas

LEVELS = (11, 101, 1281, 20001)
NO_EMA = ("10.8", "9.2", "7.73", "7.61")
WITH_EMA = ("11", "19", "133", "1961")


def student_of(theta, x, sigma, sigma_min=0.002):
    """The student of the example."""
    kept = sigma_min / sigma
    return kept * x + (1 - kept) * theta


def point(xi):
    """All data at one point, solved as any mixture is."""
    return Mixture(torch.ones(1), torch.tensor([[xi]], dtype=torch.float64), torch.zeros(1))


def printed(value, like):
    """Value rounded to as many decimals as the number `like` shows."""
    return f"{float(value):.{len(like.partition('.')[2])}f}"


def pair_terms(theta, theta_minus, xi, sigmas):
    """One gradient a pair, written out: student at the upper level, teacher at the lower."""
    lo, hi = 1 - sigmas[0] / sigmas[:-1], 1 - sigmas[0] / sigmas[1:]
    return 2 * hi * (hi * (theta - xi) - lo * (theta_minus - xi)), sigmas.diff()


# Value from the paper


@pytest.mark.parametrize(("theta_minus", "shown"), [(1.0, NO_EMA), (0.9, WITH_EMA)])
def test_the_published_numbers_come_out(theta_minus, shown):
    got = [scaled_gradient(1.0, theta_minus, 0.0, karras_sigmas(n)) for n in LEVELS]
    assert [printed(g, s) for g, s in zip(got, shown, strict=True)] == list(shown)


def test_the_published_limit_comes_out():
    assert printed(limit_gradient(1.0, 1.0, 0.0), "7.60") == "7.60"


@pytest.mark.parametrize("reading", ["weight outside the mean", "lognormal pairs", "student below teacher"])
def test_other_readings_miss_the_published_numbers(reading):
    sigmas = karras_sigmas(11)
    terms, gaps = pair_terms(1.0, 1.0, 0.0, sigmas)
    if reading == "weight outside the mean":
        value = terms.mean() / gaps.mean()
    elif reading == "lognormal pairs":
        mass = torch.erf((sigmas.log() + 1.1) / (2 * math.sqrt(2))).diff()
        value = (mass / mass.sum() * terms / gaps).sum()
    else:
        lo, hi = 1 - sigmas[0] / sigmas[:-1], 1 - sigmas[0] / sigmas[1:]
        value = (2 * lo * (lo - hi) / gaps).mean()
    assert printed(value, "10.8") != "10.8"


# Invariant


def test_the_limit_of_the_loss_forgets_the_data():
    fine = karras_sigmas(200_001)
    losses = [float(consistency_loss(1.0, 0.7, xi, fine)) for xi in (-3.0, 0.0, 5.0)]
    assert losses == pytest.approx([limit_loss(1.0, 0.7)] * 3, rel=1e-3)
    coarse = [float(consistency_loss(1.0, 0.7, xi, karras_sigmas(11))) for xi in (-3.0, 0.0, 5.0)]
    assert max(coarse) > 2 * min(coarse)


def test_only_the_pull_towards_the_teacher_grows_with_the_number_of_levels():
    parts = [gradient_parts(1.0, 0.9, 0.0, karras_sigmas(n)) for n in (1281, 12801)]
    assert parts[1][0] == pytest.approx(float(parts[0][0]), rel=0.02)
    assert parts[1][1] == pytest.approx(10 * float(parts[0][1]), rel=0.02)


def test_gradient_converges_to_its_limit_and_otherwise_diverges_with_the_right_sign():
    errors = [float(scaled_gradient(2.0, 2.0, 0.5, karras_sigmas(n))) for n in (1001, 2001)]
    errors = [abs(e - limit_gradient(2.0, 2.0, 0.5)) for e in errors]
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.02)  # first order in 1 / N
    assert limit_gradient(1.0, 0.9, 0.0) == math.inf
    assert limit_gradient(1.0, 1.1, 0.0) == -math.inf
    assert scaled_gradient(1.0, 0.9, 0.0, karras_sigmas(2001)) > 100
    assert scaled_gradient(1.0, 1.1, 0.0, karras_sigmas(2001)) < -100


def test_descent_stays_at_the_data_and_an_ema_teacher_only_delays_it():
    sigmas = karras_sigmas(1281)
    assert torch.equal(descent(0.5, 0.5, sigmas, 0.75, 1e-3, 20), torch.full((21, 2), 0.5).double())
    fast, slow = (descent(1.0, 0.0, sigmas, decay, 1e-3, 4000)[:, 0].abs() for decay in (0.0, 0.9))
    assert torch.equal(*descent(1.0, 0.0, sigmas, 0.0, 1e-3, 50).unbind(1))  # mu = 0: one and the same
    assert fast[-1] < 1e-12
    assert slow[500] > 0.5 > 0.1 > slow[-1]


# Independent slow reference


@pytest.mark.parametrize("theta_minus", [1.2, 0.4])
def test_loss_agrees_with_monte_carlo_of_training_and_of_distillation(theta_minus):
    gen, xi, sigmas = torch.Generator().manual_seed(0), 0.3, karras_sigmas(11)
    pair = torch.randint(0, 10, (200_000,), generator=gen)
    z = torch.randn(200_000, generator=gen, dtype=torch.float64)
    lo, hi = sigmas[pair], sigmas[pair + 1]
    student = student_of(1.2, xi + hi * z, hi)
    training = student_of(theta_minus, xi + lo * z, lo)
    solved = point(xi).flow((xi + hi * z)[:, None], hi, lo)[:, 0]
    distillation = student_of(theta_minus, solved, lo)
    exact = float(consistency_loss(1.2, theta_minus, xi, sigmas))
    for teacher in (training, distillation):
        squares = (student - teacher) ** 2
        error = float(squares.std()) / math.sqrt(len(squares))
        assert float(squares.mean()) == pytest.approx(exact, abs=4 * error)


def test_gradient_agrees_with_autograd_of_the_weighted_samples():
    sigmas, z = karras_sigmas(41), torch.randn(40, generator=torch.Generator().manual_seed(1)).double()
    theta = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    lo, hi, xi = sigmas[:-1], sigmas[1:], -0.4
    student = student_of(theta, xi + hi * z, hi)
    for minus in (theta.detach(), torch.tensor(0.8)):
        teacher = student_of(minus, xi + lo * z, lo)
        loss = ((student - teacher) ** 2 / (hi - lo)).mean()
        (slow,) = torch.autograd.grad(loss, theta, retain_graph=True)
        assert float(scaled_gradient(1.3, float(minus), xi, sigmas)) == pytest.approx(float(slow), rel=1e-9)


@pytest.mark.parametrize("rho", [7.0, 1.0, 0.5, 3.0])
def test_limits_agree_with_quadrature(rho):
    low, high = 0.1 ** (1 / rho), 5 ** (1 / rho)

    def mean(function):
        return quad(lambda u: function((low + u * (high - low)) ** rho), 0, 1, epsabs=1e-13, epsrel=1e-12)[0]

    gradient = 2 * 0.7 * mean(lambda s: 0.1 / s**2 * (1 - 0.1 / s))
    assert limit_gradient(1.0, 1.0, 0.3, 0.1, 5.0, rho) == pytest.approx(gradient, rel=1e-9)
    loss = 0.04 * mean(lambda s: (1 - 0.1 / s) ** 2)
    assert limit_loss(1.0, 0.8, 0.1, 5.0, rho) == pytest.approx(loss, rel=1e-9)


def test_map_with_the_data_as_parameter_is_the_exact_one():
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    exact = point(0.7).consistency(x[:, None], 1.5)[:, 0]
    torch.testing.assert_close(student_of(0.7, x, 1.5), exact, rtol=0, atol=1e-12)


def test_lag_slows_by_the_factor_that_the_docstring_states():
    sigmas, decay, rate = karras_sigmas(321), 0.9, 1e-4
    data, lag = (float(p) for p in gradient_parts(1.0, 0.0, 0.0, sigmas))
    path = descent(1.0, 0.0, sigmas, decay, rate, 4000)[:, 0]
    per_step = -math.log(path[4000] / path[2000]) / 2000
    expected = rate * data / (1 + rate * lag * decay / (1 - decay))
    assert per_step == pytest.approx(expected, rel=0.01)
    bound = (1 + decay) / (decay * lag)
    assert descent(1.0, 0.0, sigmas, decay, 1.1 * bound, 3000).abs().max() > 1e6
    assert descent(1.0, 0.0, sigmas, decay, 0.9 * bound, 3000)[-1].abs().max() < 1


# Shapes and dtypes


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_parameters_of_any_shape_give_that_shape_one_by_one(shape):
    theta = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    sigmas = karras_sigmas(21)
    for function in (consistency_loss, scaled_gradient):
        got = function(theta, theta / 2, 0.1, sigmas)
        assert (got.shape, got.dtype) == (shape, torch.float64)
        one_by_one = [float(function(t, t / 2, 0.1, sigmas)) for t in theta.double().ravel()]
        assert got.ravel().tolist() == pytest.approx(one_by_one, rel=1e-12)
    assert descent(1.0, 0.0, sigmas, 0.5, 1e-3, 7).shape == (8, 2)


# Errors and gradients


def test_the_teacher_is_a_constant_to_autograd_and_a_live_one_would_not_be():
    theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    sigmas = karras_sigmas(41)
    (got,) = torch.autograd.grad(consistency_loss(theta, theta, 0.0, sigmas), theta)
    terms, _ = pair_terms(1.0, 1.0, 0.0, sigmas)
    assert float(got) == pytest.approx(float(terms.mean()), rel=1e-9)
    lo, hi = 1 - sigmas[0] / sigmas[:-1], 1 - sigmas[0] / sigmas[1:]
    (mutant,) = torch.autograd.grad((((hi - lo) * theta) ** 2).mean(), theta)
    assert float(mutant) != pytest.approx(float(got), rel=0.1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: consistency_loss(1.0, 1.0, 0.0, karras_sigmas(11).flip(0)),
        lambda: scaled_gradient(1.0, 1.0, 0.0, torch.tensor([0.0, 1.0])),
        lambda: gradient_parts(1.0, 1.0, 0.0, torch.tensor([1.0])),
        lambda: limit_loss(1.0, 1.0, 0.0),
        lambda: limit_gradient(1.0, 1.0, 0.0, rho=-1.0),
        lambda: descent(1.0, 0.0, karras_sigmas(11), 1.0, 0.1, 3),
        lambda: descent(1.0, 0.0, karras_sigmas(11), 0.5, 0.0, 3),
        lambda: descent(1.0, 0.0, karras_sigmas(11), 0.5, 0.1, -1),
    ],
)
def test_values_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match=r"sigmas|needed"):
        call()
