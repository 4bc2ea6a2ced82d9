"""The digits: scikit-learn's real images, in our form."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from ict_lib.data import DATASETS, Dataset, digits, load_dataset
from ict_lib.data.cache import cache_folder


@pytest.fixture(scope="module")
def data() -> Dataset:
    return digits.load()


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


def test_every_registered_name_loads_itself():
    for name in DATASETS:
        assert load_dataset(name).name == name


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
        assert digits.load().images.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_colour_images_fit_the_same_form():
    data = Dataset(torch.zeros(2, 3, 64, 64), torch.tensor([0, 999]), 1000, "imagenet64")
    assert len(data) == 2


def test_scikit_learn_is_imported_only_on_demand():
    code = "import sys, ict_lib.data; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cache_folder_order(monkeypatch, tmp_path):
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "set"))
    assert cache_folder(tmp_path / "given") == tmp_path / "given"
    assert cache_folder() == tmp_path / "set"
    monkeypatch.delenv("ICT_CACHE")
    monkeypatch.setattr("ict_lib.data.cache.__file__", str(tmp_path / "a" / "b" / "cache.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "ict_lib"  # installed: no project around it
    (tmp_path / "pyproject.toml").touch()
    assert cache_folder() == tmp_path / ".cache" / "ict_lib"
    assert not any(Path(tmp_path).glob("*/ict_lib"))  # it only names a folder


# Errors


@pytest.mark.parametrize(("name", "nearest"), [("digit", "digits"), ("Digits", "digits"), ("", "digits")])
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"{name!r}, did you mean '{nearest}'"):
        load_dataset(name)


def test_the_nearest_of_several(monkeypatch):
    monkeypatch.setitem(DATASETS, "cifar10", digits.load)
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        load_dataset("cifar-10")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("images", torch.zeros(1797, 8, 8), r"\[num, channel, height, width\]"),
        ("images", torch.zeros(0, 1, 8, 8), "num >= 1"),
        ("images", torch.zeros(1797, 1, 8, 8, dtype=torch.uint8), "uint8"),
        ("images", torch.full((1797, 1, 8, 8), 1.01), "to 1.01"),
        ("images", torch.full((1797, 1, 8, 8), torch.nan), "nan"),
        ("labels", torch.zeros(1796, dtype=torch.int64), "1796"),
        ("labels", torch.zeros(1797, dtype=torch.int32), "int32"),
        ("labels", torch.full((1797,), 10), "got 10 to 10"),
        ("labels", torch.full((1797,), -1), "got -1"),
        ("num_classes", 9, r"0 \.\. 8"),
    ],
)
def test_what_does_not_fit_is_refused(data, field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(data, **{field: value})


def test_frozen(data):
    with pytest.raises(FrozenInstanceError):
        data.name = "other"
