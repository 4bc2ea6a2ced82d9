"""Checkpoints, whole or not there: `ict_lib.training.checkpoint`."""

import errno
import hashlib
import io
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from ict_lib.training import checkpoint
from ict_lib.training.checkpoint import Writer, clear, load_latest, newest, save, step_of


def state(step):
    gen = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "weights": {"a": torch.randn(3, 4, generator=gen), "b": torch.randn(2, dtype=torch.float64, generator=gen)},
        "generator": gen.get_state(),
        "run": {"folder": None, "names": ["x", "y"], "rate": 1e-4, "flag": True},
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return a == b


def steps(folder):
    return [int(path.stem.removeprefix("step-")) for path in sorted(folder.iterdir())]


# Value: what is read is what was written


def test_round_trip(tmp_path):
    path = save(tmp_path, 7, state(7))
    assert (path.parent, step_of(path), newest(tmp_path)) == (tmp_path, 7, path)
    assert same(load_latest(tmp_path), state(7))


@pytest.mark.parametrize("exists", [False, True])
def test_where_nothing_was_saved_there_is_none(tmp_path, exists):
    folder = tmp_path / "folder"
    if exists:
        folder.mkdir()
    assert load_latest(folder) is None
    assert newest(folder) is None


# Invariant


def test_the_last_three_are_kept_and_the_newest_is_read(tmp_path):
    for step in (5, 50, 500, 5000, 50_000):
        save(tmp_path, step, state(step))
        assert load_latest(tmp_path)["step"] == step
    assert steps(tmp_path) == [500, 5000, 50_000]


def test_a_training_begun_anew_takes_the_place_of_the_old_one(tmp_path):
    for step in (1000, 2000, 3000):
        save(tmp_path, step, state(step))
    save(tmp_path, 500, state(500))
    assert load_latest(tmp_path)["step"] == 500


def test_a_file_of_another_name_is_none_of_ours(tmp_path):
    path = save(tmp_path, 3, {"a": 1})
    shutil.copy(path, tmp_path / "step-000000009 (copy).ckpt")
    assert (newest(tmp_path), load_latest(tmp_path)) == (path, {"a": 1})


def test_saving_a_step_twice_keeps_the_second(tmp_path):
    save(tmp_path, 5, state(5))
    save(tmp_path, 5, {**state(5), "run": "second"})
    assert steps(tmp_path) == [5]
    assert load_latest(tmp_path)["run"] == "second"


# Independent slow reference: the format, written and read by hand


def test_the_file_is_a_digest_and_then_what_torch_saves(tmp_path):
    content = save(tmp_path, 3, state(3)).read_bytes()
    assert hashlib.sha256(content[32:]).hexdigest() == content[:32].hex()
    assert same(torch.load(io.BytesIO(content[32:]), weights_only=True), state(3))


# Damage


