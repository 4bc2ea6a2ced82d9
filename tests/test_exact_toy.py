"""Toy mixtures: density, score, denoiser, samples. For their flow see test_exact_probability_flow.py."""

import math

import pytest
import torch
from scipy.integrate import quad

from ict_lib.exact.mixture import Mixture
from ict_lib.exact.toy import checkerboard, ring, spiral, three_modes, two_moons, two_points

POINT = Mixture(torch.ones(1), torch.tensor([[0.4]], dtype=torch.float64), torch.zeros(1))
PRESETS = {
    "two_points": two_points(),
    "three_modes": three_modes(),
    "ring": ring(),
    "point": POINT,
}


def points(mixture, num=16, sigma=0.5, seed=0):
    gen = torch.Generator().manual_seed(seed)
    clean = mixture.sample(num, gen)
    return clean + sigma * torch.randn(clean.shape, dtype=torch.float64, generator=gen)


@pytest.fixture(params=PRESETS)
def mixture(request):
    return PRESETS[request.param]


# Value from a closed form


def test_a_single_gaussian_in_closed_form():
    mix = Mixture(torch.ones(1), torch.tensor([[0.5, -1.0]]), torch.tensor([0.75]))
    x, var = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64), 0.75**2 + 0.5**2
    away = x - torch.tensor([0.5, -1.0])
    torch.testing.assert_close(mix.score(x, 0.5), -away / var)
    torch.testing.assert_close(mix.denoiser(x, 0.5), mix.means[0] + away * 0.75**2 / var)
    exact = -(away**2).sum(1) / (2 * var) - math.log(2 * math.pi * var)
    torch.testing.assert_close(mix.density(x, 0.5).log(), exact)


def test_two_point_masses_denoise_to_a_hyperbolic_tangent():
    x = torch.linspace(-3, 3, 25, dtype=torch.float64)[:, None]
    torch.testing.assert_close(two_points(0.0).denoiser(x, 0.8), torch.tanh(x / 0.64))


def test_the_denoiser_of_one_point_is_that_point():
    x = torch.linspace(-90, 90, 7, dtype=torch.float64)[:, None]
    torch.testing.assert_close(POINT.denoiser(x, 80.0), torch.full_like(x, 0.4))


def test_presets_are_what_they_say():
    assert ring().means.norm(dim=1).tolist() == pytest.approx([1.0] * 8)
    assert ring(radius=2.0, std=0.0).sigma_data == pytest.approx(math.sqrt(2))
    assert two_points().sigma_data == pytest.approx(math.sqrt(1 + 0.05**2))
    assert POINT.sigma_data == 0
    assert three_modes().weights.tolist() == pytest.approx([0.6, 0.3, 0.1])


# Invariant


@pytest.mark.parametrize("sigma", [0.002, 0.3, 80.0])
def test_tweedie_links_denoiser_and_score(mixture, sigma):
    x = points(mixture, sigma=sigma)
    torch.testing.assert_close(mixture.denoiser(x, sigma), x + sigma**2 * mixture.score(x, sigma))


def test_the_ring_turns_with_its_modes_and_mirrors():
    mix, angle = ring(), math.pi / 4
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    mirror = torch.diag(torch.tensor([1.0, -1.0])).double()
    x = points(mix)
    for move in (turn, mirror):
        torch.testing.assert_close(mix.denoiser(x @ move.T, 0.4), mix.denoiser(x, 0.4) @ move.T)
        torch.testing.assert_close(mix.density(x @ move.T, 0.4), mix.density(x, 0.4))


@pytest.mark.parametrize("name", ["two_points", "three_modes"])
def test_density_integrates_to_one_and_the_score_to_zero(name):
    mix = PRESETS[name]
    grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)[:, None]
    density = mix.density(grid, 0.6)
    assert float(density.sum() * 1e-3) == pytest.approx(1, abs=1e-9)
    assert float((density * mix.score(grid, 0.6)[:, 0]).sum() * 1e-3) == pytest.approx(0, abs=1e-9)


# Independent slow reference


def test_score_is_the_gradient_of_the_log_density(mixture):
    x = points(mixture).requires_grad_()
    (slow,) = torch.autograd.grad(mixture.density(x, 0.5).log().sum(), x)
    torch.testing.assert_close(mixture.score(x.detach(), 0.5), slow)


@pytest.mark.parametrize("x", [-1.4, 0.3, 1.2])
def test_denoiser_is_the_posterior_mean_by_quadrature(x):
    mix, sigma = three_modes(), 0.45

    def weight(clean, power):
        prior = sum(
            float(w) / float(s) * math.exp(-((clean - float(m)) ** 2) / (2 * float(s) ** 2))
            for w, m, s in zip(mix.weights, mix.means[:, 0], mix.stds, strict=True)
        )
        return clean**power * prior * math.exp(-((x - clean) ** 2) / (2 * sigma**2))

    top, bottom = (quad(weight, -4, 4, (p,), points=[-1, 0.2, 1.5], epsabs=1e-12, limit=200)[0] for p in (1, 0))
    got = float(mix.denoiser(torch.tensor([[x]], dtype=torch.float64), sigma))
    assert got == pytest.approx(top / bottom, rel=1e-8)


