"""Many processes: `ict_lib.training.launch`, and `ict_lib.training.program`, which each of them executes."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from ict_lib.files import read_lines
from ict_lib.training import Metrics, launch, train
from ict_lib.training.folder import METRICS
from ict_lib.training.launch import LOG
from ict_lib.training.program import _asked
from tests.launch_workers import CASES, LONG, outcome, weights
from tests.test_training_loop import small

pytestmark = pytest.mark.slow  # three processes load torch for each training
STEPS = list(range(2, 401, 2))  # of the records of a long run
ROOT = Path(__file__).resolve().parents[1]


def pair(**changes):
    return small(**{"micro_batch": 4, **changes})


def long_run():
    return pair(**LONG)


def runs(process):
    """Whether a process has not ended; one that has, and that nobody has fetched yet, has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


EARLIER = set()  # what other test files have left running below this process, such as their fork server


@pytest.fixture(scope="module", autouse=True)
def _earlier():
    EARLIER.update(below())


def below(process=None):
    """The processes below this one or another, but for those of before these tests, and what they (a browser) start."""
    found = [one for one in (process or psutil.Process()).children(recursive=True) if runs(one)]
    return [one for one in found if not EARLIER & {one, *told(one, "parents")}]


def told(process, what):
    """The ``parents`` of a process, or the words of its ``cmdline``; none if it has just ended."""
    try:
        return getattr(process, what)()
    except psutil.NoSuchProcess:
        return []


def workers(process=None):
    """The processes that train, below this one or another."""
    return [one for one in below(process) if "ict_lib.training.program" in told(one, "cmdline")[:4]]


