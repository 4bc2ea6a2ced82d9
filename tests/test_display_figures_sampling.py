"""The figures on sampling and editing: `ict_lib.display.figures.sampling` and `.editing`."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import load_dataset
from ict_lib.display.figures.editing import COUNTS, edits, edits_explorer
from ict_lib.display.figures.sampling import distances, second_step_explorer, second_steps
from ict_lib.display.live_model import half_model
from ict_lib.evaluation.measure import measure
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.sampling import sample
from ict_lib.training.measuring import grid
from tests.test_display_explorer import unpack

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


@pytest.fixture(scope="module")
def model():
    return half_model("digits/live")


def test_the_sheets_and_the_curve_are_those_of_the_models_samples(model, digits):
    found = second_steps(model, digits, [0.1, 2.0], num=60, seeds=(3, 4))
    explorer = second_step_explorer(found, start=1)
    assert explorer.index == [1]
    one, two, curve = (panel["marks"] for panel in explorer.spec["panels"])
    drawn = sample(model, 60, (1, 8, 8), (80.0, 2.0), torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(unpack(explorer, two[0]["pixels"])[1], grid(drawn[:25], columns=5))
    first = sample(model, 60, (1, 8, 8), generator=torch.Generator().manual_seed(3))
    np.testing.assert_array_equal(np.squeeze(unpack(explorer, one[0]["pixels"])), grid(first[:25], columns=5))
    own = distances(drawn, digits)[0]
    assert float(unpack(explorer, curve[0]["y"]).ravel()[1]) == pytest.approx(own, rel=1e-5)
    np.testing.assert_allclose(unpack(explorer, curve[2]["y"]).ravel(), found["features"][1:].mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(unpack(explorer, curve[3]["y"]).ravel(), found["features"][0].mean(), rtol=1e-5)


def test_the_distances_are_those_of_a_record(model, digits):
    drawn = sample(model, 40, (1, 8, 8), generator=torch.Generator().manual_seed(0))
    whole = measure(drawn.clamp(-1, 1), digits, "1_step")
    assert distances(drawn, digits) == pytest.approx((whole["frechet_features_1_step"], whole["frechet_pixels_1_step"]))


def test_each_answer_agrees_with_what_was_measured_and_the_figure_shows_it(model, digits):
    images = digits.images[:4]
    found = edits(model, images, counts=[1, 4])
    seen, answers = found["upper half known"]
    torch.testing.assert_close(answers[..., :4, :], images[..., :4, :].expand(2, 3, -1, -1, -1, -1))
    assert float(seen[..., 4:, :].abs().max()) == 0
    _, large = found["4x4 means"]
    torch.testing.assert_close(
        F.avg_pool2d(large.flatten(0, 2), 2), F.avg_pool2d(images, 2).repeat(6, 1, 1, 1), atol=1e-5, rtol=0
    )
    explorer = edits_explorer(found, images, counts=[1, 4])
    sheet, curve = (panel["marks"] for panel in explorer.spec["panels"])
    row = torch.stack([seen[0], *answers[1, :, 0], images[0]])
    np.testing.assert_array_equal(unpack(explorer, sheet[0]["pixels"])[0, 1][:8], grid(row, columns=5)[:8])
    error = float((answers[0] - images).square().mean().sqrt())
    assert float(unpack(explorer, curve[1]["y"])[0, 0, 0]) == pytest.approx(error, rel=1e-5)


def test_larger_images_are_measured_alike():
    images = torch.rand(2, 1, 16, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    small = ConsistencyModel(ResidualMLP((1, 16, 12), 0.02, width=8, blocks=1)).eval()
    found = edits(small, images, counts=[1, 2], factor=4)
    assert list(found) == ["upper half known", "30 % of the pixels", "4x3 means"]
    for seen, answers in found.values():
        assert (seen.shape, answers.shape) == (images.shape, (2, 3, *images.shape))
    torch.testing.assert_close(
        found["upper half known"][1][..., :8, :], images[..., :8, :].expand(2, 3, -1, -1, -1, -1)
    )
    means = F.avg_pool2d(found["4x3 means"][1].flatten(0, 2), 4)
    torch.testing.assert_close(means, F.avg_pool2d(images, 4).repeat(6, 1, 1, 1), atol=1e-5, rtol=0)


def test_the_kept_edits_of_clothes_agree_with_what_was_measured_and_with_their_numbers():
    """Read from the picture alone, so that it needs neither the data nor the model."""
    folder = ROOT / "runs" / "fashion-mnist" / "mlp"
    left, sheet = json.loads((folder / "edits.json").read_text("utf8")), plt.imread(folder / "edits.png")[..., 0]
    tiles = np.pad(sheet * 2 - 1, ((0, 1), (0, 1))).reshape(5, 33, 18, 33)[:, :32, :, :32].transpose(2, 0, 1, 3)
    for (way, errors), (seen, _, *answers, truth) in zip(left["errors"].items(), np.split(tiles, 3), strict=True):
        assert len(errors) == len(COUNTS)
        off = np.sqrt(np.mean((np.stack(answers) - truth) ** 2))
        assert 0.8 * errors[-1] < off <= errors[-1] + 0.01, way  # a picture cuts off what lies beyond black and white
        assert errors[-1] < errors[0], way
        if way == "upper half known":
            assert np.array_equal(np.stack(answers)[..., :16, :], np.stack([truth] * 3)[..., :16, :])
            assert np.array_equal(seen[:, :16], truth[:, :16])
