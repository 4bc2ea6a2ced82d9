"""What needs no training: `ict_lib.evaluation.yardsticks`."""

import numpy as np
import pytest
import torch

from ict_lib.config import Run
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.data.small import TOYS
from ict_lib.evaluation.extractor import features_of
from ict_lib.evaluation.measure import measure
from ict_lib.evaluation.yardsticks import fresh_distance, fresh_frechet, halves, to_sizes, yardsticks
from ict_lib.exact.distances import frechet_distance
from ict_lib.training.model import build_model


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def model(digits):
    return build_model(Run(network_options={"width": 16, "blocks": 1}), digits.shape, 10)


@pytest.fixture(scope="module")
def sets(digits, model):
    return yardsticks(model, digits, 2000, seed=1)


def small(num=40):
    """Pixels within 0.3 of 0: a Gaussian of their covariance needs no clipping."""
    pixels = torch.rand(num, 1, 2, 3, generator=torch.Generator().manual_seed(0)) * 0.3
    pixels[:, 0, 1, 2] = pixels[:, 0, 0, 0] * 0.5  # one number of a sample follows another: the covariance is singular
    return Dataset(pixels, torch.zeros(num, dtype=torch.int64), 1, "small")


# Value: what is known of the digits


def test_they_are_ordered_as_the_digits_are_known_to_order_them(digits, sets):
    found = {name: frechet_distance(images, digits.images) for name, images in sets.items()}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found.pop("bootstrap") == pytest.approx(0.07, rel=0.4)  # of one draw of 2,000
    known = {"untrained network": 45.8, "mean image": 18.8, "clipped Gaussian": 0.75}
    assert found == {name: pytest.approx(value, rel=0.1) for name, value in known.items()}


def test_two_halves_of_the_digits_are_0_29_apart(digits):
    found = [frechet_distance(*halves(digits, seed)) for seed in range(10)]
    assert np.mean(found) == pytest.approx(0.29, abs=0.01)


def test_what_fresh_images_would_have_is_near_what_parts_of_other_sizes_have(digits):
    mixed = [torch.randperm(len(digits), generator=torch.Generator().manual_seed(s)) for s in range(20)]
    features, fresh = features_of(digits.images, "digits"), fresh_frechet(digits, 10_000)
    for few in (300, 600):
        found = np.mean([frechet_distance(features[m[:few]], features[m[few:]]) for m in mixed])
        sizes = (few, len(digits) - few)
        assert to_sizes(fresh, (10_000, len(digits)), sizes) == pytest.approx(found, rel=0.12)
    assert fresh == pytest.approx(0.2, abs=0.03)
    halves_alone = fresh_frechet(digits, len(digits), features=False) * 2  # of 900 against 900
    assert halves_alone == pytest.approx(0.29, abs=0.01)


def test_samples_of_a_gaussian_are_as_far_apart_as_is_carried_over_from_other_sizes():
    drawn = torch.randn(40, 6000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    small, large = (
        np.mean([frechet_distance(one[:n], one[n : n + m]) for one in drawn]) for n, m in ((400, 400), (4000, 1000))
    )
    assert to_sizes(small, (400, 400), (4000, 1000)) == pytest.approx(large, rel=0.1)


@pytest.mark.parametrize("name", TOYS)
def test_fresh_points_have_what_a_record_would_say_of_them(name):
    fresh = TOYS[name](10_000, torch.Generator().manual_seed(1)).float()
    said = measure(fresh, load_dataset(name), "x")
    assert fresh_distance(name) == pytest.approx(said["sliced_wasserstein_x"], rel=1e-4)
    assert said["on_data_x"] == pytest.approx(0.95, abs=0.01)


# Invariant


def test_the_gaussian_has_the_datas_mean_and_covariance():
    data = small()
    model = build_model(Run(network_options={"width": 16, "blocks": 1}), data.shape, 1)
    drawn = yardsticks(model, data, 200_000)["clipped Gaussian"].flatten(1).double().numpy()
    truth = data.images.flatten(1).double().numpy()
    np.testing.assert_allclose(drawn.mean(axis=0), truth.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(truth.T), atol=1e-4)


def test_the_bootstrap_draws_the_datas_own_images_and_some_of_them_twice(digits, sets):
    rows = {image.numpy().tobytes() for image in digits.images}
    drawn = [image.numpy().tobytes() for image in sets["bootstrap"]]
    assert set(drawn) <= rows
    assert 0.6 < len(set(drawn)) / len(rows) < 0.75  # 1 - exp(-2000 / 1797) = 0.67


def test_halves_share_no_image_and_leave_none_out():
    data = small(41)
    one, two = halves(data, 3)
    assert (len(one), len(two)) == (21, 20)
    both = {image.numpy().tobytes() for image in torch.cat([one, two])}
    assert both == {image.numpy().tobytes() for image in data.images}


def test_the_seed_decides_all(digits, model, sets):
    again, other = yardsticks(model, digits, 2000, seed=1), yardsticks(model, digits, 2000, seed=2)
    for name, images in sets.items():
        assert torch.equal(images, again[name])
        assert torch.equal(images, other[name]) == (name == "mean image")


# Shapes and ranges


def test_every_set_is_images_of_the_data(digits, sets):
    for images in sets.values():
        assert (images.shape, images.dtype) == ((2000, *digits.shape), torch.float32)
        assert images.min() >= -1
        assert images.max() <= 1
