"""The figure of the chapter on the noise levels: it draws the schedule itself, and mixes no positions up."""

import math

import numpy as np
import pytest
import torch

from ict_lib.config import run_from, variants_of
from ict_lib.display.figures.noise_levels import (
    P_MEANS,
    P_STDS,
    SLICED,
    label,
    median_level,
    noise_explorer,
    share_between,
    stairs,
    variants,
)
from ict_lib.grid import karras_sigmas
from ict_lib.run.study import Study
from ict_lib.techniques.noise_schedule import lognormal_pmf, uniform_pmf
from tests.test_display_explorer import unpack

LEVELS = karras_sigmas(9)[1:]


@pytest.fixture
def explorer(tmp_path):
    """The figure of a study whose numbers name their variant: position 7 of P_mean and P_std has errors near 7."""
    (tmp_path / "samples").mkdir()
    errors, rows = {}, []
    for place, variant in enumerate(variants()):
        errors[variant] = place + torch.linspace(0, 0.5, len(LEVELS), dtype=torch.float64)
        rows.append({"variant": variant, "seed": 0, SLICED: place + 0.25})
        np.save(tmp_path / "samples" / f"{variant}.npy", np.full((2, 5, 2), place, dtype=np.float16))
    return noise_explorer(Study(run_from({"data": "ring", "variants": variants()}), rows, tmp_path), errors, LEVELS)


def readout(explorer, name):
    (found,) = [r for r in explorer.spec["readouts"] if r["label"] == name]
    return np.array([float(text.split()[0]) for text in found["text"]]).reshape(len(P_MEANS), len(P_STDS))


def test_each_variant_has_the_constants_in_its_name():
    for name, one in variants_of(run_from({"variants": variants()})).items():
        assert name == label(one.recipe.p_mean, one.recipe.p_std)
    assert len(variants()) == len(P_MEANS) * len(P_STDS)


def test_at_load_the_published_constants_are_shown(explorer):
    shown = [slider["text"][i] for slider, i in zip(explorer.spec["sliders"], explorer.index, strict=True)]
    assert shown == ["−1.1", "2"]
    assert readout(explorer, "median σ")[*explorer.index] == pytest.approx(0.33, abs=0.005)
    assert readout(explorer, "drawn below σ = 0.1")[*explorer.index] == pytest.approx(27, abs=0.5)


def test_the_two_grids_have_the_known_shares():
    for n, share in {1281: 0.27, 11: 0.49}.items():
        sigmas = karras_sigmas(n)
        assert share_between(lognormal_pmf(sigmas), sigmas, 0, 0.1) == pytest.approx(share, abs=0.005)
    assert median_level(lognormal_pmf(karras_sigmas(1281), 1.1), karras_sigmas(1281)) > 2  # trap 6


@pytest.mark.parametrize("num_scales", [11, 1281])
@pytest.mark.parametrize("schedule", [lognormal_pmf, uniform_pmf])
def test_the_area_of_the_stairs_is_the_mass(num_scales, schedule):
    sigmas = karras_sigmas(num_scales)
    levels, share = (values.numpy() for values in stairs(schedule(sigmas), sigmas))
    assert (levels[0], levels[-1]) == (0.002, 80.0)
    assert np.trapezoid(share, np.log10(levels)) == pytest.approx(1)
    assert len(levels) <= 130


def test_on_a_fine_grid_the_stairs_follow_the_bell(explorer):
    _, fine, *_ = explorer.spec["panels"]
    shares = unpack(explorer, fine["marks"][0]["y"])
    levels = unpack(explorer, fine["marks"][0]["x"]).ravel()
    middle = np.log((levels[::2] * levels[1::2]) ** 0.5)
    for i, p_mean in enumerate(P_MEANS):
        bell = np.exp(-((middle - p_mean) ** 2) / 2)  # P_std = 1: nothing is cut off that counts
        np.testing.assert_allclose(shares[i, 0, ::2], math.log(10) * bell / math.sqrt(2 * math.pi), atol=0.03)


def test_errors_samples_and_distances_stand_at_their_position(explorer):
    *_, error, samples = explorer.spec["panels"]
    found = unpack(explorer, error["marks"][0]["y"])
    places = np.arange(len(P_MEANS) * len(P_STDS)).reshape(len(P_MEANS), len(P_STDS))
    np.testing.assert_allclose(found[..., 0], places)
    np.testing.assert_allclose(unpack(explorer, samples["marks"][0]["x"])[..., 0], places)
    np.testing.assert_allclose(readout(explorer, "samples: distance"), places + 0.25)
    np.testing.assert_allclose(readout(explorer, "error at σ = 80"), places + 0.5)
    assert unpack(explorer, error["marks"][1]["y"]).ravel()[0] == places[*explorer.index]  # iCT's
