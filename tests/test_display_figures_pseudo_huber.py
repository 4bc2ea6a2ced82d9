"""The figures of the chapter on the distance: `ict_lib.display.figures.pseudo_huber`."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.figures.pseudo_huber import (
    BATCH,
    CONSTANTS,
    OUTLIERS,
    distance_explorer,
    minimiser,
    pairs,
    pulls,
    share_of_strongest,
)
from ict_lib.grid import karras_sigmas
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.recipe import ICT
from ict_lib.techniques.distance import l1, pseudo_huber, squared_l2
from tests.test_display_explorer import unpack


@pytest.fixture(scope="module")
def explorer():
    return distance_explorer()


def marks(explorer, panel, label):
    """The line of one distance, and the mark after it."""
    found = explorer.spec["panels"][panel]["marks"]
    (at,) = [i for i, mark in enumerate(found) if mark["label"] == label]
    return found[at : at + 2]


def of_every_constant(explorer, panel, label):
    (mark, *_) = marks(explorer, panel, label)
    return unpack(explorer, mark["x"]).reshape(-1), unpack(explorer, mark["y"])


def readout(explorer, label):
    (found,) = [r for r in explorer.spec["readouts"] if label in r["label"]]
    return np.array([float(text.removesuffix(" %")) for text in found["text"]]).reshape(found["shape"])


# Value: curves, gradients, minima and shares from their formulas, without the library


def test_curves_and_gradients_are_those_of_the_formulas(explorer):
    c = np.array(CONSTANTS)[:, None, None]
    x, curve = of_every_constant(explorer, 2, "pseudo-Huber")
    np.testing.assert_allclose(curve, np.sqrt(x**2 + c**2) - c, atol=1e-6)
    x, slope = of_every_constant(explorer, 0, "pseudo-Huber")
    np.testing.assert_allclose(slope, np.broadcast_to(x / np.sqrt(x**2 + c**2), slope.shape), atol=1e-6)
    np.testing.assert_allclose(of_every_constant(explorer, 2, "squared ℓ₂")[1][0, 0], x**2, atol=1e-5)
    np.testing.assert_allclose(of_every_constant(explorer, 0, "squared ℓ₂")[1][0, 0], 2 * x, atol=1e-5)
    np.testing.assert_allclose(of_every_constant(explorer, 2, "ℓ₁")[1][0, 0], np.abs(x), atol=1e-6)


def test_the_minima_are_mean_median_and_what_a_search_finds(explorer):
    rows = [np.append(BATCH.numpy(), far) for far in OUTLIERS]
    means, medians = ([f(row) for row in rows] for f in (np.mean, np.median))
    np.testing.assert_allclose(of_every_constant(explorer, 1, "squared ℓ₂")[1][0, 0], means, atol=1e-6)
    np.testing.assert_allclose(of_every_constant(explorer, 1, "ℓ₁")[1][0, 0], medians, atol=1e-5)
    drawn = of_every_constant(explorer, 1, "pseudo-Huber")[1][:, 0]
    places = np.linspace(-0.5, 1, 15_001)[:, None]
    for i, c in enumerate(CONSTANTS):
        for j, row in enumerate(rows):
            best = places[np.argmin(np.sqrt((places - row) ** 2 + c**2).sum(axis=1)), 0]
            assert abs(drawn[i, j] - best) < 2e-4
    line, dots = marks(explorer, 1, "pseudo-Huber")
    np.testing.assert_array_equal(unpack(explorer, dots["y"])[..., 0], unpack(explorer, line["y"])[:, 0])


def test_the_outliers_share_is_its_part_of_all_pulls(explorer):
    rows = np.abs([np.append(BATCH.numpy(), far) for far in OUTLIERS])
    np.testing.assert_allclose(readout(explorer, "squared ℓ₂")[0], 100 * rows[:, -1] / rows.sum(axis=1), atol=0.51)
    c = np.array(CONSTANTS)[:, None, None]
    bent = rows / np.sqrt(rows**2 + c**2)
    expected = 100 * bent[..., -1] / bent.sum(axis=-1)
    np.testing.assert_allclose(readout(explorer, "pseudo-Huber"), expected, atol=0.51)


def test_at_the_start_the_outlier_is_seen_to_matter(explorer):
    start = tuple(explorer.index)
    assert readout(explorer, "squared ℓ₂")[0, start[1]] > 50
    assert readout(explorer, "pseudo-Huber")[start] < 10


# Invariant


def test_a_pull_is_bounded_by_one_with_one_root_for_the_sample():
    x = torch.randn(50, 3, 4, 4, dtype=torch.float64) * torch.logspace(-3, 3, 50)[:, None, None, None]
    n = x.square().flatten(1).sum(1)
    pull = pulls(x, torch.zeros_like(x), partial(pseudo_huber, c=0.1))
    torch.testing.assert_close(pull, (n / (n + 0.01)).sqrt())
    torch.testing.assert_close(pulls(x, torch.zeros_like(x), squared_l2), 2 * n.sqrt())
    torch.testing.assert_close(pulls(x, torch.zeros_like(x), l1), torch.full_like(n, math.sqrt(48)))


def test_equal_pulls_have_equal_shares():
    assert share_of_strongest(torch.ones(200), 0.05) == pytest.approx(0.05)
    assert share_of_strongest(torch.tensor([1.0, 97, 1, 1]), 0.25) == pytest.approx(0.97)


def test_weights_count_as_repetitions_do():
    numbers, weights = torch.tensor([[0.0, 1.0, 5.0]]).double(), torch.tensor([[1.0, 3.0, 2.0]]).double()
    repeated = torch.tensor([[0.0, 1.0, 1.0, 1.0, 5.0, 5.0]]).double()
    apart = partial(pseudo_huber, c=0.3)
    torch.testing.assert_close(minimiser(numbers, apart, weights), minimiser(repeated, apart))


# Reference: pairs are what the objective compares


def test_pairs_are_two_neighbouring_levels_of_one_datum_and_noise():
    """A network that says nothing leaves c_skip(sigma) (x + sigma z): from two levels follow x and z."""
    model, sigmas = ConsistencyModel(ResidualMLP((1, 2, 2), 0.02, width=8, blocks=1)).eval(), karras_sigmas(11)
    images = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    drawn = pairs(model, images, ICT, 11, num=300, near=1.0)
    i = int((sigmas[1:].log()).abs().argmin())
    low, high = (float(s) for s in sigmas[i : i + 2])
    skip = [0.25 / ((s - 0.002) ** 2 + 0.25) for s in (low, high)]
    at_low, at_high = drawn.teacher / skip[0], drawn.student / skip[1]
    noise = (at_high - at_low) / (high - low)
    clean = at_low - low * noise
    gaps = (clean[:, None] - images).abs().amax(dim=(2, 3, 4)).amin(dim=1)
    assert float(gaps.max()) < 1e-4
    assert float(noise.std()) == pytest.approx(1, abs=0.1)
    assert drawn.weight.tolist() == pytest.approx([1 / (high - low)] * 300)


def test_drawn_levels_follow_the_noise_schedule():
    model = ConsistencyModel(ResidualMLP((2,), 0.02, width=8, blocks=1)).eval()
    weight = pairs(model, torch.zeros(1, 2), ICT, 11, num=4000).weight
    assert float((weight == weight.max()).float().mean()) == pytest.approx(0.06, abs=0.06)  # the lowest pair
    assert len(weight.unique()) >= 8