def damage_by_flipping(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {
    "a bit in the digest": lambda c: damage_by_flipping(c, 5),
    "a bit in the middle": lambda c: damage_by_flipping(c, len(c) // 2),
    "a bit at the end": lambda c: damage_by_flipping(c, len(c) - 1),
    "the last byte missing": lambda c: c[:-1],
    "half missing": lambda c: c[: len(c) // 2],
    "all but the digest missing": lambda c: c[:32],
    "a stump": lambda c: c[:10],
    "empty": lambda c: b"",
    "longer": lambda c: c + b"\0",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_named_and_the_one_before_is_used(tmp_path, kind):
    save(tmp_path, 1, state(1))
    last = save(tmp_path, 2, state(2))
    last.write_bytes(DAMAGE[kind](last.read_bytes()))
    with pytest.warns(UserWarning, match=f"{last.name} is damaged"):
        assert same(load_latest(tmp_path), state(1))


def test_if_all_are_damaged_there_is_none(tmp_path):
    for step in (1, 2):
        save(tmp_path, step, state(step)).write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="is damaged") as warned:
        assert load_latest(tmp_path) is None
    assert len(warned) == 2


# Errors


class HalfWritten:
    """A file that takes half of what it is given and then reports a full disk."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full_disk(monkeypatch):
    real = Path.open

    def half(self, mode="r", *args, **kwargs):
        file = real(self, mode, *args, **kwargs)
        return HalfWritten(file) if "w" in mode else file

    return lambda: monkeypatch.setattr(Path, "open", half)


@pytest.mark.parametrize("step", [3, 2])
def test_a_full_disk_leaves_the_earlier_checkpoints_and_no_debris(tmp_path, full_disk, step):
    for earlier in (1, 2):
        save(tmp_path, earlier, state(earlier))
    full_disk()
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, step, {"new": True})
    assert steps(tmp_path) == [1, 2]
    assert same(load_latest(tmp_path), state(2))


def test_what_a_killed_process_left_is_no_checkpoint(tmp_path):
    save(tmp_path, 1, state(1))
    (tmp_path / ".step-000000002.ckpt.4711").write_bytes(b"half")
    assert same(load_latest(tmp_path), state(1))
    save(tmp_path, 3, state(3))
    assert load_latest(tmp_path)["step"] == 3
    assert steps(tmp_path) == [1, 3]


class Evil:
    """What unpickling would execute."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    canary, folder = tmp_path / "executed", tmp_path / "folder"
    folder.mkdir()
    save(folder, 1, {"step": Evil(canary)})
    with pytest.raises(pickle.UnpicklingError):
        load_latest(folder)
    assert not canary.exists()
    content = (folder / "step-000000001.ckpt").read_bytes()[32:]
    torch.load(io.BytesIO(content), weights_only=False)  # the trap does work
    assert canary.exists()


# Beside the training


def test_what_is_written_is_what_was_when_it_began(tmp_path, monkeypatch):
    """As on a CUDA device, which trains meanwhile."""
    going_on, write = threading.Event(), checkpoint.save
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(checkpoint, "save", lambda *what: going_on.wait(60) and write(*what))
    writer, changing = Writer(), state(1)
    writer.save(tmp_path, 1, changing)
    changing["weights"]["a"].zero_()
    changing["run"]["names"].append("z")
    assert newest(tmp_path) is None
    going_on.set()
    writer.wait()
    assert same(load_latest(tmp_path), state(1))


def test_a_disk_that_is_full_is_said_by_the_next_who_waits(tmp_path, full_disk, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    full_disk()
    writer = Writer()
    writer.save(tmp_path, 1, state(1))
    with pytest.raises(OSError, match="No space left"):
        writer.save(tmp_path, 2, state(2))
    writer.wait()  # once


def test_on_a_cpu_it_is_there_at_once(tmp_path):
    Writer().save(tmp_path, 1, state(1))
    assert same(load_latest(tmp_path), state(1))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_goes_on_while_its_weights_are_written(tmp_path):
    weights = torch.arange(10**7, device="cuda", dtype=torch.float32)
    writer = Writer()
    writer.save(tmp_path, 1, {"weights": weights})
    weights.zero_()
    writer.wait()
    assert torch.equal(load_latest(tmp_path)["weights"], torch.arange(10**7, dtype=torch.float32))


PEAK = """
import resource, sys, torch
from pathlib import Path
from ict_lib.training.checkpoint import load_latest
def held():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
torch.save({"a": torch.ones(3)}, Path(sys.argv[1]) / "small")
torch.load(Path(sys.argv[1]) / "small")
before = held()
state = load_latest(Path(sys.argv[1]))
print((held() - before) / state["weights"].nbytes)
"""


def test_reading_takes_no_more_memory_than_what_is_read(tmp_path):
    save(tmp_path, 1, {"weights": torch.zeros(5 * 10**7)})
    done = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.5


# Milestones, and what a finished training leaves


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_milestones_stay_beside_the_last_three(tmp_path):
    for step in range(1, 9):
        save(tmp_path, step, state(step), milestone=step % 3 == 0)
    kept = {f"step-00000000{step}-kept.ckpt" for step in (3, 6)}
    assert names(tmp_path) == kept | {f"step-00000000{step}.ckpt" for step in (5, 7, 8)}
    assert load_latest(tmp_path)["step"] == 8
    assert newest(tmp_path).name == "step-000000008.ckpt"
    assert [step_of(path) for path in sorted(tmp_path.iterdir())] == [3, 5, 6, 7, 8]


def test_a_training_begun_anew_drops_the_milestones_of_later_steps(tmp_path):
    for step in (2, 4, 6):
        save(tmp_path, step, state(step), milestone=True)
    save(tmp_path, 3, state(3))
    assert names(tmp_path) == {"step-000000002-kept.ckpt", "step-000000003.ckpt"}


@pytest.mark.parametrize("milestones", [True, False])
def test_clearing_leaves_all_else_and_the_milestones_unless_told_otherwise(tmp_path, milestones):
    for step in (1, 2, 3):
        save(tmp_path, step, state(step), milestone=step == 2)
    for name in ("best.safetensors", "metrics.jsonl", ".step-000000004.ckpt.4711"):
        (tmp_path / name).touch()
    clear(tmp_path, milestones)
    kept = set() if milestones else {"step-000000002-kept.ckpt"}
    assert names(tmp_path) == kept | {"best.safetensors", "metrics.jsonl"}