def wait_until_gone(processes, seconds=20):
    deadline = time.monotonic() + seconds
    while (left := [one for one in processes if runs(one)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left


@pytest.fixture(scope="module")
def by_two_and_error(tmp_path_factory):
    """What each of two processes got in each of the cases, and the error with which that ended."""
    folder = tmp_path_factory.mktemp("by_two")
    training = launch(pair(), folder=folder, processes=2, program="tests.launch_workers")
    with pytest.raises(RuntimeError) as caught:
        list(training)
    assert list(training) == []
    assert not below()
    starts = [(folder / f"starts-{rank}").read_text() for rank in (0, 1)]
    return [torch.load(folder / f"rank-{rank}.pt") for rank in (0, 1)], caught.value, starts


@pytest.fixture(scope="module")
def by_two(by_two_and_error):
    return by_two_and_error[0]


# Invariant: how many processes there are changes nothing


@pytest.mark.parametrize("case", ["ICT", "CT", "CT with dropout", "four shards", "fp16"])
def test_two_processes_end_as_one_with_dropout_too(by_two, case):
    alone = outcome(train(pair(**CASES[case][1])))
    assert torch.equal(by_two[0][case]["weights"], by_two[1][case]["weights"])
    gap = (by_two[0][case]["weights"] - alone["weights"]).abs().max()
    assert gap < (1e-4 if case == "fp16" else 1e-6)
    assert by_two[0][case]["loss"] == by_two[1][case]["loss"] == pytest.approx(alone["loss"], rel=1e-4)


def test_two_processes_measure_what_one_does(by_two):
    cls, changes = CASES["measured"]
    alone = outcome(cls(pair(**changes)))
    assert by_two[1]["measured"]["measured"] == [{}] * 12
    mine, ours = alone["measured"][-1], by_two[0]["measured"]["measured"][-1]
    assert mine.keys() == ours.keys() >= {"fid_1_step", "recall_2_steps"}
    for name in ("fid_1_step", "fid_2_steps", "frechet_pixels_1_step"):
        assert ours[name] == pytest.approx(mine[name], rel=1e-3)


def check_processes_agree_on_the_number_of_levels(outcomes):
    expected = [11, 21, 41, 81, 161, 321, 641, 1281, 1281, 1281, 1281, 1281]
    for got in outcomes:
        assert got["num_scales"] == expected


def test_trap_11_all_processes_agree_on_the_number_of_levels(by_two):
    check_processes_agree_on_the_number_of_levels([got["ICT"] for got in by_two])
    with pytest.raises(AssertionError):
        check_processes_agree_on_the_number_of_levels([got["trap 11"] for got in by_two])


def test_a_nan_of_one_process_stops_all_with_the_same_error(by_two):
    errors = {got["nan"]["error"] for got in by_two}
    assert len(errors) == 1
    assert errors.pop().startswith("the loss is nan at step 7, sigma from")


def test_all_begin_with_the_weights_of_rank_0(by_two):
    for got in by_two:
        assert torch.equal(got["other weights"]["weights"], by_two[0]["ICT"]["weights"])


def test_a_process_whose_weights_have_changed_stops_all_at_the_next_checkpoint(by_two):
    for got in by_two:
        assert got["drift"]["error"].startswith("the processes differ in their weights: checksums from ")
        assert got["drift"]["step"] == [1, 2, 3, 4, 5, 6, 7]


def test_an_error_arrives_with_rank_and_traceback_and_is_not_tried_again(by_two_and_error):
    _, error, starts = by_two_and_error
    assert str(error).startswith("rank 1 failed: KeyError('a mistake of rank one')\nTraceback")
    assert "launch_workers.py" in str(error)
    assert "in all_cases" in str(error)
    assert starts == ["started\n"] * 2


# Interruptions: the same bits, no process left, one writer


def test_a_killed_process_is_restarted_and_the_end_is_bit_for_bit_the_same(tmp_path, by_two, monkeypatch):
    monkeypatch.setattr("ict_lib.evaluation.measure.sample", lambda *_: pytest.fail("it draws beside rank 0"))
    training, records, killed = launch(long_run(), 0, tmp_path, 2, max_restarts=1), [], None
    for metrics in training:
        records.append(metrics)
        if metrics.step > 20 and not killed:
            killed = workers()[-1]
            with pytest.raises(RuntimeError, match=r"process \d+ on .* already: end it") as refused:
                train(long_run(), folder=tmp_path)
            assert int(re.search(r"process (\d+)", str(refused.value))[1]) in [one.pid for one in workers()]
            killed.kill()
    log = (tmp_path / LOG).read_text()  # it was at work, and was started once more
    assert f"exitcode: -9) local_rank: 1 (pid: {killed.pid})" in log
    assert [(metrics.step, metrics.loss) for metrics in records] == list(
        zip(STEPS, by_two[0]["long"]["loss"], strict=True)
    )
    average = check_whole(training, by_two)
    assert training.last.measured.keys() >= {"fid_1_step", "fid_2_steps"}
    assert not below()

    again = launch(long_run(), 0, tmp_path, 2)
    assert (again.finished, again.step, len(again), list(again)) == (True, 400, 0, [])
    assert again.last == training.last
    assert torch.equal(torch.cat([p.flatten() for p in again.average.parameters()]), average)
    with pytest.raises(ValueError, match="shard_size: 4 -> 2"):
        launch(replace(long_run(), micro_batch=2), 0, tmp_path, 2)
    anew = launch(long_run(), 0, tmp_path, 2, resume=False)
    assert (anew.finished, anew.step, anew.last) == (False, 0, None)
    assert {path.name for path in tmp_path.glob("*.json*")} == {"identity.json", "lock.json", "job.json"}


def check_whole(training, by_two):
    """Whether records, evaluations and weights are those of a training that nothing interrupted; the average, flat."""
    lines, whole = read_lines(training.place / METRICS), by_two[0]["long"]
    assert [line["step"] for line in lines] == whole["step"] == STEPS
    assert [line["loss"] for line in lines] == whole["loss"]
    assert [Metrics.of_line(line).measured for line in lines] == whole["measured"]
    average = torch.cat([p.flatten() for p in training.average.parameters()])
    assert torch.equal(average, whole["weights"].chunk(3)[2])
    return average


CALLER = """
from pathlib import Path
from tests.test_training_launch import long_run, launch
for metrics in launch(long_run(), 0, Path({folder!r}), 2):
    print(metrics.step, flush=True)
"""


def test_a_killed_caller_and_a_closed_one_leave_no_process_and_the_same_call_goes_on(tmp_path, by_two):
    """The first caller is a script without ``if __name__ == "__main__"``."""
    words = [sys.executable, "-c", CALLER.format(folder=str(tmp_path))]
    caller = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert "2\n" in (caller.stdout.readline() for _ in range(25))
    trainers, others = workers(psutil.Process(caller.pid)), below(psutil.Process(caller.pid))
    assert len(trainers) == 2
    with pytest.raises(RuntimeError, match=rf"process ({trainers[0].pid}|{trainers[1].pid}) on .* already"):
        launch(long_run(), 0, tmp_path, 2)
    caller.kill()
    caller.wait()
    assert wait_until_gone(others)

    forgotten = launch(long_run(), 0, tmp_path, 2)
    begun = forgotten.step
    for metrics in forgotten:  # as in a notebook, where the body of the loop was interrupted
        assert metrics.step == forgotten.step > begun
        if metrics.step >= begun + 20:
            break
    first = below()
    assert len(workers()) == 2
    again = launch(long_run(), 0, tmp_path, 2)
    assert wait_until_gone(first)
    assert next(forgotten, None) is None
    assert again.step >= begun + 20
    reached = again.step
    assert next(again).step == reached + 2
    second = below()
    again.close()
    assert wait_until_gone(second)
    assert next(again, None) is None

    with pytest.warns(UserWarning, match="changed surroundings: processes: 2 -> 1"):
        alone = train(long_run(), folder=tmp_path)  # another number of processes goes on, and ends alike
    assert alone.step >= reached
    list(alone)
    assert [line["step"] for line in read_lines(tmp_path / METRICS)] == STEPS
    torch.testing.assert_close(weights(alone), by_two[0]["long"]["weights"], rtol=1e-3, atol=1e-5)


def interrupted(training, number, seconds):
    """What a training of many processes says when its caller gets a signal, while it waits for a record."""
    seen, before = [], signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may have it ignored

    def interrupt():
        seen.extend(below())
        os.kill(os.getpid(), number)

    threading.Timer(seconds, interrupt).start()
    try:
        with pytest.raises(KeyboardInterrupt) as stop:
            list(training)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen
    assert wait_until_gone(seen, 1)
    assert next(training, None) is None
    return str(stop.value)


def test_signals_stop_all_processes_with_a_checkpoint_and_nothing_changes(tmp_path, by_two):
    """Before their first step, after it, at a process that trains, and at torchrun."""
    first = launch(long_run(), 0, tmp_path, 2)
    assert interrupted(first, signal.SIGINT, 1) == "stopped without a checkpoint: the same command begins anew"
    second = launch(long_run(), 0, tmp_path, 2)
    next(second)
    said = interrupted(second, signal.SIGTERM, 0.05)
    step = int(re.fullmatch(r"stopped at step (\d+) with a checkpoint: the same command goes on from there", said)[1])
    third = launch(long_run(), 0, tmp_path, 2)
    assert step - 2 <= third.step <= step  # a line that was cut off after its checkpoint is added when it goes on
    for metrics in third:
        if metrics.step in (step + 20, step + 21):
            workers()[-1].terminate()  # all stop with a checkpoint, and torchrun starts them once more
    assert "exitcode: 143)" in (tmp_path / LOG).read_text()
    check_whole(third, by_two)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("processes", [1, 2])
def test_nccl_exchanges_what_gloo_does(tmp_path, processes):
    """A training stopped and gone on with, which is measured at its end; of two processes where there are two GPUs."""
    if processes > torch.cuda.device_count():
        pytest.skip("needs two CUDA devices")
    run = replace(
        long_run(), device="cuda", network="small_unet", network_options={"channels": 8, "blocks": 1}, steps=60
    )
    first = launch(run, 0, tmp_path, processes)
    next(first)
    first.close()
    lines = list(launch(run, 0, tmp_path, processes))
    alone = train(run, folder=tmp_path / "alone")
    losses = [metrics.loss for metrics in alone]
    assert [metrics.loss for metrics in lines] == pytest.approx(losses[-len(lines) :], rel=0.05)
    assert lines[-1].measured.keys() >= {"fid_1_step", "fid_2_steps"}


# Errors


def test_more_kills_than_restarts_are_an_error_that_names_the_signal(tmp_path):
    def kill():
        while not (found := workers()):
            time.sleep(0.05)
        found[-1].kill()

    training = launch(long_run(), 0, tmp_path, 2, max_restarts=0)
    threading.Thread(target=kill, daemon=True).start()
    with pytest.raises(RuntimeError, match=r"(?s)torchrun failed: exit code 1\n.*SIGKILL"):
        next(training)
    assert not below()


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"batch_size": 12}, {"processes": 2}, r"in shards of 4 cannot be shared by 2 processes: micro_batch=3"),
        ({"batch_size": 12}, {"processes": 5}, r"batch_size must be a multiple of 5"),
        ({}, {"processes": 0}, r"processes is 0"),
        ({}, {"folder": ""}, r"folder is ''"),
        ({"device": "cuda:0"}, {}, r"device is 'cuda:0'"),
        ({"device": "mps"}, {}, r"device is 'mps'"),
    ],
)
def test_what_cannot_work_is_refused_at_once(tmp_path, changes, options, said):
    with pytest.raises(ValueError, match=said):
        launch(pair(**changes), **{"folder": tmp_path, **options})


