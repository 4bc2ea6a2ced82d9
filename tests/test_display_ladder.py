"""The figures of the ladder: `ict_lib.display.figures.ladder`."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ict_lib.config import run_from
from ict_lib.display.figures.ladder import (
    about_sweep,
    apart,
    best_of_sweep,
    by_chance,
    by_choice,
    chances,
    ladder_figure,
    seed_by_seed,
    short,
    sweep_figure,
    verdict,
    worth,
)
from ict_lib.run.study import Study
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
        "a perfect model, about",
    }


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [([2, 4], [1, 3], "nearer"), ([1, 3], [2, 4], "farther"), ([1, 3], [2, 2], ""), ([1, 3], [1, 4], "")],
)
def test_seed_by_seed_sides_that_overlap_may_all_go_one_way(first, second, said):
    assert seed_by_seed(first, second) == said
    assert not apart(first, second)


@pytest.mark.parametrize(
    ("first", "second", "parted"),
    [([1, 2], [3, 4], True), ([3, 4], [1, 2], True), ([1, 3], [2, 4], False), ([1, 2], [2, 3], False)],
)
def test_ranges_are_apart_when_no_seed_of_one_side_reaches_the_other(first, second, parted):
    assert apart(first, second) == parted


def test_of_all_orders_of_equal_seeds_two_are_apart():
    orders = [(first, {*range(6)} - {*first}) for first in itertools.combinations(range(6), 3)]
    assert by_chance(3) == sum(apart(*sides) for sides in orders) / len(orders) == 0.1
    assert by_chance(2, 3) == 0.2  # 2 of the 10 ways to choose two of five
    assert by_choice(3, 2) == pytest.approx(by_chance(3), abs=0.01)  # of two, the other is never below
    assert 0.12 < by_choice(3, 5) < 0.15


def test_a_worth_is_the_ratio_of_the_medians_and_says_where_the_seeds_overlap(images):  # noqa: F811
    found = images[0]
    assert worth(found, "ct", "ict", "frechet_pixels_1_step") == "10"
    assert worth(found, "ict", "ct", "frechet_pixels_1_step") == "0.10"
    assert worth(found, "ct", "ct", "frechet_pixels_1_step") == "1.00, overlap"


def test_a_worth_of_which_single_seeds_tell_very_different_things_says_between_what(sweep):
    sweep.rows[1]["sliced_1_step"] = 50.0  # one of two trainings has collapsed
    assert worth(sweep, "ict", "std-1.0", "sliced_1_step") == "58 (0.89 to 119), overlap"
    assert worth(sweep, "std-0.5", "std-1.0", "sliced_1_step") == "1.95"


@pytest.fixture
def sweep(tmp_path):
    """Three values of a field, not in their order, and two seeds each."""
    values = {"ict": (2.0, [0.4, 0.5]), "std-0.5": (0.5, [0.9, 0.8]), "std-1.0": (1.0, [0.45, 0.42])}
    run = run_from(
        {
            "data": "ring",
            "seeds": [0, 1],
            "variants": {name: {"recipe": {"p_std": at}} for name, (at, _) in values.items()},
        }
    )
    both = {"sliced_1_step": 1, "sliced_2_steps": 0.1}
    rows = [
        {"variant": name, "seed": seed} | {key: share * value for key, share in both.items()}
        for name, (_, found) in values.items()
        for seed, value in enumerate(found)
    ]
    return Study(run, rows, tmp_path)


def test_a_sweep_has_each_seed_at_its_value_and_a_line_through_the_medians(sweep):
    fig = sweep_figure(sweep, "sliced", "distance", {"P_std": ("p_std", list(sweep.run.variants))}, floor=0.01)
    (ax,) = fig.axes
    lines = [(list(line.get_xdata()), np.round(line.get_ydata(), 6).tolist()) for line in ax.get_lines()]
    assert ([0.5, 1.0, 2.0], [0.85, 0.435, 0.45]) in lines  # ascending, whatever the order of the variants
    assert ([0.5, 1.0, 2.0], [0.085, 0.0435, 0.045]) in lines
    for at, seeds in ((0.5, [0.9, 0.8]), (1.0, [0.45, 0.42]), (2.0, [0.4, 0.5])):
        assert ([at, at], seeds) in lines
    assert ([2.0, 2.0], [0, 1]) in lines  # iCT's value
    assert ([0, 1], [0.01, 0.01]) in lines
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "1", "2"]
    assert (ax.get_xscale(), ax.get_yscale(), ax.get_xlabel(), ax.get_ylabel()) == ("log", "log", "P_std", "distance")
    plt.close(fig)


def test_a_field_that_is_not_above_zero_has_a_plain_axis(sweep):
    run = run_from({"data": "ring", "variants": {"ict": {}, "mean-0": {"recipe": {"p_mean": 0.0}}}})
    rows = [{"variant": name, "sliced_1_step": 1.0, "sliced_2_steps": 1.0} for name in run.variants]
    panels = {"P_mean": ("p_mean", ["ict", "mean-0"]), "alone": ("p_mean", ["mean-0"])}
    fig = sweep_figure(Study(run, rows, sweep.folder), "sliced", "distance", panels, floor=0.1)
    assert [ax.get_xscale() for ax in fig.axes] == ["linear"] * 2
    dotted = [[line.get_xdata()[0] for line in ax.get_lines() if line.get_linestyle() == ":"] for ax in fig.axes]
    assert dotted == [[-1.1], []]
    plt.close(fig)


def test_a_verdict_needs_two_seeds_a_side():
    assert verdict([1.0, 2.0], [0.5, 0.9]) == "lower, apart"
    assert verdict([1.0, 2.0], [0.5, 1.1]) == "lower, overlapping, but lower with every seed"
    assert verdict([1.0, 2.0], [1.1, 1.5]) == "lower, overlapping"
    assert verdict([1.0, 2.0], [0.5, 1.1, 1.2]) == "lower, overlapping"
    assert verdict([1.0, 2.0], [2.1, 3.0]) == "higher, apart"
    assert verdict([1.0, 2.0], [0.5]) == "lower (one seed, so not parted)"


def test_the_best_of_a_sweep_names_what_its_seeds_do_not_part(sweep):
    names = list(sweep.run.variants)
    said = best_of_sweep(sweep, "sliced", {"P_std": ("p_std", names)})
    assert said.startswith(
        "*P_std*: in one step lowest at 1, with 0.435 (0.420 to 0.450); the seeds of 2 overlap with it"
    )
    assert ". In two steps lowest at 1, with " in said
    for other, after in (("std-0.5", "apart from all others"), ("ict", "the seeds of 2 overlap with it")):
        alone = best_of_sweep(sweep, "sliced", {"P_std": ("p_std", [other, "std-1.0"])})  # the highest, and the lowest
        assert f"one step lowest at 1 (the edge of what was tried), with 0.435 (0.420 to 0.450); {after}. In" in alone


def test_a_sweep_says_how_many_of_its_other_values_chance_would_part(sweep):
    names = list(sweep.run.variants)
    said = about_sweep(sweep, {"all": ("p_std", names), "two": ("p_std", names[:2])})
    share = 2 * (2 * by_choice(2, 3) + by_choice(2, 2))
    assert "2 seeds a value; the dashed line is what fresh data have. If all" in said
    assert f"{share:.1f} of the 6 others would stand apart from the lowest" in said


def test_of_many_comparisons_chance_parts_some_and_lets_others_go_one_way():
    assert chances(3, 20) == (
        "if nothing differed, 2 of these 20 comparisons would be apart on average, and 3 overlap but go one way "
        "with every seed"
    )


def test_swept_values_are_written_short():
    assert [short(value) for value in (7.637e-4, 0.02, -1.1, 16.0, 1280, 1 / (1 - 0.99))] == [
        "0.00076",
        "0.02",
        "-1.1",
        "16",
        "1,280",
        "100",
    ]
