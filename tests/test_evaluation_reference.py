"""The reference set of an FID: computed once, kept by content; all of a large set counts."""

import hashlib
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ict_lib.data.dataset import Dataset
from ict_lib.evaluation import fidelity as fidelity_module
from ict_lib.evaluation import reference
from ict_lib.evaluation.fidelity import fidelity
from ict_lib.evaluation.reference import some_of, summarise
from tests.test_evaluation_fidelity import KEYS, TinyInception, noise, publish

NUM = 90


class Counting(TinyInception):
    """Counts the images that it sees."""

    images = 0

    def forward(self, images):
        Counting.images += len(images)
        return super().forward(images)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A small extractor in Inception's place; returns where its features are kept."""
    (tmp_path / "weights.pth").write_bytes(b"weights")
    publish(monkeypatch, tmp_path / "weights.pth")
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "inception-v3-compat", Counting)
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fidelity"


@pytest.fixture
def large(monkeypatch):
    """Makes the made set a large one."""
    monkeypatch.setattr(reference, "MOST", 50)


def levels(seed=0, num=NUM):
    return torch.randint(256, (num, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def dataset(pixels=None):
    pixels = levels() if pixels is None else pixels
    return Dataset(pixels, torch.zeros(len(pixels), dtype=torch.int64), 1, "made")


def compare(data):
    """What is found, and of how many images features were computed."""
    Counting.images = 0
    return fidelity(noise(40, 3, 4, 4), data, extractor="inception"), Counting.images


# Value


def test_a_data_set_gives_the_numbers_of_its_images_and_is_computed_once(cache):
    expected = fidelity(noise(40, 3, 4, 4), dataset().images, extractor="inception")
    assert not cache.exists()  # of tensors nothing is kept
    assert compare(dataset()) == (expected, 40 + NUM)
    assert compare(dataset()) == (expected, 40)


def test_features_that_tf32_may_have_rounded_are_not_taken(cache):
    """They were kept under a name without the precision."""
    compare(dataset())
    (path,) = cache.iterdir()
    content = f"{dataset().checksum()} {fidelity_module.INCEPTION} {version('torch-fidelity')} {reference.MOST}"
    old = path.with_name(f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.safetensors")
    path.rename(old)
    assert compare(dataset())[1] == 40 + NUM


# Invariant


def test_from_a_file_as_from_memory_and_as_floats(tmp_path):
    np.save(tmp_path / "p.npy", levels().numpy())
    pixels = torch.from_numpy(np.load(tmp_path / "p.npy", mmap_mode="c"))
    mapped = replace(dataset(pixels), stored="checksum")
    assert compare(mapped) == compare(dataset()) == compare(dataset(levels() / 127.5 - 1))


def test_other_images_weights_or_size_are_computed_anew(monkeypatch, tmp_path, cache):
    compare(dataset())
    assert compare(dataset(levels(1)))[1] == 40 + NUM
    (tmp_path / "others.pth").write_bytes(b"others")
    publish(monkeypatch, tmp_path / "others.pth")
    assert compare(dataset())[1] == 40 + NUM
    monkeypatch.setattr(reference, "MOST", 50)
    assert compare(dataset())[1] == 40 + NUM
    assert len(list(cache.iterdir())) == 4


def test_a_part_is_fixed_and_all_of_a_small_set(monkeypatch):
    assert some_of(NUM).all()
    monkeypatch.setattr(reference, "MOST", 50)
    assert some_of(NUM).sum() == 50
    assert torch.equal(some_of(NUM), some_of(NUM))


# Independent reference: of a large set every image counts for the FID


def test_all_of_a_large_set_count_for_the_fid_a_part_for_the_rest(large):
    found, seen = compare(dataset())
    assert (seen, compare(dataset())) == (40 + NUM, (found, 40))
    whole = compare(levels() / 127.5 - 1)[0]
    part = compare(levels()[some_of(NUM)] / 127.5 - 1)[0]
    assert found["fid"] == pytest.approx(whole["fid"], rel=1e-9)
    assert found["fid"] != pytest.approx(part["fid"], rel=1e-3)
    for key in set(KEYS) - {"fid"}:
        assert found[key] == part[key], key


def test_the_moments_of_a_set_against_numpy(monkeypatch):
    """Far from 0, where a sum of squares loses digits; and in batches of which the last is short."""
    monkeypatch.setattr(reference, "BATCH", 40)

    def network(part):
        flat = part.double().flatten(1)
        return flat + 1000, flat[:, :2]

    summary = summarise(network, levels(), "cpu")
    exact = levels().double().flatten(1).numpy() + 1000
    np.testing.assert_allclose(summary["mean"], exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(summary["covariance"], np.cov(exact, rowvar=False), rtol=1e-8, atol=1e-6)
    assert torch.equal(summary["features"], torch.from_numpy(exact))
    assert summary["logits"].shape == (NUM, 2)


# Errors


@pytest.mark.parametrize("damage", [b"", b"x" * 500, None])
def test_a_damaged_file_is_made_again(cache, damage):
    expected = compare(dataset())[0]
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    assert compare(dataset()) == (expected, 40 + NUM)
    assert compare(dataset()) == (expected, 40)


def test_a_folder_that_cannot_be_written_costs_a_warning_and_no_number(cache):
    cache.parent.touch()
    with pytest.warns(UserWarning, match="features of made cannot be kept"):
        assert list(compare(dataset())[0]) == KEYS


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[40, 3, 4, 4\], \[90, 1, 4, 4\]"):
        compare(dataset(levels()[:, :1]))
    with pytest.raises(ValueError, match="10 images or more"):
        compare(dataset(levels(num=9)))