def test_denoiser_is_the_posterior_mean_by_monte_carlo_in_the_plane():
    mix, sigma = ring(), 0.5
    clean = mix.sample(200_000, torch.Generator().manual_seed(3))
    x = torch.tensor([[0.7, 0.2]], dtype=torch.float64)
    weight = (-((x - clean) ** 2).sum(1) / (2 * sigma**2)).softmax(0)
    torch.testing.assert_close(mix.denoiser(x, sigma)[0], weight @ clean, rtol=0, atol=0.01)


@pytest.mark.parametrize("sigma", [0.1, 0.8, 20.0])
def test_clean_points_of_a_noisy_one_have_the_denoiser_as_their_mean(sigma):
    x = torch.tensor([[0.3, -0.2], [2.0, 1.0]], dtype=torch.float64).repeat_interleave(20_000, dim=0)
    clean = ring().posterior(x, sigma, torch.Generator().manual_seed(0)).view(2, 20_000, 2)
    torch.testing.assert_close(clean.mean(dim=1), ring().denoiser(x[::20_000], sigma), rtol=0, atol=0.03)


def test_noise_and_data_drawn_backwards_are_those_drawn_forwards():
    """Noisy points of the data, and clean ones for each of them, are pairs like x0 and x0 + sigma z: same moments."""
    sigma, truth, generator = 0.7, three_modes(), torch.Generator().manual_seed(1)
    x0 = truth.sample(200_000, generator)
    x = x0 + sigma * torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    again = truth.posterior(x, sigma, generator)
    for moment in (lambda y: y, lambda y: y**2, lambda y: y * x, lambda y: y**2 * x):
        assert float(moment(again).mean()) == pytest.approx(float(moment(x0).mean()), abs=0.03)
    assert (again - x0).abs().mean() > 0.1  # and they are not the same points


def test_a_point_mass_is_its_own_posterior():
    x = torch.randn(5, 1, dtype=torch.float64)
    torch.testing.assert_close(POINT.posterior(x, 80.0), torch.full_like(x, 0.4))
    assert two_points(0.0).posterior(torch.full((9, 1), 0.1), 0.5).abs().unique().tolist() == [1.0]


