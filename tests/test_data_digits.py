"""The digits: scikit-learn's real images, in our form."""

from dataclasses import FrozenInstanceError
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from ict_lib.data import fetch, load_dataset
from ict_lib.data.cache import cache_folder, data_folder
from ict_lib.data.dataset import Dataset


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("digits")


# Value from the source


def test_the_published_counts(data):
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.labels[:10].tolist() == list(range(10))


def test_seventeen_levels_from_paper_to_ink(data):
    assert torch.equal(data.images.unique(), torch.linspace(-1, 1, 17))
    assert (data.images[:, 0, :, 0] == -1).double().mean() > 0.9  # the margin is paper, so -1 is paper


# Invariant


def test_loading_again_gives_the_same_without_a_random_draw(data):
    before = torch.get_rng_state()
    again = load_dataset("digits")
    assert torch.equal(again.images, data.images)
    assert torch.equal(again.labels, data.labels)
    assert torch.equal(torch.get_rng_state(), before)


def test_there_is_nothing_to_fetch(tmp_path):
    assert list(fetch("digits", tmp_path)) == [(0, 1797), (1797, 1797)]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_flipped_for_a_mirrored_digit_is_none(data):
    indices = torch.arange(100)
    assert torch.equal(data.batch(indices, "cpu", torch.Generator().manual_seed(0)), data.images[:100])


# Independent slow reference


def test_against_the_file_itself(data):
    with resources.as_file(resources.files("sklearn.datasets.data") / "digits.csv.gz") as path:
        table = np.loadtxt(path, delimiter=",")
    for row, image, label in zip(table[::50], data.images[::50], data.labels[::50], strict=True):
        for k in range(64):
            assert image[0, k // 8, k % 8].item() == row[k] / 16 * 2 - 1
        assert label.item() == row[64]


# Shapes, dtypes, what is imported


def test_types(data):
    assert (data.images.dtype, data.labels.dtype) == (torch.float32, torch.int64)
    assert (len(data), data.num_classes, data.name) == (1797, 10, "digits")


def test_dtype_does_not_follow_the_global_default():
    torch.set_default_dtype(torch.float64)
    try:
        assert load_dataset("digits").images.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_cache_folder_order(monkeypatch, tmp_path):
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "set"))
    assert cache_folder() == tmp_path / "set"
    monkeypatch.delenv("ICT_CACHE")
    monkeypatch.setattr("ict_lib.data.cache.__file__", str(tmp_path / "a" / "b" / "cache.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "ict_lib"  # installed: no project around it
    (tmp_path / "pyproject.toml").touch()
    assert cache_folder() == tmp_path / ".cache" / "ict_lib"
    assert not any(Path(tmp_path).glob("*/ict_lib"))  # it only names a folder


def test_data_folder_order(monkeypatch, tmp_path):
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ICT_DATA", str(tmp_path / "set"))
    assert data_folder(tmp_path / "given") == tmp_path / "given"
    assert data_folder() == tmp_path / "set"
    monkeypatch.delenv("ICT_DATA")
    assert data_folder() == tmp_path / "cache" / "data"


# Errors


@pytest.mark.parametrize(("name", "nearest"), [("digit", "digits"), ("Digits", "digits"), ("cifar-10", "cifar10")])
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"{name!r}: did you mean '{nearest}'"):
        load_dataset(name)
    with pytest.raises(ValueError, match=f"{name!r}: did you mean '{nearest}'"):
        next(fetch(name))


def test_frozen(data):
    with pytest.raises(FrozenInstanceError):
        data.name = "other"
