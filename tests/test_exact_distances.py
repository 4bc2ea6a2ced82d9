"""Distances where the truth is known, against closed forms and slow definitions."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch_fidelity.metric_fid import fid_statistics_to_metric

from ict_lib.data import load_dataset
from ict_lib.exact.distances import (
    frechet_distance,
    nearest_ratio,
    self_consistency_error,
    share_on_data,
    sliced_wasserstein,
)

SIGMAS = torch.tensor([0.002, 0.1, 1.0, 80.0], dtype=torch.float64)
SPREAD = 0.5  # of the Gaussian data below


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scale(sigma: torch.Tensor) -> torch.Tensor:
    """How far a Gaussian's exact probability flow has stretched a point at sigma."""
    return ((SPREAD**2 + sigma**2) / (SPREAD**2 + SIGMAS[0] ** 2)).sqrt().to(sigma)


@pytest.fixture
def trajectories() -> torch.Tensor:
    ends = SPREAD * draw(16, 2)
    return ends * scale(SIGMAS)[:, None, None]  # [num_levels, batch, 2]


def exact_model(x, sigma):
    return x / scale(sigma).reshape(-1, *[1] * (x.ndim - 1))


# Value from a closed form


def test_frechet_on_the_line():
    x = torch.tensor([[-1.0], [1.0]])  # mean 0, variance 2
    assert frechet_distance(x, 3 + 2 * x) == pytest.approx(3**2 + (math.sqrt(8) - math.sqrt(2)) ** 2)


def test_frechet_of_unequal_diagonal_gaussians():
    cross = torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # covariance 2/3 of the identity, mean 0
    x, y = cross * torch.tensor([1.0, 5.0]), cross * torch.tensor([4.0, 3.0])
    assert frechet_distance(x, y) == pytest.approx(2 / 3 * ((4 - 1) ** 2 + (5 - 3) ** 2))


def test_sliced_wasserstein_of_a_shift():
    x, shift = draw(50, 3), torch.tensor([2.0, -1.0, 2.0])  # E (u . shift)^2 = |shift|^2 / 3 on the sphere
    generator = torch.Generator().manual_seed(1)
    assert sliced_wasserstein(x, x + shift, 20_000, generator) == pytest.approx(math.sqrt(3), rel=0.02)


def test_sliced_wasserstein_on_the_line_is_the_distance_itself():
    x = draw(40, 1)
    assert sliced_wasserstein(x, 3 * x, 1) == pytest.approx(2 * x.square().mean().sqrt().item())


def test_sliced_wasserstein_of_one_point_and_two():
    assert sliced_wasserstein(torch.zeros(1, 1), torch.tensor([[1.0], [2.0]]), 1) == pytest.approx(math.sqrt(2.5))


def test_sliced_wasserstein_of_order_1_is_the_mean_distance_on_the_line():
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    assert sliced_wasserstein(x, torch.zeros(4, 1), 1, order=1) == pytest.approx(1 / 4)
    assert sliced_wasserstein(x, torch.zeros(4, 1), 1) == pytest.approx(1 / 2)


def test_self_consistency_of_the_exact_model_and_of_wrong_ones(trajectories):
    rms = trajectories[0].square().mean().sqrt()
    assert self_consistency_error(exact_model, trajectories, SIGMAS).max() < 1e-12
    grown = self_consistency_error(lambda x, s: 1.25 * exact_model(x, s), trajectories, SIGMAS)
    torch.testing.assert_close(grown, 0.25 * rms.expand(4))
    lazy = self_consistency_error(lambda x, s: x, trajectories, SIGMAS)
    torch.testing.assert_close(lazy, (scale(SIGMAS) - 1) * rms)


def test_a_collapsed_model_is_wrong(trajectories):
    def collapsed(x, sigma):
        return torch.where((sigma > 0.05)[:, None], torch.zeros_like(x), x)

    wrong = self_consistency_error(collapsed, trajectories, SIGMAS)
    rms = trajectories[0].square().mean().sqrt()
    torch.testing.assert_close(wrong, rms * torch.tensor([0, 1, 1, 1]))


