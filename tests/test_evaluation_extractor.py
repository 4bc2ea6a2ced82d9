"""The small extractors: the files that the library comes with, and the command that makes them again."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from scipy.signal import correlate2d

from ict_lib.data import DATASETS, load_dataset
from ict_lib.evaluation import extractor
from ict_lib.evaluation.extractor import HELD_OUT, features_of, load_extractor, one_thread, weights_of

ROOT = Path(__file__).resolve().parents[1]
REAL = all(Path(places[-1]).is_file() for places in DATASETS["fashion_mnist"].files)  # Debian's
HERE = [
    "digits",
    pytest.param("fashion_mnist", marks=pytest.mark.skipif(not REAL, reason="Debian's dataset-fashion-mnist")),
]


@pytest.fixture(scope="module")
def images():
    return load_dataset("digits").images


def noise(name, num=20):
    return torch.rand(num, *DATASETS[name].shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def notes(name):
    with safe_open(weights_of(name), "pt") as file:
        return file.metadata()


def accuracy_of(name):
    data = load_dataset(name)
    held_out = torch.randperm(len(data), generator=torch.Generator().manual_seed(1797))[: HELD_OUT[name]]
    with one_thread():
        guess = load_extractor(name)(data.batch(held_out).double())[1].argmax(dim=1)
    return (guess == data.labels[held_out]).double().mean().item()


# Value


@pytest.mark.parametrize("name", HERE)
def test_it_knows_images_that_it_never_saw_as_often_as_the_file_and_the_docstring_say(name):
    said = float(notes(name)["held-out accuracy"])
    assert accuracy_of(name) == pytest.approx(said, abs=2 / 6000)  # of the digits exactly; counted in single precision
    assert said >= {"digits": 0.97, "fashion_mnist": 0.88}[name]
    doc = " ".join(extractor.__doc__.split())
    assert f"{100 * said:.1f} %" in doc.split(f"``{name}``")[1].split(",")[0]


@pytest.mark.slow
def test_the_command_in_the_file_makes_one_that_is_as_good(monkeypatch, tmp_path):
    before = notes("digits")
    assert before["made by"] == "python -m ict_lib.evaluation.extractor digits"
    monkeypatch.setattr(extractor, "FOLDER", tmp_path)
    extractor.main("digits")
    said = float(notes("digits")["held-out accuracy"])
    assert said == pytest.approx(float(before["held-out accuracy"]), abs=0.01)
    assert accuracy_of("digits") == said


# Invariant


@pytest.mark.parametrize("name", HELD_OUT)
def test_the_file_goes_into_the_package_and_is_small(name):
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in table["ict_lib"] for path in (ROOT / "ict_lib").glob(pattern)}
    assert weights_of(name) in packed
    assert weights_of(name).stat().st_size < 400_000
    assert notes(name)["made by"] == f"python -m ict_lib.evaluation.extractor {name}"


def test_each_measures_the_data_set_of_its_name():
    assert {name: entry.extractor for name, entry in DATASETS.items() if entry.extractor in HELD_OUT} == {
        name: name for name in HELD_OUT
    }


def test_the_callers_random_state_threads_and_types_are_left_alone(images):
    before, threads, kind = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
    expected = features_of(images[:20])
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            assert torch.equal(features_of(images[:20]), expected)
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
    assert torch.equal(torch.get_rng_state(), before)


# Independent slow reference


@pytest.mark.parametrize(
    ("name", "layers"),
    [("digits", [("fine", 1), ("coarse", 2)]), ("fashion_mnist", [("fine", 2), ("middle.0", 2), ("coarse", 2)])],
)
def test_features_against_sums_written_out(name, layers):
    w = {name: weights.astype(np.float64) for name, weights in load_file(weights_of(name)).items()}

    def silu(x):
        return x / (1 + np.exp(-x))

    def convolve(x, name, stride):
        around = w[name + ".weight"].shape[-1] // 2
        padded = np.pad(x, ((0, 0), (around, around), (around, around)))
        maps = [
            sum(correlate2d(c, k, "valid") for c, k in zip(padded, row, strict=True)) for row in w[name + ".weight"]
        ]
        return silu(np.stack(maps) + w[name + ".bias"][:, None, None])[:, ::stride, ::stride]

    hidden = noise(name)[5].numpy()
    for layer, stride in layers:
        hidden = convolve(hidden, layer, stride)
    assert hidden.shape == (64, 4, 4)
    expected = silu(w["feature.weight"] @ hidden.flatten() + w["feature.bias"])
    np.testing.assert_allclose(features_of(noise(name)[5:6], name)[0], expected, rtol=1e-6)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("name", HELD_OUT)
def test_features_are_64_doubles_an_image_whatever_its_neighbours(name):
    features = features_of(noise(name), name)
    assert (features.shape, features.dtype) == ((20, 64), torch.float64)
    torch.testing.assert_close(features[7:8], features_of(noise(name)[7:8], name))
    clipped = (3 * noise(name)).clamp(-1, 1)
    torch.testing.assert_close(features_of(3 * noise(name), name), features_of(clipped, name))


def test_many_images_go_in_parts(images):
    many = features_of(images.repeat(3, 1, 1, 1))[3594:]  # 5391 images go in two parts, cut at 4096
    torch.testing.assert_close(many[490:510], features_of(images[490:510]))


# Errors and gradients


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(images, value):
    bad = images[:20].clone()
    bad[3, 0, 4, 4] = value
    with pytest.raises(ValueError, match="finite, got 1 NaN or infinite"):
        features_of(bad)


def test_other_shapes_types_and_names_are_refused(images):
    for wrong in (images[:20, 0], torch.zeros(20, 1, 16, 16)):
        with pytest.raises(ValueError, match=r"\[n, 1, 8, 8\] is needed"):
            features_of(wrong)
    with pytest.raises(ValueError, match="uint8: floating point"):
        features_of(images[:20].byte())
    with pytest.raises(ValueError, match=r"\[n, 1, 32, 32\] is needed"):
        features_of(images[:20], "fashion_mnist")
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        features_of(images[:20], "digit")


def test_no_gradient_flows(images):
    assert not features_of(images[:20].clone().requires_grad_()).requires_grad
    assert not any(weight.requires_grad for weight in load_extractor("digits").parameters())
