"""Many processes: `ict_lib.training.launch` and what is under it: shards, group, worker, agent, lock."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ict_lib.run_config import RunConfig
from ict_lib.run_file import Run
from ict_lib.training.follower import Follower
from ict_lib.training.launched import WorkerError
from ict_lib.training.shards import draw_shards

from ict_lib.group import Alone
from ict_lib.objective import LossOutput
from ict_lib.run.record import MetricsLog
from ict_lib.training import Training, launch, launched, lock, train
from tests.launch_workers import CASES, all_cases, outcome, weights

ROOT = Path(__file__).resolve().parents[1]


def config(**changes):
    small = {"network_options": {"width": 16, "blocks": 2}, "steps": 12, "batch_size": 8, "micro_batch": 4}
    return RunConfig(**{**small, "device": "cpu", "log_every": 1, **changes})


def long_config(folder):
    return config(steps=CASES["long"][1]["steps"], folder=str(folder), checkpoint_every=20)


def descendants(pid):
    """Processes below one, by scanning /proc."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # gone already
    found, grown = {pid}, 0
    while len(found) > grown:
        grown = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def workers():
    return [pid for pid in sorted(descendants(os.getpid())) if "spawn_main" in command(pid)]


def wait_until_gone(pids, seconds=15):
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if command(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left == []


@pytest.fixture(scope="module")
def by_two_and_error(tmp_path_factory):
    """What each of two processes got in each of the cases, and the error with which that ended."""
    folder = tmp_path_factory.mktemp("by_two")
    training = launch(config(folder=str(folder)), work=all_cases)
    with pytest.raises(WorkerError) as caught:
        list(training)
    assert list(training) == []
    assert not workers()
    return [torch.load(folder / f"rank-{rank}.pt") for rank in (0, 1)], caught.value


@pytest.fixture
def by_two(by_two_and_error):
    return by_two_and_error[0]


# Invariant: how many processes there are changes nothing


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ICT", "CT", "four shards", "fp16"])
def test_two_processes_end_as_one_with_dropout_too(by_two, case):
    alone = outcome(train(config(**CASES[case][1])))
    assert torch.equal(by_two[0][case]["weights"], by_two[1][case]["weights"])
    torch.testing.assert_close(by_two[0][case]["weights"], alone["weights"], rtol=1e-4, atol=1e-6)
    assert by_two[0][case]["loss"] == by_two[1][case]["loss"] == pytest.approx(alone["loss"], rel=1e-4)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(by_two):
    alone = outcome(train(config(**CASES["measured"][1])))
    assert by_two[1]["measured"]["measured"] == [{}] * 12
    mine, ours = alone["measured"][-1], by_two[0]["measured"]["measured"][-1]
    assert mine.keys() == ours.keys() >= {"fid_1_step", "recall_2_steps"}
    for name in ("fid_1_step", "fid_2_steps", "frechet_pixels_1_step"):
        assert ours[name] == pytest.approx(mine[name], rel=1e-3)


def check_processes_agree_on_the_number_of_levels(outcomes):
    expected = [11, 21, 41, 81, 161, 321, 641, 1281, 1281, 1281, 1281, 1281]
    for got in outcomes:
        assert got["num_scales"] == expected


@pytest.mark.slow
def test_trap_11_all_processes_agree_on_the_number_of_levels(by_two):
    check_processes_agree_on_the_number_of_levels([got["ICT"] for got in by_two])
    with pytest.raises(AssertionError):
        check_processes_agree_on_the_number_of_levels([got["trap 11"] for got in by_two])


@pytest.mark.slow
def test_a_nan_of_one_process_stops_all_with_the_same_error(by_two):
    errors = {got["nan"]["error"] for got in by_two}
    assert len(errors) == 1
    assert errors.pop().startswith("the loss is nan at step 7, sigma from")


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
def test_accumulating_shards_is_the_whole_batch(monkeypatch, micro_batch):
    """With a loss that draws nothing; what is drawn belongs to the shard."""

    def loss(student, teacher, x, recipe, step, *_):
        sigma = torch.linspace(1, 9, 10)[(x.flatten(1).sum(1) * 7).long() % 10]
        each = (student.eval()(x, sigma) - x.flip(-1)).square().flatten(1).sum(1)
        return LossOutput(each.mean(), each.detach(), sigma, sigma, step)

    monkeypatch.setattr("ict_lib.training.loop.consistency_training_loss", loss)
    whole, parts = (outcome(train(config(micro_batch=size, learning_rate=0.01))) for size in (None, micro_batch))
    torch.testing.assert_close(parts["weights"], whole["weights"], rtol=1e-4, atol=1e-6)
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)


