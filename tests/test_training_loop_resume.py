"""Going on after an interruption, and stopping at a loss that is no number: `ict_lib.training.loop`."""

import math
from dataclasses import replace
from functools import cache

import pytest
import torch

from ict_lib.checks import override
from ict_lib.objective import consistency_training_loss
from ict_lib.training import Training, train
from tests import mutants
from tests.test_training_loop import RECIPES, config


def everything(training):
    """All that the rest of a training depends on, flat."""
    models = (training.student, training.teacher, training.average)
    found = [v for model in models for v in model.state_dict().values()]
    found += [v for state in training.optimizer.state_dict()["state"].values() for v in state.values()]
    return [*found, training.generator.get_state(), torch.tensor(training.step)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(everything(a), everything(b), strict=True))


@cache
def uninterrupted(recipe, **changes):
    training = train(config(recipe=RECIPES[recipe], **changes))
    return training, [(r.step, r.num_scales, r.loss) for r in training]


def interrupted(settings, after):
    """Train for some records and forget the training, as a killed process does."""
    training = train(settings)
    return [(r.step, r.num_scales, r.loss) for _, r in zip(range(after), training, strict=False)]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("after", [1, 2, 5, 8, 11])
def test_resuming_ends_bit_for_bit_as_without_the_interruption(tmp_path, recipe, after):
    settings = config(recipe=RECIPES[recipe], folder=str(tmp_path), checkpoint_every=1)
    records = interrupted(settings, after)
    training = train(settings)
    assert training.step == after
    assert len(training) == 12 - after
    records += [(r.step, r.num_scales, r.loss) for r in training]
    whole, expected = uninterrupted(recipe)
    assert records == expected
    assert same(training, whole)


@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_after_the_last_checkpoint_are_done_again(tmp_path, recipe):
    settings = config(recipe=RECIPES[recipe], folder=str(tmp_path), checkpoint_every=4)
    interrupted(settings, 7)
    training = train(settings)
    assert training.step == 4
    list(training)
    assert same(training, uninterrupted(recipe)[0])


def test_several_interruptions_and_a_damaged_checkpoint(tmp_path):
    settings = config(recipe=RECIPES["CT"], folder=str(tmp_path), checkpoint_every=1)
    interrupted(settings, 3)
    interrupted(settings, 4)
    newest = sorted(tmp_path.iterdir())[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="damaged"):
        training = train(settings)
    assert training.step == 6
    list(training)
    assert same(training, uninterrupted("CT")[0])


def test_a_convolutional_conditional_training_resumes_too(tmp_path):
    options = {"network": "small_unet", "network_options": {"channels": 8, "multipliers": [1, 2], "blocks": 1}}
    settings = config(**options, conditional=True, steps=4, folder=str(tmp_path), checkpoint_every=2)
    interrupted(settings, 3)
    resumed, whole = train(settings), train(replace(settings, folder=None))
    assert resumed.step == 2
    list(resumed), list(whole)
    assert same(resumed, whole)


def test_a_finished_training_has_nothing_to_do(tmp_path):
    settings = config(folder=str(tmp_path), checkpoint_every=5)
    list(train(settings))
    again = train(settings)
    assert (again.step, len(again), list(again)) == (12, 0, [])


def test_a_checkpoint_is_written_when_due_and_at_the_end(tmp_path):
    list(train(config(folder=str(tmp_path), checkpoint_every=5, log_every=2)))
    assert [p.stem for p in sorted(tmp_path.iterdir())] == [f"step-{s:09d}" for s in (6, 10, 12)]


# What may differ and what may not


@pytest.mark.parametrize("change", [{"log_every": 3}, {"checkpoint_every": 7}])
def test_how_often_is_shown_or_saved_may_differ(tmp_path, change):
    settings = config(folder=str(tmp_path), checkpoint_every=1)
    interrupted(settings, 5)
    training = train(replace(settings, **change))
    list(training)
    assert same(training, uninterrupted("ICT")[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dropout": 0.1}, r"recipe.dropout: 0.3 -> 0.1"),
        ({"teacher": "ema", "rho": 5.0}, r"recipe.rho: 7.0 -> 5.0, recipe.teacher: student -> ema"),
        ({"steps": 13}, "steps: 12 -> 13"),
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"batch_size": 9}, "batch_size: 8 -> 9"),
        ({"network_options": {"width": 16, "blocks": 3}}, "network_options.blocks: 2 -> 3"),
    ],
)
def test_another_training_is_refused_with_the_difference(tmp_path, change, said):
    settings = config(folder=str(tmp_path), checkpoint_every=1)
    interrupted(settings, 2)
    of_the_recipe = {k: v for k, v in change.items() if hasattr(settings.recipe, k)}
    of_the_run = {k: v for k, v in change.items() if k not in of_the_recipe}
    other = replace(settings, recipe=override(settings.recipe, of_the_recipe), **of_the_run)
    with pytest.raises(ValueError, match=rf"\({said}\): .*resume=False"):
        train(other)
    assert train(other, resume=False).step == 0