def test_floor_of_the_digits():
    images = load_dataset("digits").images
    floors = []
    for seed in range(8):
        order = torch.randperm(1797, generator=torch.Generator().manual_seed(seed))
        floors.append(frechet_distance(images[order[:898]], images[order[898:]]))
    assert 0.25 < np.mean(floors) < 0.33


# Invariant


@pytest.mark.parametrize("distance", [frechet_distance, sliced_wasserstein])
def test_metric_like(distance):
    x, y = draw(60, 4, seed=1), 2 * draw(45, 4, seed=2) + 1

    def measure(a, b):
        if distance is frechet_distance:
            return distance(a, b)
        return distance(a, b, 64, torch.Generator().manual_seed(3))

    assert measure(x, y) > 0.1
    assert measure(x, y) == pytest.approx(measure(y, x))
    assert measure(x, x) == pytest.approx(0, abs=1e-12)
    assert measure(x.flip(0), y) == pytest.approx(measure(x, y))
    assert measure(x + 7, y + 7) == pytest.approx(measure(x, y))


def test_frechet_does_not_turn_with_the_axes():
    x, y = draw(60, 4, seed=1), draw(45, 4, seed=2) * torch.tensor([1, 2, 3, 4])
    turn = torch.linalg.qr(draw(4, 4, seed=3)).Q
    assert frechet_distance(x @ turn, y @ turn) == pytest.approx(frechet_distance(x, y))


def test_repeating_every_sample_is_the_same_distribution():
    x = draw(30, 2)
    assert sliced_wasserstein(x, x.repeat_interleave(3, dim=0)) == pytest.approx(0, abs=1e-12)


def test_random_lines_come_from_the_generator_alone():
    x, y = draw(20, 3), draw(20, 3, seed=1)
    before = torch.get_rng_state()
    same = [sliced_wasserstein(x, y, 8, torch.Generator().manual_seed(5)) for _ in range(2)]
    other = sliced_wasserstein(x, y, 8, torch.Generator().manual_seed(6))
    assert same[0] == same[1] != other
    assert torch.equal(torch.get_rng_state(), before)


# Independent slow reference


@pytest.mark.parametrize("constant", [0, 2])
def test_frechet_against_the_matrix_square_root(constant):
    x, y = draw(80, 5, seed=1) @ draw(5, 5, seed=2), draw(70, 5, seed=3) + 1
    x[:, :constant] = y[:, :constant] = -1.0  # constant pixels: singular covariances
    a, b = (np.cov(samples[:, constant:].numpy(), rowvar=False) for samples in (x, y))
    root = scipy.linalg.sqrtm(a @ b).real  # without the constant pixels, which add nothing
    gap = (x.mean(0) - y.mean(0)).numpy()
    assert frechet_distance(x, y) == pytest.approx(gap @ gap + np.trace(a + b - 2 * root), rel=1e-9)


def test_frechet_against_torch_fidelity_with_fewer_samples_than_pixels():
    x, y = draw(20, 1, 8, 8, seed=1), draw(30, 1, 8, 8, seed=2)
    moments = [
        {"mu": s.flatten(1).numpy().mean(0), "sigma": np.cov(s.flatten(1).numpy(), rowvar=False)} for s in (x, y)
    ]
    theirs = fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(x, y) == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (6, 4), (5, 3), (1, 7)])
