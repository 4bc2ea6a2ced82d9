"""A technique at two scales, side by side: `ict_lib.display.figures.at_scale`."""

from pathlib import Path

import pytest

from ict_lib.config import run_from
from ict_lib.display.figures.at_scale import beside, result_of
from ict_lib.run.study import Study

FID, FEATURES = "fid_1_step", "frechet_features_1_step"


def study(name, key, **values):
    """A study with these results, a list of seeds a variant."""
    run = run_from({"name": name, "steps": 7, "batch_size": 8, "variants": {label: {} for label in values}})
    return Study(run, [{"variant": v, key: one} for v, found in values.items() for one in found], Path())


def test_both_scales_stand_side_by_side_with_their_worths():
    other = study("cifar10/weighting", FID, **{"ict": [3.0, 4.0], "ict-uniform": [9.0, 12.0]})
    small = study("digits/ladder", FEATURES, **{"ict": [1.0, 3.0], "ict-uniform": [2.0, 2.0]})
    said = beside(other, small, "weighting").splitlines()
    assert said[0].startswith("**At another scale.** 7 steps of 8 samples of digits, mlp. Above 1 the technique helps.")
    assert "One seed" not in said[0]
    assert said[2].split(" | ")[1] == "cifar10/weighting: FID, 1 step"
    assert "digits/ladder: Fréchet distance on features, 1 step" in said[2]
    assert said[4] == "| `ict` | 3.50 (3.00 to 4.00) |  | 2.00 (1.00 to 3.00) |  |"
    assert (
        said[5] == "| `ict-uniform` | 10.5 (9.00 to 12.0) | 3.00 | 2.00 (2.00 to 2.00) | 1.00 (0.67 to 2.00), overlap |"
    )


def test_one_seed_is_said_to_be_one():
    one = study("a/weighting", FID, ict=[3.0], out=[4.0])
    assert "One seed does not say what is chance." in beside(one, one, "weighting")


def test_without_another_scale_the_page_says_how_to_get_there():
    said = beside(None, study("digits/ladder", FEATURES, ict=[1.0]), "noise_levels")
    assert "`make run RUN=fashion-mnist/ict CHAPTER=noise_levels`" in said
    assert "`runs/fashion-mnist/noise-levels`" in said
    assert "|" not in said


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [((FID, FEATURES), FEATURES), ((FID,), FID), (("sliced_wasserstein_1_step",), "sliced_wasserstein_1_step")],
)
def test_a_study_is_compared_by_the_best_result_that_it_has(keys, chosen):
    rows = [{"variant": "ict", **dict.fromkeys(keys, 1.0)}]
    assert result_of(Study(run_from({"variants": {"ict": {}}}), rows, Path()))[0] == chosen
