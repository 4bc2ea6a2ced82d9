"""What N levels do to the target of consistency training: `ict_lib.exact.levels`."""

import math

import pytest
import torch

from ict_lib.exact.levels import ideal_student, pull, scatter
from ict_lib.exact.mixture import Mixture
from ict_lib.exact.point_mass import gradient_parts
from ict_lib.exact.toy import two_points
from ict_lib.grid import karras_sigmas
from ict_lib.techniques.noise_schedule import uniform_pmf

NORMAL = Mixture([1.0], [[0.3]], [0.7])


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# Invariants and independent references


@pytest.mark.parametrize("num_scales", [2, 5, 40])
def test_on_a_normal_distribution_the_ideal_student_is_a_product(num_scales):
    """All conditional means are linear: each level shrinks the distance from the mean by a known factor."""
    sigmas, x = karras_sigmas(num_scales), torch.tensor([[-90.0], [120.0]]).double()
    slope = math.prod(
        1 - (hi - lo) * hi / (0.7**2 + hi**2) for lo, hi in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True)
    )
    answer, spread = ideal_student(NORMAL, x, sigmas, 20_000, gen())
    assert (answer - 0.3 - slope * (x - 0.3)).abs().max() < 4 * float(spread.max()) / math.sqrt(20_000)


def test_two_levels_make_the_denoiser_and_many_the_consistency_function():
    mixture, x = two_points(0.25), 80 * torch.tensor([[-1.5], [-0.4], [0.7]]).double()
    exact = mixture.consistency(x, 80.0)
    two, spread = ideal_student(mixture, x, karras_sigmas(2), 5000, gen())
    torch.testing.assert_close(two, mixture.denoiser(x, 80.0), atol=0.06, rtol=0)
    assert spread.min() > 0.9  # single draws are of either mode
    errors = [(ideal_student(mixture, x, karras_sigmas(n), 300, gen())[0] - exact).abs().max() for n in (2, 11, 161)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_on_one_point_the_ideal_student_is_right_at_once_and_draws_do_not_scatter():
    point, x = Mixture([1.0], [[0.4, -0.2]], [0.0]), torch.tensor([[50.0, 9.0]]).double()
    answer, spread = ideal_student(point, x, karras_sigmas(2), 2)
    torch.testing.assert_close(answer, point.means + 0.002 / 80 * (x - point.means))
    assert float(spread.max()) < 1e-12
    line = Mixture([1.0], [[0.4]], [0.0])
    sigmas = karras_sigmas(11)
    assert scatter(line, sigmas, uniform_pmf(sigmas), 200, gen()) < 1e-3


def test_the_pull_is_that_of_the_point_mass():
    sigmas = karras_sigmas(21)
    assert pull(sigmas, uniform_pmf(sigmas)) == pytest.approx(float(gradient_parts(1.0, 0.0, 0.0, sigmas)[0]))


def test_the_scatter_is_that_of_gradients_by_autograd():
    """A student wrong by theta (1 - sigma_min / sigma), at theta = 0, sample by sample, on a linear truth."""
    sigmas, generator = karras_sigmas(6), gen(3)
    found = scatter(NORMAL, sigmas, uniform_pmf(sigmas), 4000, gen(4))
    pair = torch.randint(5, (4000,), generator=generator)
    x0, z = NORMAL.sample(4000, generator)[:, 0], torch.randn(4000, generator=generator).double()
    theta = torch.zeros(4000, dtype=torch.float64, requires_grad=True)

    def answer(sigma, shift):
        slope = ((0.7**2 + 0.002**2) / (0.7**2 + sigma**2)).sqrt()
        return 0.3 + slope * (x0 + sigma * z - 0.3) + shift * (1 - 0.002 / sigma)

    lo, hi = sigmas[pair], sigmas[pair + 1]
    loss = (answer(hi, theta) - answer(lo, theta.detach())).square() / (hi - lo)
    (gradient,) = torch.autograd.grad(loss.sum(), theta)
    assert found == pytest.approx(float(gradient.std()), rel=0.08)


def test_the_scatter_of_a_models_answers_is_computed_from_them():
    """A model that answers with its input: the difference of two answers is the difference of the levels, times z."""
    sigmas = karras_sigmas(6)
    found = scatter(NORMAL, sigmas, uniform_pmf(sigmas), 40_000, gen(4), lambda x, sigma: x)
    variance = sum(4 * (1 - 0.002 / hi) ** 2 / 5 for hi in sigmas[1:].tolist())
    assert found == pytest.approx(math.sqrt(variance), rel=0.02)


# Errors


def test_what_is_no_grid_or_no_sample_is_refused():
    with pytest.raises(ValueError, match="draws"):
        ideal_student(NORMAL, torch.zeros(1, 1).double(), karras_sigmas(3), draws=1)
    for call in (pull, lambda s, p: scatter(NORMAL, s, p), lambda s, p: ideal_student(NORMAL, p[:, None], s)):
        with pytest.raises(ValueError, match="ascend"):
            call(torch.tensor([1.0, 0.5]).double(), torch.ones(1).double())
