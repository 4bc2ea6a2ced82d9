"""A run in TensorBoard: `ict_lib.display.tensorboard`, by what TensorBoard itself reads from the event files."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ict_lib.__main__ import main
from ict_lib.config import Run
from ict_lib.display.tensorboard import TensorBoardLog, write_tensorboard
from ict_lib.files import read_lines
from ict_lib.run import record as records
from ict_lib.training import train
from ict_lib.training.measuring import write_picture


def line(step, seed=0, **more):
    return {"seed": seed, "step": step, "num_scales": 11, "loss": 5 / step, "seconds": 0.5 * step} | more


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def scalars(folder):
    """What TensorBoard shows of a training: name -> [(step, value)]."""
    found = read(folder)
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def steps(folder, tag="loss"):
    return [step for step, _ in scalars(folder)[tag]]


# Value: what is read is what was written


def test_every_number_of_a_line_is_a_scalar_at_its_step(tmp_path):
    log = TensorBoardLog(tmp_path / "seed-3", [line(50, seed=3, images_seen=12800)])
    log.add(line(100, seed=3, images_seen=25600, frechet_pixels_1_step=0.4769, note="text", nothing=None))
    assert log.folder == tmp_path / "tensorboard" / "seed-3"
    assert scalars(log.folder) == {
        "num_scales": [(50, 11), (100, 11)],
        "loss": [(50, pytest.approx(0.1)), (100, pytest.approx(0.05))],
        "seconds": [(50, 25), (100, 50)],
        "images_seen": [(50, 12800), (100, 25600)],
        "frechet_pixels_1_step": [(100, pytest.approx(0.4769))],
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_the_samples_of_a_step_come_back_level_for_level(tmp_path, channels):
    gen, path = torch.Generator().manual_seed(0), tmp_path / "seed-0" / "looks" / "step-000000300.png"
    write_picture(path, 2 * torch.rand(7, channels, 8, 8, generator=gen) - 1, columns=4)
    log = TensorBoardLog(tmp_path / "seed-0")
    log.add(line(200)), log.add(line(300))
    (event,) = read(log.folder).Images("samples")
    assert event.step == 300
    assert np.array_equal(Image.open(io.BytesIO(event.encoded_image_string)), Image.open(path))


# Invariant: an interruption shows nowhere


def test_going_on_writes_no_step_twice_and_leaves_nothing_of_what_was_given_up(tmp_path):
    before = TensorBoardLog(tmp_path / "seed-0")
    for step in range(1, 6):
        before.add(line(step, given_up=1))
    again = TensorBoardLog(tmp_path / "seed-0", [line(step) for step in (1, 2, 3)])
    again.add(line(4, loss=0.25))
    assert scalars(again.folder)["loss"] == [(1, 5), (2, 2.5), (3, pytest.approx(5 / 3)), (4, 0.25)]
    assert "given_up" not in scalars(again.folder)


def test_starting_anew_leaves_other_seeds_alone(tmp_path):
    for seed in (0, 1):
        TensorBoardLog(tmp_path / f"seed-{seed}", [line(step, seed) for step in range(1, 6)])
    again = TensorBoardLog(tmp_path / "seed-0")
    again.add(line(1))
    assert steps(again.folder) == [1]
    assert len(list(again.folder.iterdir())) == 1
    assert steps(tmp_path / "tensorboard" / "seed-1") == [1, 2, 3, 4, 5]


def test_what_was_added_survives_a_kill(tmp_path):
    code = f"""
import os, pathlib, signal
from ict_lib.display.tensorboard import TensorBoardLog
log = TensorBoardLog(pathlib.Path({str(tmp_path / "seed-0")!r}))
log.add({line(1)})
log.add({line(2)})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert steps(tmp_path / "tensorboard" / "seed-0") == [1, 2]


# Reference: the lines that the record is made of


def test_the_log_of_a_training_that_was_interrupted_holds_its_lines(tmp_path):
    small = {"network_options": {"width": 8, "blocks": 1}, "steps": 6, "batch_size": 4, "device": "cpu"}
    run, place = Run(**small, log_every=1, checkpoint_every=2), tmp_path / "seed-0"
    for stop in (5, 6):
        training = train(run, folder=place)
        log = TensorBoardLog(place, read_lines(place / "metrics.jsonl"))
        for metrics in training:
            log.add(metrics.line())
            if metrics.step == stop:
                break
        training.close()
    shown, kept = scalars(log.folder), read_lines(place / "metrics.jsonl")
    for name in ("loss", "num_scales", "images_seen", "seconds"):
        assert shown[name] == [(line["step"], pytest.approx(line[name], rel=1e-6)) for line in kept]
    assert steps(log.folder) == [1, 2, 3, 4, 5, 6]


# Shapes: a record of several seeds


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own with one record."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    monkeypatch.chdir(tmp_path)
    lines = [line(step, seed) for seed in (0, 4) for step in (1, 2, 3)]
    (tmp_path / "runs" / "a" / "b").mkdir(parents=True)
    records.write(tmp_path / "runs" / "a" / "b", {"run": {"name": "a/b", "seeds": [0, 4]}}, lines, "")
    return tmp_path


def command(*words):
    return main(["tensorboard", *words])


def test_a_record_becomes_event_files_a_seed(project, capsys):
    for _ in range(2):  # a second time there is not more
        assert command("a/b") == 0
    folder = project / "runs" / "a" / "b" / "tensorboard"
    assert capsys.readouterr().out.splitlines()[-1] == f"to see it: tensorboard --logdir {folder}"
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0", "seed-4"]
    for seed in (0, 4):
        assert scalars(folder / f"seed-{seed}")["loss"] == [(s, pytest.approx(5 / s)) for s in (1, 2, 3)]
        assert len(list((folder / f"seed-{seed}").iterdir())) == 1


def test_the_clock_is_the_trainings(project):
    events = read(write_tensorboard("a/b") / "seed-4").Scalars("loss")
    assert [b.wall_time - a.wall_time for a, b in pairwise(events)] == pytest.approx([0.5, 0.5])


# Errors


def test_a_run_without_a_record_is_refused_with_the_command_that_makes_it(project):
    with pytest.raises(FileNotFoundError, match="run 'a/c' has no record yet"):
        write_tensorboard("a/c")


def test_a_line_needs_its_step(tmp_path):
    with pytest.raises(KeyError, match="step"):
        TensorBoardLog(tmp_path / "seed-0").add({"loss": 1.0, "seconds": 1.0})
