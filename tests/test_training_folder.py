"""What a training leaves, and who may write it: `ict_lib.training.folder`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ict_lib.config import identity
from ict_lib.training import train
from ict_lib.training.folder import IDENTITY, METRICS, RESULT, WEIGHTS, finished, read_result
from tests.test_training_loop import small

ROOT = Path(__file__).resolve().parents[1]
HOLD = """
from ict_lib.training.folder import TrainingFolder
from tests.test_training_loop import small
folder = TrainingFolder(__import__("pathlib").Path({!r}), small(), 0)
print("held", flush=True)
input()
"""


def test_a_second_writer_is_refused_by_the_number_of_the_first_which_may_be_killed(tmp_path):
    words = [sys.executable, "-c", HOLD.format(str(tmp_path))]
    holder = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    said = rf"process {holder.pid} on .* works in {re.escape(str(tmp_path))} already"
    for resume in (True, False):
        with pytest.raises(RuntimeError, match=said):
            train(small(), folder=tmp_path, resume=resume)
    holder.kill()
    holder.wait()
    assert train(small(), folder=tmp_path).step == 0


def free(folder):
    """Whether another process may write to a folder."""
    words = [sys.executable, "-c", HOLD.format(str(folder))]
    return subprocess.run(words, cwd=ROOT, input="\n", capture_output=True, text=True).returncode == 0


def test_a_folder_is_free_again_when_its_training_is_closed_finished_or_forgotten(tmp_path):
    closed, second = train(small(), folder=tmp_path), train(small(), folder=tmp_path)
    closed.close()
    closed.close()  # a second time is not the other's
    assert not free(tmp_path)
    second.close()
    assert free(tmp_path)


ELSEWHERE = """
import os, signal, sys
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
from pathlib import Path
import ict_lib.training
for place, names in {os: ("fork", "killpg", "getpgid", "sched_getaffinity"), signal: ("SIGKILL", "SIGUSR1")}.items():
    for name in names:
        delattr(place, name)
from tests.test_training_loop import small
import ict_lib.training.program, ict_lib.run.notebook, ict_lib.run.execute
training = ict_lib.training.train(small(), folder=Path(sys.argv[1]))
print(len(list(training)), training.last.peak_memory_bytes)
"""


def test_a_training_needs_nothing_that_other_systems_lack(tmp_path):
    words = [sys.executable, "-c", ELSEWHERE, str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "12 0\n"
    assert read_result(tmp_path)["result"]["images_seen"] == 96


def test_a_training_leaves_these_files(tmp_path):
    training = train(small(checkpoint_every=5), folder=tmp_path)
    records = list(training)
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(("step-", "lock"))}
    assert names == {IDENTITY, METRICS, RESULT, WEIGHTS}
    assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()] == [r.line() for r in records]
    assert json.loads((tmp_path / IDENTITY).read_text()) == json.loads(json.dumps(identity(training.run, 0)))
    assert read_result(tmp_path)["result"] == training.last.result()


def test_who_was_refused_holds_the_folder_no_longer(tmp_path):
    """Though whoever catches the error, as a notebook does, keeps its traceback, and the training in it."""
    train(small(), folder=tmp_path).close()
    with pytest.raises(ValueError, match="made with other settings") as kept:
        train(small(batch_size=4), folder=tmp_path)
    assert free(tmp_path)
    assert kept


def test_pictures_of_another_name_are_none_of_ours(tmp_path):
    begun = train(small(checkpoint_every=1), folder=tmp_path)
    next(begun)
    begun.close()
    (tmp_path / "looks").mkdir()
    for name in ("step-000000100 (copy).png", "step-000000100.png"):
        (tmp_path / "looks" / name).touch()
    train(small(checkpoint_every=1), folder=tmp_path).close()
    assert [path.name for path in (tmp_path / "looks").iterdir()] == ["step-000000100 (copy).png"]


def test_a_finished_training_is_recognised_and_another_is_refused(tmp_path):
    assert finished(tmp_path, identity(small(), 0)) is None
    training = train(small(), folder=tmp_path)
    assert finished(tmp_path, identity(small(), 0)) is None
    list(training)
    assert finished(tmp_path, identity(small(micro_batch=8, name="other"), 0)) == read_result(tmp_path)
    for settings, seed, said in ((small(), 1, "seed: 0 -> 1"), (small(steps=13), 0, "steps: 12 -> 13")):
        with pytest.raises(ValueError, match=rf"made with other settings \({said}\)"):
            finished(tmp_path, identity(settings, seed))


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_without_its_weights_or_a_readable_result_a_training_is_not_finished(tmp_path, damage):
    list(train(small(), folder=tmp_path))
    left = (tmp_path / RESULT).read_text()
    (tmp_path / RESULT).write_text(damage)
    assert read_result(tmp_path) is None
    (tmp_path / RESULT).write_text(left)
    assert read_result(tmp_path) is not None
    (tmp_path / WEIGHTS).unlink()
    assert read_result(tmp_path) is None


def test_a_training_killed_before_its_result_keeps_how_it_was_measured(tmp_path):
    list(train(small(num_samples=100), folder=tmp_path))
    (tmp_path / RESULT).unlink()
    list(train(small(num_samples=50), folder=tmp_path))
    assert read_result(tmp_path)["evaluation"]["num_samples"] == 100
