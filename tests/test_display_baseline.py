"""The figures of a study: `ict_lib.display.figures.baseline`."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from ict_lib.config import run_from
from ict_lib.display.figures.baseline import dots, study_explorer
from ict_lib.run.study import Study
from ict_lib.training.measuring import grid, write_picture
from tests.test_display_explorer import unpack

matplotlib.use("Agg")
DISTANCES = {"ct": [4.0, 6.0], "ict": [0.5]}  # of the seeds
KEY = "frechet_pixels_1_step"


def study(folder, data="digits"):
    variants = {"ct": {"preset": "CT", "seeds": [0, 1]}, "ict": {}}
    rows = [{"variant": v, "seed": s, KEY: d} for v, found in DISTANCES.items() for s, d in enumerate(found)]
    (folder / "samples").mkdir()
    return Study(run_from({"data": data, "variants": variants}), rows, folder)


@pytest.fixture
def images(tmp_path):
    """A study of images, and the sheet of each variant as 8-bit levels."""
    found, sheets = study(tmp_path), {}
    for seed, variant in enumerate(DISTANCES):
        drawn = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        write_picture(tmp_path / "samples" / f"{variant}.png", drawn, columns=20)
        sheets[variant] = grid(drawn, columns=20)
    return found, sheets


def test_the_slider_shows_each_variants_samples_and_its_seeds(images):
    found, sheets = images
    explorer = study_explorer(found, KEY, "distance", floor=0.1)
    (slider,) = explorer.spec["sliders"]
    assert slider["text"] == ["ct", "ict"]
    assert explorer.index == [1]
    sheet, marks = (panel["marks"] for panel in explorer.spec["panels"])
    shown = unpack(explorer, sheet[0]["pixels"])
    np.testing.assert_allclose(shown, np.stack([sheets["ct"], sheets["ict"]]), atol=1)
    *seeds, floor, now = marks
    assert [unpack(explorer, mark["y"]).ravel().tolist()[0] for mark in seeds] == [4.0, 6.0]
    assert unpack(explorer, floor["y"]).ravel().tolist() == pytest.approx([0.1, 0.1])
    chosen = unpack(explorer, now["y"])
    assert chosen[0].tolist() == [4.0, 6.0]
    assert chosen[1][0] == 0.5
    assert np.isnan(chosen[1][1])  # one variant has fewer seeds: a gap, and no made-up dot


def test_of_points_the_one_step_samples_are_drawn(tmp_path):
    found, drawn = study(tmp_path, data="ring"), {}
    for seed, variant in enumerate(DISTANCES):
        drawn[variant] = np.random.default_rng(seed).normal(size=(2, 500, 2)).astype(np.float16)
        np.save(tmp_path / "samples" / f"{variant}.npy", drawn[variant])
    explorer = study_explorer(found, KEY, "distance", variants=["ict", "ct"])
    (points,) = explorer.spec["panels"][0]["marks"]
    np.testing.assert_allclose(unpack(explorer, points["x"])[0], drawn["ict"][0, :, 0], rtol=1e-3)
    np.testing.assert_allclose(unpack(explorer, points["y"])[1], drawn["ct"][0, :, 1], rtol=1e-3)


def test_the_still_figure_has_a_dot_a_seed_and_a_bar_at_the_median(images):
    fig, ax = plt.subplots()
    dots(ax, images[0], KEY, marks={"halves": 0.3})
    lines = [sorted(np.atleast_1d(line.get_xdata()).tolist()) for line in ax.get_lines()]
    assert [4.0, 6.0] in lines  # seeds of ct
    assert [5.0, 5.0] in lines  # its median
    assert [0.3, 0.3] in lines
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ct", "ict"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # from top to bottom
    plt.close(fig)


def test_a_result_that_is_not_there_is_named(images):
    with pytest.raises(ValueError, match="unknown result 'frechet'"):
        study_explorer(images[0], "frechet", "distance")
