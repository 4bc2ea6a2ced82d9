"""The figures of the ladder: `ict_lib.display.figures.ladder`."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ict_lib.display.figures.ladder import apart, ladder_figure, worth
from tests.test_display_baseline import images  # noqa: F401

matplotlib.use("Agg")
TWO = {"ct": [8.0, 9.0], "ict": [0.25]}  # distances in two steps


@pytest.fixture
def drawn(images):  # noqa: F811
    found, sheets = images
    for row in found.rows:
        row["frechet_pixels_2_steps"] = TWO[row["variant"]][row["seed"]]
    fig = ladder_figure(found, "frechet_pixels", "distance", {"ct": "CT", "ict": "+ all = iCT"}, floor=0.1)
    yield fig, sheets
    plt.close(fig)


def test_each_rung_stands_under_four_columns_of_its_own_samples(drawn):
    fig, sheets = drawn
    *pictures, below = fig.axes
    for ax, sheet in zip(pictures, sheets.values(), strict=True):
        shown = ax.get_images()[0].get_array()
        height, width = sheet.shape
        np.testing.assert_allclose(shown[:8, :8, 0], sheet[:8, :8] / 255, atol=1 / 255)
        assert shown.shape[:2] == (height, 4 * width // 20)
    assert [label.get_text() for label in below.get_xticklabels()] == ["CT", "+ all = iCT"]


def test_every_seed_is_a_dot_and_every_median_a_bar(drawn):
    below = drawn[0].axes[-1]
    lines = [sorted(np.atleast_1d(line.get_ydata()).tolist()) for line in below.get_lines()]
    for values, median in (([4.0, 6.0], 5.0), ([0.5], 0.5), ([8.0, 9.0], 8.5), ([0.25], 0.25)):
        assert values in lines
        assert [median, median] in lines
    assert [0.1, 0.1] in lines
    assert below.get_yscale() == "log"
    assert {text.get_text() for text in below.get_legend().get_texts()} == {
        "1 step",
        "2 steps",
        "two halves of the data",
    }


@pytest.mark.parametrize(
    ("first", "second", "parted"),
    [([1, 2], [3, 4], True), ([3, 4], [1, 2], True), ([1, 3], [2, 4], False), ([1, 2], [2, 3], False)],
)
def test_ranges_are_apart_when_no_seed_of_one_side_reaches_the_other(first, second, parted):
    assert apart(first, second) == parted


def test_a_worth_is_the_ratio_of_the_medians_and_says_where_the_seeds_overlap(images):  # noqa: F811
    found = images[0]
    assert worth(found, "ct", "ict", "frechet_pixels_1_step") == "10.00"
    assert worth(found, "ict", "ct", "frechet_pixels_1_step") == "0.10"
    assert worth(found, "ct", "ct", "frechet_pixels_1_step") == "1.00, overlap"
