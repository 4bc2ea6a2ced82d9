"""The figures of the chapter on embedding and dropout: `ict_lib.display.figures.embedding` and `.dropout`."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.figures.dropout import COUNTS as FEW
from ict_lib.display.figures.dropout import RATES, answer, dropout_explorer, lengths, with_dropout
from ict_lib.display.figures.embedding import (
    COUNTS,
    PLACES,
    SCALES,
    embedding_explorer,
    fourier,
    gap,
    pairs_near,
    speed,
)
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.techniques.embedding import positional
from tests.test_display_explorer import unpack


@pytest.fixture(scope="module")
def explorer():
    return embedding_explorer()


def reference_levels(num_scales):
    ramp = np.linspace(0, 1, num_scales)
    return (0.002 ** (1 / 7) + ramp * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7


def reference_features(scale, sigma):
    """Sines, then cosines, by numpy; the frequencies in ascending order of size."""
    w = scale * torch.randn(32, generator=torch.Generator().manual_seed(0)).double().numpy()
    angles = 2 * np.pi * np.outer(np.log(np.asarray(sigma)) / 4, w[np.argsort(np.abs(w))])
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


# Value


def test_the_known_speeds():
    """Radians a unit of ln sigma, root mean square: Fourier by 2 pi s / 4, positional of ADM's 192 channels."""
    assert speed(fourier(16.0, 20_000)) == pytest.approx(2 * math.pi * 16 / 4, rel=0.02)
    assert speed(fourier(0.02, 20_000)) == pytest.approx(0.0314, rel=0.02)
    for factor, expected in ((1000.0, 61.06), (1.0, 0.06106)):
        assert speed(lambda c, k=factor: positional(c, 192, k)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("scale", [0.02, 1.0, 16.0])
@pytest.mark.parametrize("step", [0.003, 0.3])
def test_the_distance_of_two_levels_is_that_of_the_formula(scale, step):
    """1 - exp(-2 pi^2 s^2 delta^2), the mean over the draw of the frequencies, squared."""
    low = torch.tensor([0.5], dtype=torch.float64)
    found = float(gap(fourier(scale, 20_000), low, low * math.exp(4 * step)))
    assert found**2 == pytest.approx(1 - math.exp(-2 * (math.pi * scale * step) ** 2), rel=0.04)


# Reference: what is drawn


def test_square_curve_and_levels_are_those_of_the_features(explorer):
    picture, curve, _ = (panel["marks"] for panel in explorer.spec["panels"])
    squares, axis = unpack(explorer, picture[0]["pixels"]), unpack(explorer, curve[0]["x"]).ravel()
    sides = np.geomspace(0.002, 80, squares.shape[-1])
    near, dots = unpack(explorer, curve[1]["x"])[0], unpack(explorer, curve[1]["y"])
    for i, scale in enumerate(SCALES):
        told = reference_features(scale, sides)
        lengths = np.linalg.norm(told, axis=1)
        np.testing.assert_allclose(squares[i, 0] / 127.5 - 1, told @ told.T / np.outer(lengths, lengths), atol=0.02)
        expected = reference_features(scale, axis)[:, 16]
        np.testing.assert_allclose(unpack(explorer, curve[0]["y"])[i, 0], expected, atol=1e-3)
        for j, n in enumerate(COUNTS):
            levels = reference_levels(n)
            gaps = np.abs(near[j][:, None] / levels - 1).min(axis=1)
            assert gaps.max() < 1e-5  # the dots are levels of the grid, and neighbours
            assert np.diff(np.abs(near[j][:, None] / levels - 1).argmin(axis=1)).tolist() == [1] * 7
            np.testing.assert_allclose(dots[i, j], reference_features(scale, near[j])[:, 16], atol=1e-3)


def test_the_distance_that_is_drawn_is_that_of_neighbours(explorer):
    drawn = unpack(explorer, explorer.spec["panels"][2]["marks"][0]["y"])
    for j, n in enumerate(COUNTS):
        levels = reference_levels(n)
        at = [np.abs(np.log(levels[1:] / float(place))).argmin() for place in PLACES]
        low, high = pairs_near(n)
        np.testing.assert_allclose(low, levels[at], rtol=1e-9)
        np.testing.assert_allclose(high, levels[np.array(at) + 1], rtol=1e-9)
        for i, scale in enumerate(SCALES):
            change = reference_features(scale, high) - reference_features(scale, low)
            np.testing.assert_allclose(drawn[i, j], np.linalg.norm(change, axis=1) / 8, rtol=2e-3)


def test_at_the_start_neighbours_are_strangers(explorer):
    near_one = explorer.spec["readouts"][1]
    at = np.ravel_multi_index(explorer.index, near_one["shape"])
    assert float(near_one["text"][at]) > 0.9
    assert float(near_one["text"][-1]) < 1e-3  # scale 0.02, N = 1281


# Dropout


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConsistencyModel(ResidualMLP((1, 8, 8), 0.02, width=16, blocks=2)).eval()
        for layer in (model.network.last, *(block.leave for block in model.network.blocks)):
            nn.init.normal_(layer.weight, std=0.3)
    return model


def test_one_mask_gives_the_same_answer_and_two_do_not(model):
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    dropped = with_dropout(model, 0.3)
    assert float(lengths(answer(dropped, x, 1.0, 3), answer(dropped, x, 1.0, 3)).max()) == 0
    assert float(lengths(answer(dropped, x, 1.0, 3), answer(dropped, x, 1.0, 4)).min()) > 0
    assert torch.equal(answer(with_dropout(model, 0.0), x, 1.0, 3), model(x, 1.0))  # and the model is as it was


def test_the_lines_are_medians_over_the_images(model):
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    explorer, noise = (
        dropout_explorer(model, images),
        torch.randn(images.shape, generator=torch.Generator().manual_seed(0)),
    )
    one, two, again = (unpack(explorer, mark["y"]) for mark in explorer.spec["panels"][0]["marks"])
    assert one.shape == (len(RATES), len(FEW), len(PLACES))
    assert np.isnan(again[0]).all()  # without dropout nothing differs
    np.testing.assert_allclose(one[0], two[0])
    low, high = pairs_near(FEW[1])
    dropped = with_dropout(model, RATES[-1])
    student = answer(dropped, images + high[5].float() * noise, high[5], seed=1)
    for drawn, sigma, seed in ((one, low[5], 1), (two, low[5], 2), (again, high[5], 2)):
        other = answer(dropped, images + sigma.float() * noise, sigma, seed)
        middle = (student - other).flatten(1).norm(dim=1).sort().values[2]  # the lower of the two in the middle of six
        assert drawn[-1, 1, 5] == pytest.approx(float(middle), rel=1e-5)