def test_a_line_that_is_no_record_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"note": "by hand"}\n')
    assert launch(long_run(), 0, tmp_path, 2).step == 0


@pytest.mark.parametrize("how", ["of the run", "of the call"])
def test_without_a_micro_batch_each_process_takes_its_share(tmp_path, how):
    run, processes = (small(processes=4), None) if how == "of the run" else (small(), 4)
    training = launch(run, 0, tmp_path, processes)
    assert (training.run.processes, training.run.micro_batch, len(training)) == (4, 2, 12)


@pytest.mark.parametrize(("word", "said"), [("digits/ladder", "variants"), ("digits/ict", "mistake")])
def test_what_a_study_alone_can_train_is_refused(word, said):
    with pytest.raises(ValueError, match=rf"^{said} is .*: none: `make run` trains a study"):
        _asked([word, "mistake=no-c-in" if said == "mistake" else "steps=3"])


def test_one_process_needs_nothing_of_many():
    script = """
import sys
from ict_lib.config import Run
from ict_lib.training import train
next(train(Run(network_options={"width": 16}, batch_size=8, device="cpu", log_every=1)))
print([name for name in sys.modules if name.startswith(("torch.distributed.elastic", "ict_lib.training."))])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "ict_lib.training.loop" in done.stdout
    for many in ("torch.distributed.elastic", "training.program", "training.measuring"):
        assert many not in done.stdout