def test_sliced_wasserstein_against_optimal_assignment(n, m):
    x, y = draw(n, 3, seed=1), draw(m, 3, seed=2) + 0.5
    lines = torch.randn(3, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    total = math.lcm(n, m)
    squares = []
    for line in lines.T:
        a = (x @ line / line.norm()).repeat_interleave(total // n).numpy()
        b = (y @ line / line.norm()).repeat_interleave(total // m).numpy()
        cost = (a[:, None] - b[None, :]) ** 2
        squares.append(cost[linear_sum_assignment(cost)].mean())
    ours = sliced_wasserstein(x, y, 5, torch.Generator().manual_seed(4))
    assert ours == pytest.approx(math.sqrt(np.mean(squares)))


def test_self_consistency_against_loops():
    points, sigmas = draw(3, 4, 1, 2, 2), [0.1, 0.5, 2.0]

    def model(x, sigma):
        return torch.tanh(x) * sigma[:, None, None, None]

    errors = self_consistency_error(model, points, torch.tensor(sigmas))
    for i, sigma in enumerate(sigmas):
        total = 0.0
        for b in range(4):
            for k in range(4):
                output = math.tanh(points[i, b].flatten()[k]) * sigma
                total += (output - points[0, b].flatten()[k].item()) ** 2
        assert errors[i].item() == pytest.approx(math.sqrt(total / 16))


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_distances_are_plain_floats_for_images_of_any_precision(dtype):
    x, y = draw(20, 3, 4, 4).to(dtype), draw(25, 3, 4, 4, seed=1).to(dtype)
    for distance in (frechet_distance, sliced_wasserstein):
        value = distance(x, y)
        assert type(value) is float
        assert math.isfinite(value)
    assert frechet_distance(x, y) == frechet_distance(x.double().flatten(1), y.double().flatten(1))


def test_the_model_sees_one_sigma_a_sample_in_the_points_dtype():
    seen = []

    def model(x, sigma):
        seen.append((sigma.shape, sigma.dtype, sigma.unique().item()))
        return x

    errors = self_consistency_error(model, draw(2, 5, 1, 8, 8).float(), torch.tensor([0.5, 2.0]).double())
    assert seen == [((5,), torch.float32, 0.5), ((5,), torch.float32, 2.0)]
    assert (errors.shape, errors.dtype) == ((2,), torch.float64)


def test_errors_of_batches_combine_to_that_of_the_whole(trajectories):
    def model(x, sigma):
        return torch.sin(x)

    whole = self_consistency_error(model, trajectories, SIGMAS).square()
    parts = [self_consistency_error(model, part, SIGMAS).square() for part in trajectories.split(8, dim=1)]
    torch.testing.assert_close(whole, torch.stack(parts).mean(dim=0))


# Errors and gradients


@pytest.mark.parametrize("distance", [frechet_distance, sliced_wasserstein])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.tensor([[1.0, torch.nan], [0, 0]]), "1 NaN"),
        (torch.tensor([[1.0, torch.inf], [0, 0]]), "infinite"),
        (torch.zeros(5), r"\[num, \*\]"),
        (torch.zeros(0, 2), "num >="),
        (torch.zeros(5, 3), "same size"),
    ],
)
def test_sets_without_a_distance_are_refused(distance, x, message):
    for arguments in ((x, torch.zeros(5, 2)), (torch.zeros(5, 2), x)):
        with pytest.raises(ValueError, match=message):
            distance(*arguments)


