"""The reference set of an FID: computed once, kept by content; all of a large set counts."""

import hashlib
import math

import numpy as np
import pytest
import torch
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ict_lib.data import Dataset, load_dataset
from ict_lib.data.mapped import MappedPixels
from ict_lib.evaluation import fidelity as fidelity_module
from ict_lib.evaluation import inception_weights
from ict_lib.evaluation.fidelity import fidelity
from ict_lib.evaluation.levels import stored_levels
from ict_lib.evaluation.reference import cache_options, some_of
from ict_lib.evaluation.report import measure, quick
from tests.test_evaluation_fidelity import KEYS, TinyInception
from tests.test_run_results import model

NUM = 90


class Counting(TinyInception):
    """Counts the images that it sees."""

    images = 0

    def forward(self, images):
        Counting.images += len(images)
        return super().forward(images)


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """A small extractor in Inception's place, with a file that passes for its weights."""
    path = tmp_path / "cache" / f"inception-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    monkeypatch.setattr(inception_weights, "URL_INCEPTION_V3", f"https://example.org/{path.name}")
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "inception-v3-compat", Counting)
    monkeypatch.setattr(Counting, "images", 0)
    monkeypatch.setenv("ICT_CACHE", str(path.parent))
    monkeypatch.delenv("ICT_INCEPTION", raising=False)
    return path


def levels(seed=0, num=NUM):
    return torch.randint(256, (num, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def dataset(pixels=None, name="made"):
    pixels = levels() if pixels is None else pixels
    return Dataset(pixels, torch.zeros(len(pixels), dtype=torch.int64), 1, name)


def generated(num=40):
    return 2 * torch.rand(num, 3, 4, 4, generator=torch.Generator().manual_seed(5)) - 1


def compare(data, **changes):
    Counting.images = 0
    return fidelity(generated(), data, extractor="inception", **changes), Counting.images


# Value


def test_a_data_set_gives_the_numbers_of_its_images():
    data = dataset()
    expected = fidelity(generated(), data.images, extractor="inception")
    assert list(expected) == KEYS
    assert compare(data)[0] == expected


def test_the_reference_is_computed_once(weights):
    first, seen_first = compare(dataset())
    again, seen_again = compare(dataset())
    assert (seen_first, seen_again) == (40 + NUM, 40)
    assert again == first
    assert list((weights.parent / "fidelity").iterdir())


# Invariant


def test_from_a_file_as_from_memory(tmp_path):
    np.save(tmp_path / "p.npy", levels().numpy())
    mapped = dataset(MappedPixels(tmp_path / "p.npy", "checksum"))
    assert compare(mapped) == compare(dataset())


def test_other_content_weights_or_extractor_has_another_name(weights, tmp_path):
    other = tmp_path / "other.pth"
    other.write_bytes(b"others")
    names = [
        cache_options(data, file, None, most)["input2_cache_name"]
        for data, file, most in (
            (dataset(), weights, NUM),
            (dataset(levels(1)), weights, NUM),
            (dataset(), other, NUM),
            (dataset(), weights, 50),
        )
    ]
    assert len(set(names)) == 4
    assert names[0] == cache_options(dataset(), weights, None, NUM + 1)["input2_cache_name"]
    compare(dataset())
    assert compare(dataset(levels(1)))[1] == 40 + NUM


def test_a_part_is_fixed_in_order_and_without_repeats():
    part = some_of(torch.arange(100)[:, None], most=30).flatten()
    assert torch.equal(part, part.unique())
    assert len(part) == 30
    assert torch.equal(part, some_of(torch.arange(100)[:, None], most=30).flatten())
    assert torch.equal(some_of(levels(), most=NUM), levels())


# Independent reference: of a large set every image counts for the FID


@pytest.fixture
def large(monkeypatch):
    """Makes the made set a large one."""
    monkeypatch.setattr(fidelity_module, "MOST", 50)


def test_all_of_a_large_set_count_for_the_fid_a_part_for_the_rest(large):
    found, seen = compare(dataset())
    again, seen_again = compare(dataset())
    assert found == again
    assert set(found) == set(KEYS)
    assert (seen, seen_again) == (NUM + 40 + 40 + 50, 40 + 40)
    whole = fidelity(generated(), dataset().images, extractor="inception", kid_subset_size=20)
    part = fidelity(generated(), some_of(levels(), 50) / 127.5 - 1, extractor="inception")
    assert found["fid"] == pytest.approx(whole["fid"], rel=1e-4)
    assert found["fid"] != pytest.approx(part["fid"], rel=1e-3)
    for key in set(KEYS) - {"fid"}:
        assert found[key] == part[key], key


def test_the_statistics_of_a_large_set_against_numpy(large, weights):
    compare(dataset())
    (path,) = (weights.parent / "fidelity").glob("*-stat-fid-2048.pt")
    kept = torch.load(path, weights_only=False)
    features = (levels().float().mean(dim=1).flatten(1) / 255)[:, :6].double().numpy()
    assert kept["mu"] == pytest.approx(features.mean(0), rel=1e-5)
    assert kept["sigma"] == pytest.approx(np.cov(features, rowvar=False), rel=1e-6, abs=1e-12)


# The report chooses


def test_other_data_sets_are_measured_with_inception():
    found = measure(generated(), dataset(name="cifar10"), "1_step")
    assert set(found) == {f"{key}_1_step" for key in KEYS}
    assert all(math.isfinite(value) for value in found.values())
    assert Counting.images == 40 + NUM


def test_digits_are_not():
    data = load_dataset("digits")
    found = measure(data.images[:100], data, "x")
    assert {"frechet_pixels_x", "frechet_features_x", "sliced_wasserstein_x", "fid_x"} <= set(found)
    assert Counting.images == 0


def test_a_quick_look_at_a_large_set_takes_a_part(monkeypatch):
    pixels = (load_dataset("digits").images * 8 + 8).byte() * 15
    data = dataset(pixels, "grey")
    monkeypatch.setattr("ict_lib.evaluation.report.QUICK", 200)
    sizes = []
    monkeypatch.setattr("ict_lib.evaluation.report.frechet_distance", lambda *sets: sizes.append([*map(len, sets)]))
    quick(model(), data, 80.0, 0)
    assert sizes == [[200, 200]]


# Shapes and errors


def test_levels_are_not_copied(tmp_path):
    pixels = levels()
    assert stored_levels(pixels).data_ptr() == pixels.data_ptr()
    np.save(tmp_path / "p.npy", pixels.numpy())
    mapped = MappedPixels(tmp_path / "p.npy", "checksum")
    assert stored_levels(mapped) is mapped.tensor
    assert stored_levels(load_dataset("digits").pixels).dtype == torch.uint8


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\[40, 3, 4, 4\] and \[90, 1, 4, 4\]"):
        compare(dataset(levels()[:, :1]))
    with pytest.raises(ValueError, match="4 images or more"):
        compare(dataset(levels(num=3)))
