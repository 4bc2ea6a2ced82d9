"""The exact probability-flow maps of mixtures: quantiles on the line, an ODE solver in the plane."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.special import ndtr

from ict_lib.exact.mixture import Mixture
from ict_lib.exact.probability_flow import ode_flow
from ict_lib.exact.toy import ring, three_modes, two_points
from ict_lib.grid import karras_sigmas

POINT = Mixture(torch.ones(1), torch.tensor([[0.4]], dtype=torch.float64), torch.zeros(1))
LINE = {
    "two_points": two_points(),
    "three_modes": three_modes(),
    "points": two_points(0.0),
    "one": POINT,
}


def prior(num, d, seed=0):
    return 80 * torch.randn(num, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_solver(mixture, x, sigma_from, sigma_to):
    start, end = (torch.full((len(x),), s, dtype=torch.float64) for s in (sigma_from, sigma_to))
    return ode_flow(mixture.denoiser, x, start, end)[0]


@pytest.fixture(params=LINE)
def mixture(request):
    return LINE[request.param]


# Value from a closed form


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_single_gaussian_keeps_its_standardised_points(d):
    mean = torch.linspace(-1, 1, d + 2, dtype=torch.float64)[1:-1]
    mix = Mixture(torch.ones(1), mean[None], torch.tensor([0.5]))
    x = prior(20, d)
    exact = mean + (x - mean) * math.sqrt((0.25 + 0.002**2) / (0.25 + 80**2))
    torch.testing.assert_close(mix.consistency(x, 80.0), exact, rtol=0, atol=1e-9)


def test_a_point_mass_has_the_line_of_section_3_2():
    x = torch.linspace(-700, 700, 29, dtype=torch.float64)[:, None]
    exact = 0.002 / 80 * x + (1 - 0.002 / 80) * 0.4
    torch.testing.assert_close(POINT.consistency(x, 80.0), exact, rtol=0, atol=1e-13)


# Invariant


def test_there_and_back(mixture):
    x = prior(200, 1)
    torch.testing.assert_close(mixture.flow(mixture.consistency(x, 80.0), 0.002, 80.0), x, rtol=0, atol=1e-9)
    near = torch.linspace(-2, 2, 101, dtype=torch.float64)[:, None]
    there = mixture.flow(near, 0.3, 80.0)
    torch.testing.assert_close(mixture.flow(there, 80.0, 0.3), near, rtol=0, atol=1e-6)


def test_two_legs_are_one_way(mixture):
    x = prior(100, 1)
    two = mixture.flow(mixture.flow(x, 80.0, 1.0), 1.0, 0.002)
    torch.testing.assert_close(two, mixture.consistency(x, 80.0), rtol=0, atol=1e-9)


def test_two_legs_are_one_way_in_the_plane():
    x = prior(50, 2)
    two = ring().flow(ring().flow(x, 80.0, 1.0), 1.0, 0.002)
    torch.testing.assert_close(two, ring().consistency(x, 80.0), rtol=0, atol=1e-7)


def test_order_is_kept_on_the_line(mixture):
    x = torch.linspace(-300, 300, 2001, dtype=torch.float64)[:, None]
    assert bool((mixture.consistency(x, 80.0).diff(dim=0) > 0).all())


def test_at_the_same_level_nothing_moves(mixture):
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    torch.testing.assert_close(mixture.consistency(x, 0.002), x, rtol=0, atol=1e-12)


def test_the_ring_flows_with_its_symmetries():
    angle, x = math.pi / 4, prior(30, 2)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]).double()
    moved = ring().consistency(x @ turn.T, 80.0)
    torch.testing.assert_close(moved, ring().consistency(x, 80.0) @ turn.T, rtol=0, atol=1e-7)


def test_one_mode_in_the_plane_keeps_directions():
    mix = Mixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([0.3]))
    x = prior(30, 2)
    y = mix.flow(x, 80.0, 0.7)
    torch.testing.assert_close(y / y.norm(dim=1, keepdim=True), x / x.norm(dim=1, keepdim=True))


def test_pushed_samples_have_the_weights_of_the_modes():
    y = three_modes().consistency(prior(20_000, 1), 80.0)[:, 0]
    for mean, weight in ((-1.0, 0.6), (0.2, 0.3), (1.5, 0.1)):
        assert float(((y - mean).abs() < 0.6).double().mean()) == pytest.approx(weight, abs=0.02)


# Independent slow reference


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0, 80.0])
def test_quantiles_agree_with_the_ode_solver(mixture, sigma):
    x = torch.linspace(-2, 2, 40, dtype=torch.float64)[:, None] * max(sigma, 1)  # even: not the watershed 0
    exact = mixture.consistency(x, sigma)
    torch.testing.assert_close(by_solver(mixture, x, sigma, 0.002), exact, rtol=0, atol=1e-7)


def test_eight_standard_deviations_out_agree_with_the_ode_solver(mixture):
    x = torch.tensor([-8.0, -6.0, 6.0, 8.0], dtype=torch.float64)[:, None] * 80
    torch.testing.assert_close(by_solver(mixture, x, 80.0, 0.002), mixture.consistency(x, 80.0), rtol=0, atol=1e-9)


def test_quantiles_are_kept_by_scipys_distribution_function():
    mix, x = three_modes(), prior(200, 1)

    def quantile(points, sigma):
        z = (points - mix.means[:, 0]) / (mix.stds**2 + sigma**2).sqrt()
        return torch.from_numpy(ndtr(z.numpy())) @ mix.weights

    torch.testing.assert_close(quantile(mix.consistency(x, 80.0), 0.002), quantile(x, 80.0), rtol=0, atol=1e-12)


def test_between_two_modes_a_plain_distribution_function_would_be_blind():
    mix, x = two_points(), torch.tensor([[-0.4], [-0.3]], dtype=torch.float64)
    spread = math.sqrt(0.05**2 + 0.03**2)
    plain = [(ndtr((p + 1) / spread) + ndtr((p - 1) / spread)) / 2 for p in x.ravel().tolist()]
    assert plain == [0.5, 0.5]
    y = mix.consistency(x, 0.03)
    torch.testing.assert_close(y, by_solver(mix, x, 0.03, 0.002), rtol=0, atol=1e-9)
    assert float(y[1] - y[0]) > 0.05


def test_two_modes_along_one_axis_flow_as_a_line_and_a_gaussian():
    line = Mixture(torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [1.0]]), torch.tensor([0.25, 0.25]))
    plane = Mixture(line.weights, torch.cat([line.means, torch.zeros(2, 1)], dim=1), line.stds)
    x = prior(40, 2)
    y = plane.consistency(x, 80.0)
    torch.testing.assert_close(y[:, :1], line.consistency(x[:, :1], 80.0), rtol=0, atol=1e-8)
    shrink = math.sqrt((0.25**2 + 0.002**2) / (0.25**2 + 80**2))
    torch.testing.assert_close(y[:, 1], x[:, 1] * shrink, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mix", [three_modes(), ring()], ids=["line", "plane"])
def test_small_euler_steps_come_near(mix):
    x = y = 3 * prior(20, mix.means.shape[1]) / 80
    sigmas = karras_sigmas(4001, 0.002, 3.0).flip(0)
    for hi, lo in pairwise(sigmas):
        y = y + (lo - hi) / hi * (y - mix.denoiser(y, hi))
    torch.testing.assert_close(y, mix.consistency(x, 3.0), rtol=0, atol=5e-3)


@pytest.mark.parametrize("x", [-1e6, 3e4, 1e8])
def test_far_out_only_the_widest_mode_of_the_side_counts(x):
    """Beyond what a distribution function in floating point can tell apart: there and back all the same."""
    x = torch.tensor([[x]], dtype=torch.float64)
    for mix in (two_points(), three_modes()):
        torch.testing.assert_close(mix.flow(mix.flow(x, 0.002, 80.0), 80.0, 0.002), x, rtol=1e-12, atol=0)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("mix", [three_modes(), ring()], ids=["line", "plane"])
def test_a_trajectory_is_the_flow_to_every_level(mix):
    x, sigmas = prior(5, mix.means.shape[1]), karras_sigmas(7)
    path = mix.trajectory(x, sigmas)
    assert path.shape == (7, *x.shape)
    assert torch.equal(path[-1], x)
    for level, at in zip(sigmas, path, strict=True):
        torch.testing.assert_close(at, mix.flow(x, 80.0, level), rtol=0, atol=1e-7)


@pytest.mark.parametrize("mix", [three_modes(), ring()], ids=["line", "plane"])
def test_points_do_not_see_each_other_and_carry_their_own_levels(mix):
    x, start = prior(6, mix.means.shape[1]) / 40, torch.linspace(0.5, 3, 6, dtype=torch.float64)
    end = start.flip(0) / 10
    alone = torch.cat([mix.flow(x[i : i + 1], float(start[i]), float(end[i])) for i in range(6)])
    torch.testing.assert_close(mix.flow(x, start, end), alone, rtol=0, atol=1e-8)


@pytest.mark.parametrize("mix", [three_modes(), ring()], ids=["line", "plane"])
def test_the_dtype_of_the_points_is_kept(mix):
    x = prior(4, mix.means.shape[1])
    single = mix.consistency(x.float(), 80.0)
    assert (single.dtype, single.shape) == (torch.float32, x.shape)
    torch.testing.assert_close(single.double(), mix.consistency(x.float().double(), 80.0), rtol=0, atol=1e-6)
    assert mix.trajectory(x.float(), karras_sigmas(3)).dtype == torch.float32


def test_the_order_in_which_modes_are_named_does_not_matter():
    mix, order = three_modes(), torch.tensor([2, 0, 1])
    other, x = Mixture(mix.weights[order], mix.means[order], mix.stds[order]), prior(20, 1)
    torch.testing.assert_close(other.consistency(x, 80.0), mix.consistency(x, 80.0), rtol=0, atol=1e-12)


# Errors and gradients


def test_levels_and_grids_out_of_range_are_refused():
    x = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="> 0"):
        two_points().flow(x, 1.0, 0.0)
    with pytest.raises(ValueError, match="> 0"):
        ring().flow(torch.zeros(2, 2), torch.tensor([0.0, 1.0]), 1.0)
    for bad, rule in ((x, "x is .* floating"), (torch.full((2, 2), math.nan), "x must be finite, got 4")):
        with pytest.raises(ValueError, match=rule):
            ring().flow(bad, 1.0, 0.5)
    with pytest.raises(ValueError, match="ascend"):
        two_points().trajectory(x, karras_sigmas(5).flip(0))


def test_the_ode_says_when_it_gives_up():
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="not solved"):
        ode_flow(lambda x, _: x * math.nan, one[:, None], one, 2 * one)


def test_a_flow_carries_no_gradient():
    for mix in (two_points(), ring()):
        x = torch.ones(2, mix.means.shape[1], requires_grad=True)
        assert not mix.consistency(x, 1.0).requires_grad
        assert not mix.trajectory(x, karras_sigmas(3)).requires_grad
