"""Going on after an interruption, and stopping at a loss that is no number: `ict_lib.training.loop`."""

import math
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from functools import cache

import pytest
import torch

from ict_lib.data import load_dataset
from ict_lib.files import read_lines
from ict_lib.training import Training, train
from ict_lib.training.folder import METRICS, best_of, read_result
from ict_lib.training.measuring import keep_best
from ict_lib.training.streams import stream
from tests import mutants
from tests.test_training_loop import RECIPES, small


def everything(training):
    """All that the rest of a training depends on, flat."""
    models = (training.student, training.teacher, training.average)
    found = [v for model in models for v in model.state_dict().values()]
    found += [v for state in training.optimizer.state_dict()["state"].values() for v in state.values()]
    return [*found, torch.tensor(training.step)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(everything(a), everything(b), strict=True))


@cache
def uninterrupted(recipe="ICT", **changes):
    training = train(small(recipe=RECIPES[recipe], **changes))
    return training, [(r.step, r.num_scales, r.loss) for r in training]


def interrupted(settings, folder, after):
    """Train for some records and forget the training."""
    training = train(settings, folder=folder)
    return [(r.step, r.num_scales, r.loss) for _, r in zip(range(after), training, strict=False)]


def steps_in(folder):
    return [line["step"] for line in read_lines(folder / METRICS)]


# Invariant: the same bits


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("after", [1, 5, 11])
def test_resuming_ends_bit_for_bit_as_without_the_interruption(tmp_path, recipe, after):
    settings = small(recipe=RECIPES[recipe], checkpoint_every=1)
    records = interrupted(settings, tmp_path, after)
    training = train(settings, folder=tmp_path)
    assert (training.step, len(training)) == (after, 12 - after)
    records += [(r.step, r.num_scales, r.loss) for r in training]
    whole, expected = uninterrupted(recipe)
    assert records == expected
    assert same(training, whole)


@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_after_the_last_checkpoint_are_done_again_and_written_once(tmp_path, recipe):
    settings = small(recipe=RECIPES[recipe], checkpoint_every=4)
    interrupted(settings, tmp_path, 7)
    assert steps_in(tmp_path) == list(range(1, 8))
    training = train(settings, folder=tmp_path)
    assert training.step == 4
    assert steps_in(tmp_path) == [1, 2, 3, 4]
    list(training)
    assert same(training, uninterrupted(recipe)[0])
    assert steps_in(tmp_path) == list(range(1, 13))


# Signals: a checkpoint after the step at hand, and nothing lost of what was measured

PARTED = {"log_every": 4, "evaluate_every": 6, "checkpoint_every": 1000}  # a step is seldom the end of a record


def looked(training, steps_taken):
    """An evaluation that says on which weights it was made."""
    due = training.passed(training.run.evaluate_every, steps_taken)
    return {"found": float(sum(p.double().sum() for p in training.average.parameters()))} if due else {}


def measured_lines(folder):
    passing = ("seconds", "peak_memory_bytes")
    return [{k: v for k, v in line.items() if k not in passing} for line in read_lines(folder / METRICS)]


@cache
def measured_whole(folder, recipe, **changes):
    training = Training(small(recipe=RECIPES[recipe], **PARTED, **changes), folder=folder, evaluate=looked)
    list(training)
    return training, measured_lines(folder)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("at", [1, 7, 8, 12])
