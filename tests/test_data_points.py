"""Points in the plane as data sets: `ict_lib.data.small.points`, and what is measured of models of them."""

import pytest
import torch

from ict_lib.config import run_from
from ict_lib.data import DATASETS, fetch, load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.data.small import TOYS
from ict_lib.evaluation.measure import draw, measure, quick
from ict_lib.run.execute import execute
from ict_lib.training import Training
from ict_lib.training.measuring import evaluate
from ict_lib.training.model import build_model

SMALL = {"network_options": {"width": 16, "blocks": 1}, "steps": 8, "batch_size": 16, "log_every": 4}
SMALL |= {"evaluate_every": 4, "num_samples": 200}


@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_ten_thousand_points_the_same_each_time(name):
    data, entry = load_dataset(name), DATASETS[name]
    assert (data.name, data.shape, len(data), data.num_classes) == (name, entry.shape, entry.num, entry.num_classes)
    assert data.images.dtype == torch.float32
    assert data.checksum() == load_dataset(name).checksum()
    assert data.images.unique(dim=0).shape == data.images.shape
    assert torch.equal(data.batch(torch.tensor([3, 1])), data.images[[3, 1]])
    assert [seen for seen, _ in fetch(name)][-1] == 10_000  # it is there already


@pytest.mark.parametrize("name", TOYS)
def test_fresh_points_are_nearer_than_a_gaussian_of_their_covariance(name):
    data = load_dataset(name)
    fresh = TOYS[name](2000, torch.Generator().manual_seed(7)).float()
    noise = torch.randn(2000, 2, generator=torch.Generator().manual_seed(7))
    gaussian = noise @ torch.linalg.cholesky(data.images.T.cov()).T + data.images.mean(dim=0)
    good, bad = measure(fresh, data, "1_step"), measure(gaussian, data, "1_step")
    assert set(good) == {"sliced_wasserstein_1_step", "on_data_1_step", "nearest_1_step"}
    assert good["nearest_1_step"] == pytest.approx(1, abs=0.1)
    assert good["on_data_1_step"] == pytest.approx(0.95, abs=0.02)
    assert bad["on_data_1_step"] < 0.6
    assert good["sliced_wasserstein_1_step"] < 0.6 * bad["sliced_wasserstein_1_step"]


def test_points_are_not_clipped_as_pictures_are():
    data = load_dataset("ring")
    model, spread = (
        build_model(run_from({"data": "ring", **SMALL, "recipe": {"sigma_data": sigma}}), data.shape, 1)
        for sigma in (0.5, 20.0)
    )
    assert draw(model, data, 300, (80.0,), seed=0).shape == (300, 2)
    assert draw(spread, data, 300, (80.0,), seed=0).abs().max() > 1
    assert list(quick(model, data, 80.0, seed=0)) == ["sliced_wasserstein_1_step"]


def test_a_training_on_points_is_evaluated_and_leaves_no_pictures(tmp_path):
    run = run_from({"data": "ring", **SMALL})
    first, last = Training(run, folder=tmp_path, evaluate=evaluate)
    assert set(first.measured) == {"sliced_wasserstein_1_step"}
    assert {"sliced_wasserstein_2_steps", "on_data_1_step"} <= set(last.measured)
    assert not (tmp_path / "looks").exists()


def test_a_run_on_points_leaves_a_record_without_a_picture(project):
    record = execute({"name": "points", "data": "ring", **SMALL})
    assert record.result("on_data_2_steps") == [pytest.approx(0.1, abs=0.1)]
    assert {path.name for path in record.folder.iterdir()} >= {"manifest.json", "metrics.jsonl", "README.md"}
    assert not (record.folder / "samples.png").exists()
    card = (record.folder / "README.md").read_text()
    assert "ring" in card
    assert "samples.png" not in card


@pytest.mark.parametrize("shape", [(5,), (5, 2, 2)])
def test_neither_points_nor_images_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[num, channel, height, width\] or \[num, 2\]"):
        Dataset(torch.zeros(shape), torch.zeros(5, dtype=torch.int64), 1, "none")