def test_the_consistency_function_is_not_the_denoiser_and_each_test_catches_the_other():
    mix, sigma, sigma_min = two_points(), 80.0, 0.002
    x = sigma * torch.randn(500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    def is_posterior_mean(function):  # at sigma = 80 nothing is known yet: about 0 wherever x is
        return bool((function(x, sigma).abs() < 0.1).all())

    def lands_on_the_data(function):
        distance = (function(x, sigma).abs() - 1).abs()
        return bool((distance < 5 * 0.05).all())

    assert is_posterior_mean(mix.denoiser)
    assert lands_on_the_data(lambda x, s: mix.consistency(x, s, sigma_min))
    assert not is_posterior_mean(mix.consistency)
    assert not lands_on_the_data(mix.denoiser)


def test_samples_have_the_weights_means_and_widths():
    mix = three_modes()
    x = mix.sample(50_000, torch.Generator().manual_seed(5))[:, 0]
    for weight, mean, std in zip(mix.weights, mix.means[:, 0], mix.stds, strict=True):
        near = x[(x - mean).abs() < 4 * std]
        assert len(near) / len(x) == pytest.approx(float(weight), abs=0.01)
        assert float(near.mean()) == pytest.approx(float(mean), abs=0.01)
        assert float(near.std()) == pytest.approx(float(std), rel=0.05)


# Shapes, dtypes, batch independence


def test_shapes_and_dtypes_follow_the_points(mixture):
    d = mixture.means.shape[1]
    exact = points(mixture, 5)
    for dtype, tol in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        x = exact.to(dtype)
        for function in (mixture.score, mixture.denoiser):
            got = function(x, 0.5)
            assert (got.shape, got.dtype) == ((5, d), dtype)
            torch.testing.assert_close(got.double(), function(x.double(), 0.5), rtol=tol, atol=tol)
        assert mixture.density(x, 0.5).shape == (5,)
    assert mixture.sample(0).shape == (0, d)
    assert mixture.score(exact[:0], 0.5).shape == (0, d)


def test_points_do_not_see_each_other_and_carry_their_own_level(mixture):
    x, sigma = points(mixture, 6), torch.linspace(0.1, 2, 6, dtype=torch.float64)
    for function in (mixture.density, mixture.score, mixture.denoiser):
        alone = torch.cat([function(x[i : i + 1], float(sigma[i])) for i in range(6)])
        torch.testing.assert_close(function(x, sigma), alone)


def test_samples_repeat_with_their_generator():
    first, again, other = (ring().sample(9, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_at_zero_noise_the_denoiser_changes_nothing():
    x = points(three_modes())
    torch.testing.assert_close(three_modes().denoiser(x, 0.0), x)


# Errors and gradients


@pytest.mark.parametrize(
    ("weights", "means", "stds", "rule"),
    [
        ([0.5, 0.6], [[0.0], [1.0]], [1.0, 1.0], "a sum of 1"),
        ([1.5, -0.5], [[0.0], [1.0]], [1.0, 1.0], "each > 0"),
        ([1.0], [[0.0]], [-1.0], "stds is"),
        ([1.0], [0.0], [1.0], r"\[k, d\]"),
        ([1.0], [[0.0], [1.0]], [1.0, 1.0], r"\[k, d\]"),
        ([1.0], [[math.nan]], [1.0], "finite"),
    ],
)
def test_a_mixture_that_is_none_is_refused(weights, means, stds, rule):
    with pytest.raises(ValueError, match=rule):
        Mixture(torch.tensor(weights), torch.tensor(means), torch.tensor(stds))


@pytest.mark.parametrize(
    ("x", "sigma", "rule"),
    [
        (torch.zeros(3), 1.0, "x is .* floating"),
        (torch.zeros(3, 2), 1.0, "x is .* floating"),
        (torch.zeros(3, 1, dtype=torch.long), 1.0, "x is .* floating"),
        (torch.zeros(3, 1), -1.0, ">= 0"),
        (torch.zeros(3, 1), math.nan, "finite"),
        (torch.zeros(3, 1), torch.ones(2), r"\[3\]"),
        (torch.zeros(3, 1), 0.0, "point mass"),
    ],
)
def test_points_and_levels_out_of_range_are_refused(x, sigma, rule):
    for function in (POINT.density, POINT.score, POINT.denoiser):
        with pytest.raises(ValueError, match=rule):
            function(x, sigma)


def test_presets_refuse_what_makes_no_sense():
    for call in (
        lambda: ring(0),
        lambda: ring(radius=0.0),
        lambda: two_points(-1.0),
    ):
        with pytest.raises(ValueError, match=r"> 0|>= 0"):
            call()
    with pytest.raises(ValueError, match="num is -1"):
        ring().sample(-1)


def test_the_denoiser_has_the_gradient_of_finite_differences():
    x = points(ring(), 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: ring().denoiser(x, 0.4), (x,))


# Points without a density, for trainings


DRAWN = {"two_moons": two_moons, "spiral": spiral, "checkerboard": checkerboard}


@pytest.mark.parametrize("name", DRAWN)
def test_points_lie_in_the_square_and_the_generator_decides_them(name):
    first, again, other = (DRAWN[name](5000, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert (first.shape, first.dtype) == ((5000, 2), torch.float64)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 1
    assert 0.35 < first.std() < 0.55  # what the scalings assume, sigma_data = 0.5, is not far


def test_moons_are_two_half_circles_of_one_radius():
    drawn = two_moons(4000, torch.Generator().manual_seed(0), std=0.0) / 0.58 + torch.tensor([0.5, 0.25])
    upper = (drawn.norm(dim=1) - 1).abs() < 1e-12
    lower = ((drawn - torch.tensor([1.0, 0.5])).norm(dim=1) - 1).abs() < 1e-12
    assert (upper | lower).all()
    assert upper.double().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (drawn[upper, 1] >= 0).all()
    assert (drawn[lower & ~upper, 1] <= 0.5).all()


def test_the_spiral_has_one_arm_of_one_and_a_half_turns_evenly_filled():
    drawn = spiral(20_000, torch.Generator().manual_seed(0), std=0.0)
    radius = drawn.norm(dim=1)
    assert (radius.min().item(), radius.max().item()) == (pytest.approx(0.1, abs=0.02), pytest.approx(0.9, abs=1e-3))
    turned = 3 * math.pi * (radius - 0.1) / 0.8
    expected = radius[:, None] * torch.stack([turned.cos(), turned.sin()], dim=1)
    torch.testing.assert_close(drawn, expected)
    inner = (radius < 0.5).double().mean().item()  # r from 0.1 to 0.9 with density 2 r / 0.8
    assert inner == pytest.approx((0.5**2 - 0.1**2) / (0.9**2 - 0.1**2), abs=0.015)


def test_the_checkerboard_fills_its_eight_dark_squares_alike_and_no_other():
    drawn = checkerboard(16_000, torch.Generator().manual_seed(0))
    column, row = (drawn / 0.43 + 2).floor().long().unbind(dim=1)
    assert ((column + row) % 2 == 0).all()
    counts = (4 * row + column).bincount(minlength=16)
    assert counts[counts > 0].tolist() == pytest.approx(8 * [2000], rel=0.08)
    assert (counts > 0).sum() == 8