def test_a_shard_depends_on_seed_step_and_number_alone():
    def draw(settings):
        generator = torch.Generator().manual_seed(3)
        return [draw_shards(100, settings, generator) for _ in range(3)]

    parts, whole = draw(config(micro_batch=2)), draw(config(micro_batch=None))
    for a, b in zip(parts, whole, strict=True):
        assert torch.equal(torch.cat([shard.chosen for shard in a]), b[0].chosen)
    seeds = [shard.generator.initial_seed() for step in parts for shard in step]
    assert len(set(seeds)) == 12
    assert seeds == [shard.generator.initial_seed() for step in draw(config(micro_batch=2)) for shard in step]


def test_ranks_share_the_shards_out(monkeypatch):
    """Two pretended ranks work on what one does, without a process of their own."""
    seen = {}

    class Pretended(Alone):
        def __init__(self, rank, processes):
            self.rank, self.processes = rank, processes

    def spy(self, shard, num_shards):
        seen.setdefault(self.group.rank, []).append(shard.chosen.tolist())
        return backward(self, shard, num_shards)

    backward = Training._backward
    monkeypatch.setattr(Training, "_backward", spy)
    for rank in (0, 1):
        next(Training(config(micro_batch=2), group=Pretended(rank, 2)))
    shards = [s.chosen.tolist() for s in draw_shards(1797, config(micro_batch=2), torch.Generator().manual_seed(0))]
    assert seen == {0: shards[0::2], 1: shards[1::2]}


# Interruptions


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_the_end_is_bit_for_bit_the_same(tmp_path, by_two):
    training, steps, killed = launch(long_config(tmp_path), max_restarts=1), [], []
    for metrics in training:
        steps.append(metrics.step)
        if metrics.step > 20 and not killed:
            killed = workers()[-1:]
            os.kill(killed[0], signal.SIGKILL)
    assert killed
    assert "SIGKILL" in (tmp_path / "node-0.log").read_text()  # it was at work, and was started once more
    assert steps == list(range(1, 401))
    lines = MetricsLog(tmp_path, 400, name="workers.jsonl").lines()
    assert [line["loss"] for line in lines] == by_two[0]["long"]["loss"]
    expected = by_two[0]["long"]["weights"].chunk(3)
    for model, end in ((training.student, expected[0]), (training.average, expected[2])):
        assert torch.equal(torch.cat([p.flatten() for p in model.parameters()]), end)
    assert not workers()


@pytest.mark.slow
def test_an_interruption_leaves_no_process_and_the_same_command_goes_on(tmp_path, by_two):
    settings = long_config(tmp_path)
    forgotten, before = launch(settings), descendants(os.getpid())
    for metrics in forgotten:  # as in a notebook, where the body of the loop was interrupted
        if metrics.step > 20:
            break
    time.sleep(0.2)  # the processes run ahead
    first = descendants(os.getpid()) - before
    assert len(first) >= 3
    again = launch(settings)
    assert again.step == 20  # no record is lost to having been ahead, nor the one that the loop was busy with
    assert next(again).step == 21
    assert wait_until_gone(first)
    forgotten.close()

    while again.step < 250:
        next(again)
    second = descendants(os.getpid()) - before
    again.close()
    assert wait_until_gone(second)
    assert next(again, None) is None
    alone = train(settings)  # another number of processes goes on, and ends alike
    assert alone.step >= 240
    list(alone)
    torch.testing.assert_close(weights(alone), by_two[0]["long"]["weights"], rtol=1e-3, atol=1e-5)