def test_frechet_needs_two_samples_and_slices_a_line():
    with pytest.raises(ValueError, match="num >= 2"):
        frechet_distance(torch.zeros(1, 2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="num_projections is 0: 1 or more"):
        sliced_wasserstein(torch.zeros(5, 2), torch.zeros(5, 2), 0)


@pytest.mark.parametrize(
    ("points", "sigmas", "message"),
    [
        (torch.zeros(2, 3, 2), [1.0, 0.5], "ascend"),
        (torch.zeros(2, 3, 2), [0.5, 0.5], "ascend"),
        (torch.zeros(2, 3, 2), [0.0, 0.5], "positive"),
        (torch.zeros(2, 3, 2), [0.5], r"\[1\]"),
        (torch.zeros(2, 3), [0.5, 1.0], "num_levels, batch"),
        (torch.zeros(2, 0, 2), [0.5, 1.0], r"\[2, 0, 2\]"),
    ],
)
def test_what_is_no_trajectory_is_refused(points, sigmas, message):
    with pytest.raises(ValueError, match=message):
        self_consistency_error(exact_model, points, torch.tensor(sigmas))


@pytest.mark.parametrize("model", [lambda x, s: x.log(), lambda x, s: x[:, :1]])
def test_a_broken_model_is_named_with_its_sigma(model):
    with pytest.raises(ValueError, match=r"sigma = 0.25 .* finite"):
        self_consistency_error(model, -torch.ones(2, 3, 2), torch.tensor([0.25, 1.0]))


def test_no_gradient_is_recorded(trajectories):
    network = nn.Linear(2, 2).double()
    errors = self_consistency_error(lambda x, s: network(x), trajectories.requires_grad_(), SIGMAS)
    assert not errors.requires_grad
    frechet_distance(trajectories[0], trajectories[1])  # points that want a gradient are no error
    sliced_wasserstein(trajectories[0], trajectories[1])
    assert trajectories.grad is None


# The share of samples on the data


def test_of_fresh_data_the_share_is_that_of_the_quantile():
    data, fresh = draw(4000, 2, seed=1), draw(4000, 2, seed=2)
    assert share_on_data(fresh, data) == pytest.approx(0.95, abs=0.015)
    assert share_on_data(fresh, data, quantile=0.5) == pytest.approx(0.5, abs=0.03)


def test_the_share_against_the_definition_written_out():
    data, samples = draw(41, 3, seed=1), 3 * draw(30, 3, seed=2)
    known, fresh = data[:21].numpy(), data[21:].numpy()
    reach = np.quantile([np.linalg.norm(known - x, axis=1).min() for x in fresh], 0.95)
    near = [np.linalg.norm(known - x, axis=1).min() <= reach for x in samples.numpy()]
    assert share_on_data(samples, data) == np.mean(near)
    assert 0 < share_on_data(samples, data) < 1


def test_copies_are_on_the_data_and_what_is_far_is_not():
    data = draw(100, 2)
    assert share_on_data(data[:40], data) == 1
    assert share_on_data(data + 100, data) == 0


def test_a_share_of_sets_that_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="the same size a sample"):
        share_on_data(draw(5, 2), draw(5, 3))
    with pytest.raises(ValueError, match="quantile is 1"):
        share_on_data(draw(5, 2), draw(5, 2), quantile=1)
    with pytest.raises(ValueError, match="num >= 2"):
        share_on_data(draw(5, 2), draw(1, 2))


# The nearest neighbour, where memorising shows


def test_fresh_data_are_as_far_from_the_data_as_these_from_each_other():
    assert nearest_ratio(draw(3000, 5, seed=2), draw(3000, 5, seed=1)) == pytest.approx(1, abs=0.04)


def test_the_ratio_against_the_definition_written_out():
    data, samples = draw(41, 3, seed=1), 3 * draw(31, 3, seed=2)
    known = data.numpy()
    own = [min(np.linalg.norm(x - y) for j, y in enumerate(known) if j != i) for i, x in enumerate(known)]
    far = [np.linalg.norm(known - x, axis=1).min() for x in samples.numpy()]
    assert nearest_ratio(samples, data) == pytest.approx(np.median(far) / np.median(own))


def test_what_is_known_by_heart_shows_and_so_does_what_is_far():
    data = draw(300, 4)
    assert nearest_ratio(data[:50], data) < 1e-6
    assert nearest_ratio(data[:50] + 1e-3, data) < 0.01
    assert nearest_ratio(data + 100, data) > 10


def test_of_large_sets_a_part_tells_nearly_the_same():
    data, samples = draw(900, 3, seed=1), draw(900, 3, seed=2)
    assert nearest_ratio(samples, data, most=300) == pytest.approx(nearest_ratio(samples, data), rel=0.15)


def test_a_ratio_of_sets_that_do_not_fit_is_refused():
    with pytest.raises(ValueError, match="the same size a sample"):
        nearest_ratio(draw(5, 2), draw(5, 3))
    with pytest.raises(ValueError, match="num >= 2"):
        nearest_ratio(draw(5, 2), draw(1, 2))
