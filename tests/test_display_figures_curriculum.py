"""The figures on the number of levels: `ict_lib.display.figures.curriculum`."""

import math

import numpy as np
import pytest

from ict_lib.display.figures.curriculum import LENGTHS, SHARES, bias_explorer, growth_explorer
from ict_lib.exact.levels import bias_and_noise
from ict_lib.exact.toy import two_points
from tests.test_display_explorer import unpack


def test_the_growth_is_that_of_both_formulas():
    explorer = growth_explorer()
    marks = explorer.spec["panels"][0]["marks"]
    root, doubled = (unpack(explorer, marks[i]["y"])[0] for i in (0, 2))  # [lengths, shares]
    length, half = LENGTHS.index(400_000), len(SHARES) // 2
    assert doubled[length, [0, half, -1]].tolist() == [11, 10 * 2**4 + 1, 1281]
    by_hand = math.ceil(math.sqrt(0.5 * (151**2 - 4) + 4) - 1) + 1
    assert root[length, [0, half, -1]].tolist() == [2, by_hand, 151]
    assert doubled[LENGTHS.index(4), -1] < 1281  # fewer steps than stages: the end is not reached


def test_the_levels_drawn_belong_to_n():
    explorer = growth_explorer()
    drawn = unpack(explorer, explorer.spec["panels"][1]["marks"][1]["x"])  # doubling: [shares, lengths, levels]
    length = LENGTHS.index(400_000)
    first, last = drawn[0, length], drawn[-1, length]
    assert np.isfinite(first).sum() == 11
    assert (np.nanmin(first), np.nanmax(first)) == pytest.approx((0.002, 80))
    assert np.isfinite(last).sum() == 61
    assert (last[0], last[-1]) == pytest.approx((0.002, 80))
    later = drawn[len(SHARES) // 6, length]  # after one doubling the old levels are still there
    assert np.isfinite(later).sum() == 21
    np.testing.assert_allclose(later[:21:2], first[:11], rtol=1e-5)


@pytest.fixture(scope="module")
def found():
    return bias_and_noise(two_points(0.25), scales=[2, 11, 81], points=15, draws=4000)


def test_bias_falls_and_the_noise_over_the_pull_rises_from_11_on(found):
    assert found["bias"][0] > 2 * found["bias"][1] > 4 * found["bias"][2]
    ratio = found["scatter"] / found["pull"]
    assert ratio[0] > ratio[1] < ratio[2]
    middle = abs(found["u"]) < 0.05
    assert found["exact"][middle].tolist() == pytest.approx([0.0], abs=1e-6)  # by symmetry


def test_the_figure_shows_what_was_measured(found):
    explorer = bias_explorer(found)
    answers, over = (panel["marks"] for panel in explorer.spec["panels"])
    np.testing.assert_allclose(unpack(explorer, answers[1]["y"]), found["student"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(unpack(explorer, over[0]["y"]).ravel(), found["bias"], rtol=1e-5)
    np.testing.assert_allclose(unpack(explorer, over[1]["y"]).ravel(), found["scatter"] / found["pull"], rtol=1e-5)
    assert [round(float(unpack(explorer, mark["y"])[1, 0]), 4) for mark in over[2:]] == [
        round(float(found["bias"][1]), 4), round(float((found["scatter"] / found["pull"])[1]), 4)
    ]  # fmt: skip