def test_an_interruption_while_waiting_for_a_record_leaves_no_process(tmp_path, monkeypatch):
    """Control-C in the very moment in which the caller sleeps because the processes have not written yet."""
    before = descendants(os.getpid())
    seen = set()

    def interrupt(_):
        seen.update(descendants(os.getpid()) - before)
        raise KeyboardInterrupt  # what Python makes of the signal, unless whoever started it has it ignored

    monkeypatch.setattr(launched, "time", SimpleNamespace(sleep=interrupt))
    training = launch(long_config(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        next(training)
    assert seen
    assert wait_until_gone(seen)
    assert next(training, None) is None


@pytest.mark.slow
def test_killing_the_caller_leaves_no_process(tmp_path):
    """The caller is a script without ``if __name__ == "__main__"``."""
    script = f"""
from tests.test_training_launch import long_config, launch
for metrics in launch(long_config({str(tmp_path)!r})):
    print(metrics.step, flush=True)
"""
    caller = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert caller.stdout.readline() == "1\n"
    below = descendants(caller.pid)
    assert len(below) >= 3
    caller.kill()
    caller.wait()
    assert wait_until_gone(below)


# Errors


@pytest.mark.slow
def test_an_error_arrives_with_rank_and_traceback(by_two_and_error):
    error = by_two_and_error[1]
    assert str(error).startswith("rank 1 failed: KeyError('a mistake of rank one')\nTraceback")
    assert error.rank == 1
    assert "launch_workers.py" in error.traceback
    assert "in all_cases" in error.traceback


@pytest.mark.slow
def test_more_kills_than_restarts_are_an_error_that_names_the_signal(tmp_path):
    training = launch(long_config(tmp_path), max_restarts=0)
    next(training)
    os.kill(workers()[-1], signal.SIGKILL)
    with pytest.raises(WorkerError, match=r"rank \d failed: exit code -9\n.*SIGKILL"):
        list(training)
    assert not workers()


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"micro_batch": None}, {}, r"1 shards cannot be shared by 2 processes: micro_batch=4 would fit"),
        ({"batch_size": 12, "micro_batch": 4}, {}, r"3 shards .* by 2 processes: micro_batch=3 would fit"),
        ({"batch_size": 12, "micro_batch": 4}, {"processes": 5}, r"batch_size must be a multiple of 5"),
        ({}, {"processes": 0}, r"processes is 0"),
        ({"folder": None}, {}, r"folder is None"),
        ({"device": "cuda:0"}, {}, r"device is 'cuda:0'"),
        ({"device": "mps"}, {}, r"device is 'mps'"),
        ({"micro_batch": 1}, {"nodes": 2}, r"rendezvous is '127.0.0.1:0': 2 nodes need"),
        ({}, {"node_rank": 1}, r"node_rank is 1"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path, changes, options, said):
    with pytest.raises(ValueError, match=said):
        launch(config(**{"folder": str(tmp_path), **changes}), **options)


def test_another_trainings_checkpoint_is_refused_by_the_caller(tmp_path):
    settings = config(folder=str(tmp_path))
    list(train(settings))
    done = launch(settings)
    assert (done.step, len(done), list(done)) == (12, 0, [])
    assert weights(train(settings)).numel() == 3 * sum(p.numel() for p in done.average.parameters())
    with pytest.raises(ValueError, match="micro_batch: 4 -> 2"):
        launch(replace(settings, micro_batch=2))


def test_a_folder_of_somebody_elses_training_is_refused(tmp_path):
    with lock.hold(tmp_path, caller=1), pytest.raises(RuntimeError, match=r"trains in .* already"):
        next(launch(config(folder=str(tmp_path))))
    lock.make_free(tmp_path)


@pytest.mark.parametrize("value", [0, -4, 3])
def test_a_micro_batch_must_divide_the_batch(value):
    with pytest.raises(ValueError, match=r"micro_batch.*a positive divisor of batch_size = 8"):
        config(micro_batch=value)


def test_a_run_shares_its_batch_out():
    run = Run(processes=4, config=RunConfig(batch_size=256, checkpoint_every=900), evaluate_every=300)
    (made,) = run.configs()
    assert (made.micro_batch, made.checkpoint_every) == (64, 300)
    (alone,) = replace(run, processes=1).configs()
    assert (alone.micro_batch, alone.checkpoint_every) == (None, 900)
    with pytest.raises(ValueError, match="processes"):
        Run(processes=3, config=RunConfig(batch_size=256))


def test_one_process_needs_nothing_of_many():
    script = """
import sys
from ict_lib.run_config import RunConfig
from ict_lib.training import train
next(train(RunConfig(network_options={"width": 16}, batch_size=8, device="cpu", log_every=1)))
print([name for name in sys.modules if name.startswith(("torch.distributed.elastic", "ict_lib.training."))])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ict_lib.training.loop" in done.stdout
    for many in ("torch.distributed.elastic", "training.group", "training.worker", "training.launched"):
        assert many not in done.stdout


# Following a file


def test_lines_arrive_whole_and_a_replaced_file_is_read_from_its_start(tmp_path):
    log = MetricsLog(tmp_path)
    follower = Follower(log.path)
    assert follower.new() == []
    log.append({"step": 1})
    with log.path.open("ab") as file:
        file.write(b'{"st')
    assert follower.new() == [{"step": 1}]
    with log.path.open("ab") as file:
        file.write(b'ep": 2}\n')
    assert follower.new() == [{"step": 2}]
    MetricsLog(tmp_path, 1).append({"step": 2, "again": True})
    assert follower.new() == [{"step": 1}, {"step": 2, "again": True}]
