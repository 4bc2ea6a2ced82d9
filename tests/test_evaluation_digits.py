"""The digits' feature extractor: the file that the library comes with, and the command that makes it again."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy.signal import correlate2d

from ict_lib.data import load_dataset
from ict_lib.evaluation import digits
from ict_lib.evaluation.digits import WEIGHTS, digits_features, load_extractor, one_thread

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def images():
    return load_dataset("digits").images


def notes(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def accuracy_of(network):
    data = load_dataset("digits")
    held_out = torch.randperm(1797, generator=torch.Generator().manual_seed(1797))[:360]
    guess = network(data.images[held_out].double())[1].argmax(dim=1)
    return (guess == data.labels[held_out]).double().mean().item()


# Value


def test_it_knows_digits_that_it_never_saw_as_often_as_the_file_and_the_docstring_say():
    said = float(notes(WEIGHTS)["held-out accuracy"])
    assert accuracy_of(load_extractor()) == said >= 0.97
    assert f"names {100 * said:.1f} %" in " ".join(digits.__doc__.split())


@pytest.mark.slow
def test_the_command_in_the_file_makes_one_that_is_as_good(monkeypatch, tmp_path):
    assert notes(WEIGHTS)["made by"] == "python -m ict_lib.evaluation.digits"
    monkeypatch.setattr(digits, "WEIGHTS", tmp_path / "new.safetensors")
    digits.main()
    said = float(notes(digits.WEIGHTS)["held-out accuracy"])
    assert said == pytest.approx(float(notes(WEIGHTS)["held-out accuracy"]), abs=0.01)
    assert accuracy_of(load_extractor()) == said


# Invariant


def test_the_file_goes_into_the_package_and_is_small():
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in table["ict_lib"] for path in (ROOT / "ict_lib").glob(pattern)}
    assert WEIGHTS in packed
    assert WEIGHTS.stat().st_size < 350_000


def test_the_callers_random_state_threads_and_types_are_left_alone(images):
    before, threads, kind = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    expected = digits_features(images[:20])
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert torch.equal(digits_features(images[:20]), expected)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
    assert torch.equal(torch.get_rng_state(), before)


# Independent slow reference


def test_features_against_sums_written_out(images):
    w = {name: weights.astype(np.float64) for name, weights in load_file(WEIGHTS).items()}

    def silu(x):
        return x / (1 + np.exp(-x))

    def convolve(x, name, stride):
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
        maps = [
            sum(correlate2d(c, k, "valid") for c, k in zip(padded, row, strict=True)) for row in w[name + ".weight"]
        ]
        return silu(np.stack(maps) + w[name + ".bias"][:, None, None])[:, ::stride, ::stride]

    hidden = convolve(convolve(images[5].numpy(), "fine", 1), "coarse", 2)
    expected = silu(w["feature.weight"] @ hidden.flatten() + w["feature.bias"])
    np.testing.assert_allclose(digits_features(images[5:6])[0], expected, rtol=1e-6)


# Shapes, dtypes, batch independence


def test_features_do_not_depend_on_the_batch(images):
    features = digits_features(images[:20])
    assert (features.shape, features.dtype) == ((20, 64), torch.float64)
    torch.testing.assert_close(features[7:8], digits_features(images[7:8]))
    many = digits_features(images.repeat(3, 1, 1, 1))[3594:]  # 5391 images go in two parts, cut at 4096
    torch.testing.assert_close(many[490:510], digits_features(images[490:510]))
    torch.testing.assert_close(digits_features(3 * images[:20]), digits_features((3 * images[:20]).clamp(-1, 1)))


# Errors and gradients


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(images, value):
    bad = images[:20].clone()
    bad[3, 0, 4, 4] = value
    with pytest.raises(ValueError, match="finite, got 1 NaN or infinite"):
        digits_features(bad)


def test_other_shapes_and_types_are_refused(images):
    for wrong in (images[:20, 0], images[:20].byte(), torch.zeros(20, 1, 16, 16)):
        with pytest.raises(ValueError, match=r"floating point \[n, 1, 8, 8\]"):
            digits_features(wrong)


def test_no_gradient_flows(images):
    assert not digits_features(images[:20].clone().requires_grad_()).requires_grad
    assert not any(weight.requires_grad for weight in load_extractor().parameters())
