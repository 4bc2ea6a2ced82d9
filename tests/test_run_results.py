"""What a run leaves: weights, files that are whole or not there, the manifest, the report."""

import os
from dataclasses import asdict, replace

import pytest
import torch
from ict_lib.run.manifest import commit, device_name, manifest_of
from ict_lib.run_config import RunConfig
from ict_lib.run_file import Run
from ict_lib.training.memory import peak_memory
from ict_lib.training.weights import load_weights, save_weights

from ict_lib.data import load_dataset
from ict_lib.evaluation.measure import draw, measure, quick
from ict_lib.files import write_atomically
from ict_lib.recipe import CT
from ict_lib.training.loop import build_model

SMALL = RunConfig(network_options={"width": 16, "blocks": 1}, steps=4, batch_size=8)


def model(seed=0, config=SMALL):
    made = build_model(replace(config, seed=seed), (1, 8, 8), 10)
    torch.nn.init.normal_(made.network.last.weight, generator=torch.Generator().manual_seed(seed))
    return made


# --- value ---


def test_weights_come_back_bit_for_bit(tmp_path):
    first, second = model(0), model(1)
    save_weights(tmp_path / "w.safetensors", first)
    load_weights(tmp_path / "w.safetensors", second)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(first.eval()(x, 5.0), second.eval()(x, 5.0))


def test_the_manifest_holds_what_a_repetition_needs():
    run = Run(name="a/b", preset="CT", seeds=[3, 4], config=replace(SMALL, recipe=CT))
    results = [{"seed": s, "seconds": 2.5, "images_seen": 32, "peak_memory_bytes": s} for s in run.seeds]
    data = load_dataset("digits")
    made = manifest_of(run, results, torch.device("cpu"), data)
    assert made["recipe"] == asdict(CT)
    assert made["seeds"] == [3, 4]
    assert made["seconds"] == 5.0
    assert made["images_seen"] == 64
    assert made["training"]["network_options"] == {"width": 16, "blocks": 1}
    assert {"python", "torch"} <= set(made["versions"])
    assert made["peak_memory_bytes"] == 4
    assert made["data_checksum"] == data.checksum()
    assert "folder" not in made["training"]


# --- invariant ---


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, b"before")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_drawn_images_are_clipped_and_repeatable():
    data = load_dataset("digits")
    wild = model()
    with torch.no_grad():
        wild.network.last.weight.mul_(50)
    images = draw(wild, data, 20, (80.0,), seed=1)
    assert images.shape == (20, 1, 8, 8)
    assert images.abs().max() == 1
    assert torch.equal(images, draw(wild, data, 20, (80.0,), seed=1))
    assert not torch.equal(images, draw(wild, data, 20, (80.0,), seed=2))


def test_a_conditional_model_is_asked_for_every_class_in_its_share():
    data = load_dataset("digits")
    asked = []
    watched = model()
    watched.network.register_forward_pre_hook(lambda _, args: asked.append(args[2]))
    draw(watched, data, len(data), (80.0,), seed=0)
    counted = torch.bincount(torch.cat(asked), minlength=10)
    assert torch.equal(counted, torch.bincount(data.labels, minlength=10))


# --- reference: the truth has the best numbers ---


def test_real_digits_beat_noise_in_every_number():
    data = load_dataset("digits")
    real = measure(data.images[::2], data, "x")
    noise = measure(torch.rand(900, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1, data, "x")
    for name in ("frechet_pixels_x", "frechet_features_x", "sliced_wasserstein_x", "fid_x", "kid_x"):
        assert real[name] < 0.2 * noise[name], name
    for name in ("precision_x", "recall_x", "inception_score_x"):
        assert real[name] > 1.5 * noise[name], name


def test_quick_is_the_one_step_distance():
    data = load_dataset("digits")
    from ict_lib.exact.distances import frechet_distance

    expected = frechet_distance(draw(model(), data, len(data), (80.0,), 7), data.images)
    assert quick(model(), data, 80.0, 7) == {"frechet_pixels_1_step": expected}


# --- shapes ---


def test_device_and_memory_have_names_and_units():
    assert device_name(torch.device("cpu")).startswith("CPU, ")
    assert 1e7 < peak_memory() < 1e12


def test_the_commit_is_a_hash_or_said_to_be_unknown(tmp_path, monkeypatch):
    assert commit() == "unknown" or len(commit().removesuffix("+changes")) == 40
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    monkeypatch.chdir(tmp_path)
    assert commit() == "unknown"


# --- errors ---


def test_weights_of_another_network_are_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", model())
    other = build_model(replace(SMALL, network_options={"width": 24, "blocks": 1}), (1, 8, 8), 10)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(tmp_path / "w.safetensors", other)
    with pytest.raises(FileNotFoundError):
        load_weights(tmp_path / "none.safetensors", other)


def test_missing_inception_weights_are_noticed_before_training(monkeypatch):
    from ict_lib.evaluation import measure as report

    asked = []
    monkeypatch.setattr(report, "inception_weights", lambda: asked.append(True))
    digits = load_dataset("digits")
    report.prepare(digits)
    assert asked == []
    report.prepare(replace(digits, name="cifar10"))
    assert asked == [True]