def test_a_signal_stops_after_the_step_at_hand_and_nothing_changes(tmp_path, number, at, monkeypatch):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have it ignored
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    training = Training(small(**PARTED), folder=tmp_path / "a", evaluate=looked)
    draw = training.batches
    training.batches = lambda step: (step + 1 == at and os.kill(os.getpid(), number)) or draw(step)
    try:
        with pytest.raises(KeyboardInterrupt) as stop:
            list(training)
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGINT, before)
    assert str(stop.value) == f"stopped at step {at} with a checkpoint: the same command goes on from there"
    with pytest.raises(RuntimeError, match=f"interrupted after step {at}: make another"):
        next(training)
    again = Training(small(**PARTED), folder=tmp_path / "a", evaluate=looked)
    assert (again.step, len(again)) == (at, 3 - (at - 1) // 4)
    assert [record.step for record in again] == list(range(4 * ((at - 1) // 4 + 1), 13, 4))
    whole, lines = measured_whole(tmp_path / "b", "ICT")
    assert same(again, whole)
    assert measured_lines(tmp_path / "a") == lines
    assert read_result(tmp_path / "a")["result"]["found"] == lines[-1]["found"]


@pytest.mark.parametrize("why", ["Ctrl-C", "signal", "error"])
def test_what_ends_an_evaluation_loses_no_step_and_it_is_made_again(tmp_path, why):
    def ended(training, steps_taken):
        if training.step == 8 and why == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        if training.step == 8:
            raise {"Ctrl-C": KeyboardInterrupt, "signal": AssertionError, "error": MemoryError}[why]
        return looked(training, steps_taken)

    kind = MemoryError if why == "error" else KeyboardInterrupt
    with pytest.raises(kind):
        list(Training(small(**PARTED), folder=tmp_path / "a", evaluate=ended))
    assert [line["step"] for line in measured_lines(tmp_path / "a")] == [4]
    again = Training(small(**PARTED), folder=tmp_path / "a", evaluate=looked)
    assert (again.step, len(again)) == (8, 2)
    list(again)
    whole, lines = measured_whole(tmp_path / "b", "ICT")
    assert same(again, whole)
    assert measured_lines(tmp_path / "a") == lines


def test_a_line_that_was_measured_after_its_checkpoint_is_written_once(tmp_path):
    """Stopped in the evaluation of step 8, which was made then, and killed before the next checkpoint."""

    def ended(training, steps_taken):
        raise KeyboardInterrupt

    settings = small(**PARTED)
    first = Training(settings, folder=tmp_path, evaluate=looked)
    next(first)
    first.evaluate = ended
    with pytest.raises(KeyboardInterrupt):
        next(first)
    killed = Training(settings, folder=tmp_path, evaluate=looked)
    assert next(killed).step == 8
    killed.close()
    list(Training(settings, folder=tmp_path, evaluate=looked))
    assert steps_in(tmp_path) == [4, 8, 12]


def test_a_loss_that_is_no_number_is_not_kept_by_a_signal_either(tmp_path):
    training = poisoned(train(small(**PARTED), folder=tmp_path), 7)
    draw = training.batches
    training.batches = lambda step: (step == 6 and os.kill(os.getpid(), signal.SIGTERM)) or draw(step)
    assert message_of(training).startswith("the loss is nan at step 7")
    assert list(tmp_path.glob("*.ckpt")) == []


def to_its_end(settings, folder):
    for _ in Training(settings, folder=folder, evaluate=looked):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_killed_and_stopped_again_and_again_at_any_moment_it_ends_with_the_same_bits(tmp_path, recipe):
    changes = {**PARTED, "steps": 120, "checkpoint_every": 10}
    settings, ends, rng, folder = small(recipe=RECIPES[recipe], **changes), [], random.Random(), tmp_path / "a"
    context = multiprocessing.get_context("forkserver")  # a copy of this process might wait for threads it has not
    context.set_forkserver_preload([__name__])
    while read_result(folder) is None:
        assert len(ends) < 100
        child = context.Process(target=to_its_end, args=(settings, folder))
        enough = len(steps_in(folder)) + rng.randint(1, 8)
        child.start()
        while child.is_alive() and len(steps_in(folder)) < enough:
            time.sleep(0.005)
        child.join(rng.uniform(0, 0.05))
        child.kill() if len(ends) % 2 else child.terminate()
        child.join(10)
        ends.append(child.exitcode)
    assert len(ends) > 2
    assert None not in ends
    whole = Training(settings, folder=tmp_path / "b", evaluate=looked)
    list(whole)
    assert measured_lines(folder) == measured_lines(tmp_path / "b")
    assert same(train(settings, folder=folder), whole)


def test_several_interruptions_a_damaged_checkpoint_and_a_torn_line(tmp_path):
    settings = small(recipe=RECIPES["CT"], checkpoint_every=1)
    interrupted(settings, tmp_path, 3)
    interrupted(settings, tmp_path, 4)
    newest = sorted(tmp_path.glob("*.ckpt"))[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    with (tmp_path / METRICS).open("ab") as file:
        file.write(b'{"seed": 0, "st')
    with pytest.warns(UserWarning, match="damaged"):
        training = train(settings, folder=tmp_path)
    assert training.step == 6
    list(training)
    assert same(training, uninterrupted("CT")[0])
    assert (tmp_path / METRICS).read_text().count("\n") == len(steps_in(tmp_path)) == 12


def test_the_line_that_a_kill_kept_out_is_added(tmp_path):
    """A checkpoint is written before its line of metrics."""
    settings = small(checkpoint_every=1)
    interrupted(settings, tmp_path, 5)
    lines = (tmp_path / METRICS).read_bytes().splitlines(keepends=True)
    (tmp_path / METRICS).write_bytes(b"".join(lines[:-1]))
    train(settings, folder=tmp_path)
    assert (tmp_path / METRICS).read_bytes().splitlines(keepends=True) == lines


def test_a_convolutional_conditional_training_resumes_too(tmp_path):
    options = {"network": "small_unet", "network_options": {"channels": 8, "multipliers": [1, 2], "blocks": 1}}
    settings = small(**options, conditional=True, steps=4, checkpoint_every=2, micro_batch=4)
    interrupted(settings, tmp_path, 3)
    resumed, whole = train(settings, folder=tmp_path), train(settings)
    assert resumed.step == 2
    list(resumed), list(whole)
    assert same(resumed, whole)


def test_a_checkpoint_is_written_when_due_and_at_the_end(tmp_path):
    list(train(small(checkpoint_every=5, log_every=2), folder=tmp_path))
    assert [p.stem for p in sorted(tmp_path.glob("*.ckpt"))] == [f"step-{s:09d}" for s in (6, 10, 12)]


def test_milestones_are_written_when_due_and_can_be_resumed_from(tmp_path):
    settings = small(checkpoint_every=3, milestone_every=4)
    list(train(settings, folder=tmp_path))
    kept = {path.name for path in tmp_path.glob("*-kept.ckpt")}
    assert kept == {f"step-{step:09d}-kept.ckpt" for step in (4, 8, 12)}
    for path in tmp_path.glob("*.ckpt"):
        if path.name != "step-000000004-kept.ckpt":
            path.unlink()
    training = train(settings, folder=tmp_path)
    assert training.step == 4
    list(training)
    assert same(training, uninterrupted()[0])


def test_the_last_metrics_come_back_with_the_checkpoint(tmp_path):
    settings = small(checkpoint_every=1)
    assert train(settings, folder=tmp_path).last is None
    interrupted(settings, tmp_path, 5)
    training = train(settings, folder=tmp_path)
    assert (training.last.step, training.last.images_seen) == (5, 40)
    assert training.last.loss == uninterrupted()[1][4][2]


# What may differ and what may not


@pytest.mark.parametrize(
    "change", [{"log_every": 3}, {"checkpoint_every": 7}, {"name": "other"}, {"micro_batch": 8}, {"num_samples": 30}]
)
def test_how_often_is_shown_or_saved_may_differ(tmp_path, change):
    settings = small(checkpoint_every=1)
    interrupted(settings, tmp_path, 5)
    training = train(replace(settings, **change), folder=tmp_path)
    list(training)
    assert same(training, uninterrupted()[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": replace(RECIPES["ICT"], dropout=0.1)}, r"recipe.dropout: 0.3 -> 0.1"),
        (
            {"recipe": replace(RECIPES["ICT"], teacher="ema", rho=5.0)},
            r"recipe.rho: 7.0 -> 5.0, recipe.teacher: student -> ema",
        ),
        ({"steps": 13}, "steps: 12 -> 13"),
        ({"seeds": [1]}, "seed: 0 -> 1"),
        ({"batch_size": 9}, "batch_size: 8 -> 9, shard_size: 8 -> 9"),
        ({"micro_batch": 2}, "shard_size: 8 -> 2; micro_batch=8 keeps the shards"),
        ({"precision": "bf16"}, "precision: fp32 -> bf16"),
        ({"network_options": {"width": 16, "blocks": 3}}, "network_options.blocks: 2 -> 3"),
    ],
)
@pytest.mark.parametrize("steps", [2, 12])
def test_another_training_is_refused_with_the_difference(tmp_path, change, said, steps):
    interrupted(small(checkpoint_every=1), tmp_path, steps)
    other = small(checkpoint_every=1, **change)
    with pytest.raises(ValueError, match=rf"\({said}\): .*resume=False"):
        train(other, folder=tmp_path)
    assert train(other, folder=tmp_path, resume=False).step == 0


def test_changed_surroundings_are_named(tmp_path, monkeypatch):
    settings = small(checkpoint_every=1)
    interrupted(settings, tmp_path, 3)
    other = load_dataset("digits")
    other = replace(other, pixels=other.pixels.flip(-1))
    before = torch.get_num_threads()
    with pytest.warns(UserWarning, match=r"goes on in changed surroundings: data_checksum: \w+ -> \w+$"):
        Training(settings, folder=tmp_path, data=other)
    options = {"network": "small_unet", "network_options": {"channels": 8, "blocks": 1}, "steps": 3}
    interrupted(small(**options), tmp_path / "unet", 1)
    interrupted(small(**options, checkpoint_every=1), tmp_path / "unet", 1)
    torch.set_num_threads(before + 1)
    try:
        with pytest.warns(UserWarning, match=rf"surroundings: device: CPU, {before} threads? -> CPU, {before + 1} thr"):
            train(small(**options), folder=tmp_path / "unet")
    finally:
        torch.set_num_threads(before)


# A finished training, and starting anew


def test_a_finished_training_has_nothing_to_do_and_changes_nothing(tmp_path):
    settings = small(checkpoint_every=5)
    first = train(settings, folder=tmp_path)
    list(first)
    left = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    again = train(settings, folder=tmp_path)
    assert (again.step, len(again), list(again)) == (12, 0, [])
    assert same(again, first)
    assert {name: (tmp_path / name).read_bytes() for name in left} == left
    for path in tmp_path.glob("*.ckpt"):
        path.unlink()
    with pytest.raises(ValueError, match="is 'finished': another name, or a new start"):
        train(settings, folder=tmp_path)
    assert read_result(tmp_path)["result"]["images_seen"] == 96


def test_a_kill_between_the_last_checkpoint_and_the_result_costs_nothing(tmp_path):
    settings = small(checkpoint_every=5)
    list(train(settings, folder=tmp_path))
    left = (tmp_path / "result.json").read_bytes()
    for name in ("result.json", "weights.safetensors"):
        (tmp_path / name).unlink()
    assert list(train(settings, folder=tmp_path)) == []
    assert (tmp_path / "result.json").read_bytes() == left
    assert (tmp_path / "weights.safetensors").exists()


def test_starting_anew_leaves_nothing_of_the_first_time_and_can_be_resumed(tmp_path):
    settings = small(checkpoint_every=1, milestone_every=4)
    first = train(settings, folder=tmp_path)
    list(first)
    keep_best(tmp_path, first.average, 12, 0.1, 50)
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "step-000000012.png").touch()
    anew = train(settings, folder=tmp_path, resume=False)
    assert anew.step == 0
    assert {path.name for path in tmp_path.iterdir()} == {"identity.json", "lock", "lock.json"}
    assert read_result(tmp_path) is None
    assert best_of(tmp_path, 50) == {}
    next(anew), next(anew)
    training = train(settings, folder=tmp_path)
    assert training.step == 2
    list(training)
    assert same(training, uninterrupted()[0])


def test_looks_of_steps_that_are_done_again_are_removed(tmp_path):
    settings = small(checkpoint_every=4)
    interrupted(settings, tmp_path, 7)
    (tmp_path / "looks").mkdir()
    for step in (4, 6):
        (tmp_path / "looks" / f"step-{step:09d}.png").touch()
    train(settings, folder=tmp_path)
    assert [path.name for path in (tmp_path / "looks").iterdir()] == ["step-000000004.png"]


# A loss that is no number


def poisoned(training, *at):
    """Let the images of some steps be no numbers."""
    draw = training.batches
    training.batches = lambda step: [s._replace(x=s.x * (math.nan if step + 1 in at else 1)) for s in draw(step)]
    return training


def message_of(training):
    try:
        list(training)
    except FloatingPointError as error:
        return str(error)
    return ""


def check_nan_stops(training_class):
    for log_every in (1, 4, 12):
        message = message_of(poisoned(training_class(small(log_every=log_every)), 7))
        assert message.startswith("the loss is nan at step 7, sigma from")


def test_trap_14_a_nan_stops_the_training_and_names_its_step():
    check_nan_stops(Training)
    with pytest.raises(AssertionError):
        check_nan_stops(mutants.NanToNumTraining)


@pytest.mark.parametrize("at", [1, 12])
def test_infinity_stops_it_too(at):
    training = train(small(recipe=RECIPES["CT"], log_every=5))
    training.student.register_forward_hook(lambda *hook: hook[2] * (1e25 if training.step + 1 == at else 1))
    assert f"the loss is inf at step {at}," in message_of(training)


def test_one_poisoned_image_stops_at_the_step_that_first_draws_it():
    data = load_dataset("digits")
    data = replace(data, pixels=data.pixels.clone())
    drawn = [torch.randint(1797, (8,), generator=stream(0, step)).tolist() for step in range(5)]
    new = set(drawn[4]).difference(*drawn[:4])
    training = Training(small(log_every=6), data=data)
    training.data.pixels[new.pop()] = math.nan
    assert "at step 5," in message_of(training)


def test_no_checkpoint_is_written_after_the_nan_and_the_error_names_the_last_good_one(tmp_path):
    settings = small(checkpoint_every=1, log_every=2)
    assert message_of(poisoned(train(settings), 7)).count("stopped; there is no checkpoint; a lower learning_rate") == 1
    message = message_of(poisoned(train(settings, folder=tmp_path), 7))
    assert message.startswith("the loss is nan at step 7")
    assert f"stopped; the last good checkpoint is {tmp_path / 'step-000000006.ckpt'}; a lower" in message
    training = train(settings, folder=tmp_path)
    assert training.step == 6
    list(training)
    assert same(training, uninterrupted()[0])


@pytest.mark.parametrize(("step", "factor"), [(5, math.nan), (12, math.nan), (5, math.inf), (5, -math.inf)])
def test_weights_that_are_not_finite_are_neither_measured_nor_written(tmp_path, step, factor):
    """The loss of that step is finite, its gradient is not: it would be kept as good without a look at the weights."""
    measured = []
    training = Training(small(checkpoint_every=1), folder=tmp_path, evaluate=lambda t, _: measured.append(t.step) or {})
    parameter = next(training.student.parameters())
    parameter.register_hook(lambda gradient: gradient * (factor if training.step == step - 1 else 1))
    message = message_of(training)
    assert message.startswith(f"a weight is not finite after step {step}: stopped; the last good checkpoint is")
    assert f"step-{step - 1:09d}.ckpt; " in message
    assert measured == steps_in(tmp_path) == list(range(1, step))
    assert not (tmp_path / "weights.safetensors").exists()