def test_starting_anew_ends_as_the_first_time_and_can_be_resumed(tmp_path):
    settings = config(folder=str(tmp_path), checkpoint_every=1)
    list(train(settings))
    anew = train(settings, resume=False)
    assert anew.step == 0
    next(anew), next(anew)
    training = train(settings)
    assert training.step == 2
    list(training)
    assert same(training, uninterrupted("ICT")[0])


# A loss that is no number


def poisoned(monkeypatch, at, value):
    def loss(student, teacher, x, recipe, step, *rest):
        output = consistency_training_loss(student, teacher, x, recipe, step, *rest)
        return output._replace(loss=output.loss * value) if step + 1 == at else output

    monkeypatch.setattr("ict_lib.training.loop.consistency_training_loss", loss)


def message_of(training):
    try:
        list(training)
    except FloatingPointError as error:
        return str(error)
    return ""


def check_nan_stops(training_class):
    for log_every in (1, 4, 12):
        message = message_of(training_class(config(log_every=log_every)))
        assert message.startswith("the loss is nan at step 7, sigma from")


def test_trap_14_a_nan_stops_the_training_and_names_its_step(monkeypatch):
    poisoned(monkeypatch, 7, math.nan)
    check_nan_stops(Training)
    with pytest.raises(AssertionError):
        check_nan_stops(mutants.NanToNumTraining)


@pytest.mark.parametrize("at", [1, 12])
def test_infinity_stops_it_too(monkeypatch, at):
    poisoned(monkeypatch, at, math.inf)
    assert f"the loss is inf at step {at}," in message_of(train(config(log_every=5)))


def test_one_poisoned_image_stops_at_the_step_that_first_draws_it():
    """The draws are replayed: indices, then one number for all shards, step after step."""
    gen, seen = torch.Generator().manual_seed(0), []
    for _ in range(5):
        chosen = torch.randint(1797, (8,), generator=gen).tolist()
        torch.randint(2**62, (), generator=gen)
        new = [i for i in chosen if i not in seen]
        seen += chosen
    training = train(config(log_every=6))
    training.data.pixels[new[0]] = math.nan
    assert "at step 5," in message_of(training)


def test_no_checkpoint_is_written_after_the_nan(tmp_path, monkeypatch):
    poisoned(monkeypatch, 7, math.nan)
    settings = config(folder=str(tmp_path), checkpoint_every=1, log_every=2)
    assert "step 7" in message_of(train(settings))
    monkeypatch.undo()
    training = train(settings)
    assert training.step == 6
    list(training)
    assert same(training, uninterrupted("ICT")[0])


def test_the_error_names_the_last_good_checkpoint(tmp_path, monkeypatch):
    poisoned(monkeypatch, 7, math.nan)
    assert message_of(train(config())).endswith("stopped; there is no checkpoint")
    message = message_of(train(config(folder=str(tmp_path), checkpoint_every=2)))
    assert message.endswith(f"stopped; the last good checkpoint is {tmp_path / 'step-000000006.ckpt'}")


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    """The loss of step 5 is finite, its gradient is not: step 5 would be kept as good without a look at the weights."""
    training = train(config(folder=str(tmp_path), checkpoint_every=1))
    parameter = next(training.student.parameters())
    parameter.register_hook(lambda gradient: gradient * (math.nan if training.step == 4 else 1))
    message = message_of(training)
    assert message.startswith("a weight is not finite after step 5: stopped; the last good checkpoint is")
    assert message.endswith("step-000000004.ckpt")


def test_milestones_are_written_when_due_and_can_be_resumed_from(tmp_path):
    settings = config(folder=str(tmp_path), checkpoint_every=3, milestone_every=4)
    list(train(settings))
    kept = {path.name for path in tmp_path.glob("*-kept.ckpt")}
    assert kept == {f"step-{step:09d}-kept.ckpt" for step in (4, 8, 12)}
    for path in tmp_path.iterdir():
        if path.name != "step-000000004-kept.ckpt":
            path.unlink()
    training = train(settings)
    assert training.step == 4
    list(training)
    assert same(training, uninterrupted("ICT")[0])


def test_the_last_metrics_come_back_with_the_checkpoint(tmp_path):
    settings = config(folder=str(tmp_path), checkpoint_every=1)
    assert train(settings).last is None
    interrupted(settings, 5)
    training = train(settings)
    assert (training.last.step, training.last.images_seen) == (5, 40)
    assert training.last.loss == uninterrupted("ICT")[1][4][2]
