"""A run in TensorBoard: `ict_lib.display.tensorboard`, by what TensorBoard itself reads from the event files."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from ict_lib.run_config import RunConfig
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from ict_lib.display.plots import grid
from ict_lib.display.tensorboard import TensorBoardLog, convert, main
from ict_lib.run import record as records
from ict_lib.training import train


@pytest.fixture(autouse=True)
def names_in_order(monkeypatch):
    """Files are read in the order of their names: by the second, then by a counter without leading zeros.

    A training that was interrupted goes on seconds later; a test does not.
    """
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))


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
    log = TensorBoardLog(tmp_path, seed=3)
    log.append(line(50, seed=3, images_seen=12800))
    log.append(line(100, seed=3, images_seen=25600, frechet_pixels_1_step=0.4769, note="text", nothing=None))
    assert log.folder == tmp_path / "tensorboard" / "seed-3"
    assert scalars(log.folder) == {
        "num_scales": [(50, 11), (100, 11)],
        "loss": [(50, pytest.approx(0.1)), (100, pytest.approx(0.05))],
        "seconds": [(50, 25), (100, 50)],
        "images_seen": [(50, 12800), (100, 25600)],
        "frechet_pixels_1_step": [(100, pytest.approx(0.4769))],
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_comes_back_level_for_level(tmp_path, channels):
    gen = torch.Generator().manual_seed(0)
    sheet = grid(2 * torch.rand(7, channels, 8, 8, generator=gen) - 1, columns=4)
    log = TensorBoardLog(tmp_path, 0)
    log.picture("samples", sheet, 300)
    (event,) = read(log.folder).Images("samples")
    assert event.step == 300
    shown = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))  # always in colour
    assert np.array_equal(shown, sheet if channels == 3 else np.stack([sheet] * 3, axis=2))


# Invariant: an interruption shows nowhere


def interrupted(folder, seed=0):
    """A training that wrote up to step 5 and whose newest checkpoint is of step 3; nothing was closed."""
    log = TensorBoardLog(folder, seed)
    for step in range(1, 6):
        log.append(line(step, seed, old=1))
        log.picture("samples", np.full((2, 2), step, np.uint8), step)
    return log


def test_going_on_writes_no_step_twice(tmp_path):
    interrupted(tmp_path)
    again = TensorBoardLog(tmp_path, 0, step=3)
    assert steps(again.folder) == [1, 2, 3]
    for step in range(4, 8):
        again.append(line(step))
        again.picture("samples", np.full((2, 2), 10 * step, np.uint8), step)
    assert steps(again.folder) == [1, 2, 3, 4, 5, 6, 7]
    assert steps(again.folder, "old") == [1, 2, 3]
    assert [event.step for event in read(again.folder).Images("samples")] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(("step", "values"), [(3, [5 / 3]), (6, [0.25])])
def test_the_line_of_the_checkpoint_is_there_once(tmp_path, step, values):
    """Step 3 was written, step 6 was not: the interruption came between its checkpoint and its line."""
    interrupted(tmp_path)
    again = TensorBoardLog(tmp_path, 0, step, line(step, loss=0.25))
    assert [value for at, value in scalars(again.folder)["loss"] if at == step] == [pytest.approx(v) for v in values]


def test_a_line_that_was_cut_off_does_no_harm(tmp_path):
    (path,) = interrupted(tmp_path).folder.iterdir()
    path.write_bytes(path.read_bytes()[:-10])
    again = TensorBoardLog(tmp_path, 0, step=3)
    again.append(line(4))
    assert steps(again.folder) == [1, 2, 3, 4]


def test_starting_anew_leaves_nothing_of_before_and_other_seeds_alone(tmp_path):
    interrupted(tmp_path), interrupted(tmp_path, seed=1)
    again = TensorBoardLog(tmp_path, 0)
    again.append(line(1))
    assert set(scalars(again.folder)) == {"num_scales", "loss", "seconds"}
    assert steps(again.folder) == [1]
    assert len(list(again.folder.iterdir())) == 1
    assert steps(tmp_path / "tensorboard" / "seed-1") == [1, 2, 3, 4, 5]


def test_what_was_added_survives_a_kill(tmp_path):
    code = f"""
import os, signal
from ict_lib.display.tensorboard import TensorBoardLog
log = TensorBoardLog({str(tmp_path)!r}, 0)
log.append({line(1)})
log.append({line(2)})
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert steps(tmp_path / "tensorboard" / "seed-0") == [1, 2]


# Reference: the log that the record is made of


def test_both_logs_of_a_training_that_was_interrupted_hold_the_same(tmp_path):
    small = {"network_options": {"width": 8, "blocks": 1}, "steps": 6, "batch_size": 4, "device": "cpu"}
    config = RunConfig(**small, log_every=1, checkpoint_every=2, folder=str(tmp_path / "checkpoints"))
    for stop in (5, 6):
        training = train(config)
        last = training.last and training.last.line()
        logs = (
            records.MetricsLog(config.folder, training.step, last),
            TensorBoardLog(tmp_path, 0, training.step, last),
        )
        for metrics in training:
            for log in logs:
                log.append(metrics.line())
            if metrics.step == stop:
                break
    shown = scalars(logs[1].folder)
    for name in ("loss", "num_scales", "images_seen", "seconds"):
        expected = [(kept["step"], pytest.approx(kept[name], rel=1e-6)) for kept in logs[0].lines()]
        assert [step for step, _ in expected] == [1, 2, 3, 4, 5, 6]
        assert shown[name] == expected


# Shapes: a record of several seeds


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own with one record."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    monkeypatch.chdir(tmp_path)
    lines = [line(step, seed) for seed in (0, 4) for step in (1, 2, 3)]
    records.write(tmp_path / "runs" / "a" / "b", {"seeds": [0, 4]}, lines)
    return tmp_path


def test_a_record_becomes_event_files_a_seed(project, capsys):
    for _ in range(2):  # a second time there is not more
        assert main(["a/b"]) == 0
    folder = project / "runs" / "a" / "b" / "tensorboard"
    assert capsys.readouterr().out.splitlines()[-1] == f"to see it: tensorboard --logdir {folder}"
    assert sorted(path.name for path in folder.iterdir()) == ["seed-0", "seed-4"]
    for seed in (0, 4):
        assert scalars(folder / f"seed-{seed}")["loss"] == [(s, pytest.approx(5 / s)) for s in (1, 2, 3)]
        assert len(list((folder / f"seed-{seed}").iterdir())) == 1


def test_the_clock_of_a_converted_record_is_the_trainings(project):
    events = read(convert(records.read("a/b")) / "seed-4").Scalars("loss")
    assert [b.wall_time - a.wall_time for a, b in pairwise(events)] == pytest.approx([0.5, 0.5])


# Errors


@pytest.mark.parametrize(("words", "said"), [([], "for example digits/ict"), (["a/b", "a/c"], "make run RUN=a/c")])
def test_a_run_without_a_record_is_refused_with_the_command_that_makes_it(project, capsys, words, said):
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert not (project / "runs" / "a" / "b" / "tensorboard").exists()


@pytest.mark.parametrize("sheet", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_picture_is_refused(tmp_path, sheet):
    with pytest.raises(ValueError, match=r"uint8 \[rows, columns\]"):
        TensorBoardLog(tmp_path, 0).picture("samples", sheet, 1)


def test_a_line_needs_its_step(tmp_path):
    with pytest.raises(KeyError, match="step"):
        TensorBoardLog(tmp_path, 0).append({"loss": 1.0})
