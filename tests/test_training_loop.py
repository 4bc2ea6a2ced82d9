"""The training loop: `ict_lib.training.loop`. Resuming and stopping are in test_training_loop_resume.py."""

import copy
import math
import warnings
from dataclasses import replace

import pytest
import torch

from ict_lib.config import Run
from ict_lib.data import load_dataset
from ict_lib.objective import consistency_training_loss
from ict_lib.recipe import CT, ICT
from ict_lib.sampling import sample
from ict_lib.training import Metrics, Training, train
from ict_lib.training.streams import stream
from tests import mutants

RECIPES = {"CT": CT, "ICT": ICT}


def small(**changes):
    options = {"network_options": {"width": 16, "blocks": 2}, "steps": 12, "batch_size": 8, "device": "cpu"}
    return Run(**{**options, "log_every": 1, **changes})


def numbers(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# Value from the paper


@pytest.mark.parametrize("recipe", RECIPES)
def test_trap_3_the_averaged_weights_move_by_a_tenth_with_decay_0_9(recipe):
    training = train(small(recipe=RECIPES[recipe], ema_decay=0.9, learning_rate=0.1))
    start = numbers(training.student)
    next(training)
    moved = numbers(training.student) - start
    assert moved.abs().max() > 0.001
    torch.testing.assert_close(numbers(training.average) - start, moved / 10, rtol=1e-4, atol=1e-6)


def test_cts_teacher_moves_by_a_tenth_at_two_levels():
    """mu = exp(s0 ln mu0 / N) = 0.9 for s0 = N = 2 and mu0 = 0.9."""
    training = train(small(recipe=CT, learning_rate=0.1))
    start = numbers(training.student)
    assert next(training).num_scales == 2
    moved = numbers(training.student) - start
    torch.testing.assert_close(numbers(training.teacher) - start, moved / 10, rtol=1e-4, atol=1e-6)


def check_teacher_has_no_parameters_of_its_own(training_class):
    training = training_class(small())
    for _ in range(3):
        next(training)
        own = {id(p) for p in training.teacher.parameters()} - {id(p) for p in training.student.parameters()}
        assert not own


def test_trap_15_icts_teacher_is_the_student():
    check_teacher_has_no_parameters_of_its_own(Training)
    with pytest.raises(AssertionError):
        check_teacher_has_no_parameters_of_its_own(mutants.OwnTeacherTraining)


def test_radam_with_the_published_settings():
    """Its first step is not yet rectified: the gradient times the learning rate."""
    training = train(small(learning_rate=0.01))
    assert isinstance(training.optimizer, torch.optim.RAdam)
    (group,) = training.optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.9, 0.999), 0, 0.01)
    start = numbers(training.student)
    next(training)
    gradient = torch.cat([p.grad.flatten() for p in training.student.parameters()])
    torch.testing.assert_close(numbers(training.student), start - 0.01 * gradient, rtol=1e-4, atol=1e-6)


def dropout_rates(network):
    return [module.p for module in network.modules() if isinstance(module, torch.nn.Dropout)]


def test_trap_10_the_recipes_dropout_reaches_student_teacher_and_blocks():
    training = train(small())
    assert dropout_rates(training.student) == dropout_rates(training.teacher) == [0.3, 0.3]
    assert training.student.training
    assert training.teacher.training
    ema_teacher = train(small(recipe=CT)).teacher
    assert dropout_rates(ema_teacher) == [0, 0]


# Invariant


def test_seeds_give_different_and_repeatable_weights():
    def weights(seed, steps):
        training = train(small(steps=steps), seed=seed)
        list(training)
        return numbers(training.student)

    built = {seed: numbers(train(small(seeds=[seed])).student) for seed in (0, 1)}
    assert torch.equal(built[1], numbers(train(small(), seed=1).student))
    assert not torch.equal(built[0], built[1])
    assert torch.equal(weights(0, 3), weights(0, 3))
    assert not torch.equal(weights(0, 3), weights(1, 3))


def test_the_global_random_state_is_neither_used_nor_changed():
    with torch.random.fork_rng(devices=[]):
        made = []
        for outside in (0, 1):
            torch.manual_seed(outside)
            before = torch.get_rng_state()
            training = train(small(steps=3))
            list(training)
            assert torch.equal(torch.get_rng_state(), before)
            made.append(numbers(training.student))
    assert torch.equal(*made)


def test_two_trainings_side_by_side_do_not_disturb_each_other():
    alone, first, second = (train(small(steps=4), seed=seed) for seed in (0, 0, 1))
    list(alone)
    for _ in range(4):
        next(first), next(second)
    assert torch.equal(numbers(alone.student), numbers(first.student))


@pytest.mark.slow
def test_samples_come_near_the_data_in_every_one_of_three_seeds():
    """An untrained model samples grey images; a short training finds the mean of the digits."""
    for seed in range(3):
        training = train(small(steps=300, batch_size=64, ema_decay=0.98, network_options={"width": 64}), seed=seed)
        mean = training.data.images.mean(0)

        def distance(model, mean=mean):
            drawn = sample(model, 500, (1, 8, 8), generator=torch.Generator().manual_seed(0))
            return float((drawn.mean(0) - mean).norm())

        before = distance(training.average)
        list(training)
        assert distance(training.average) < before / 2


# Independent slow reference: the loop written out


def slow_training(settings, seed, steps):
    """The student, the teacher and the average after some steps; model and loss are tested elsewhere."""
    built = train(settings, seed=seed)
    student, average, teacher = built.student, copy.deepcopy(built.student), copy.deepcopy(built.student)
    optimizer = torch.optim.RAdam(student.parameters(), lr=settings.learning_rate)
    images, own = load_dataset("digits").images, settings.recipe.teacher == "ema"
    for k in range(steps):
        gen = stream(seed, k)
        x = images[torch.randint(1797, (settings.batch_size,), generator=gen)]
        now = teacher if own else student
        output = consistency_training_loss(student, now, x, settings.recipe, k, settings.steps, gen)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        mu = math.exp(2 * math.log(0.9) / output.num_scales)
        for p, t, a in zip(student.parameters(), teacher.parameters(), average.parameters(), strict=True):
            t.data = mu * t.data + (1 - mu) * p.data
            a.data = settings.ema_decay * a.data + (1 - settings.ema_decay) * p.data
    return student, teacher if own else student, average


@pytest.mark.parametrize("recipe", RECIPES)
def test_against_the_loop_written_out(recipe):
    settings = small(recipe=RECIPES[recipe], ema_decay=0.7)
    training = train(settings, seed=3)
    for _ in range(9):
        next(training)
    models = (training.student, training.teacher, training.average)
    for model, expected in zip(models, slow_training(settings, 3, 9), strict=True):
        torch.testing.assert_close(numbers(model), numbers(expected), rtol=1e-4, atol=1e-6)


# What is yielded


def test_the_records_of_a_training():
    each = list(train(small(), seed=2))
    some = list(train(small(log_every=5), seed=2))
    assert all(isinstance(record, Metrics) for record in some)
    assert [record.step for record in some] == [5, 10, 12]
    assert [record.images_seen for record in some] == [40, 80, 96]
    assert {record.seed for record in some} == {2}
    assert [record.num_scales for record in each] == [11, 21, 41, 81, 161, 321, 641, 1281, 1281, 1281, 1281, 1281]
    losses = [record.loss for record in each]
    means = [sum(losses[a:b]) / (b - a) for a, b in ((0, 5), (5, 10), (10, 12))]
    assert [record.loss for record in some] == pytest.approx(means, rel=1e-5)
    seconds = [record.seconds for record in each]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("log_every", [1, 4, 5, 12, 50])
def test_len_counts_what_is_still_to_come(log_every):
    training = train(small(log_every=log_every))
    left = []
    while True:
        left.append(len(training))
        if next(training, None) is None:
            break
    assert left == list(range(len(left)))[::-1]


def test_iteration_ends_and_stays_ended():
    training = train(small(steps=2))
    assert len(list(training)) == 2
    assert list(training) == []
    assert training.step == 2


def test_a_line_of_metrics_says_all_of_them():
    (metrics,) = train(small(steps=2, log_every=2))
    measured = Metrics(**{**vars(metrics), "measured": {"fid_1_step": 3.0}})
    assert measured.line()["fid_1_step"] == 3.0
    assert "measured" not in measured.line()
    assert Metrics.of_line(measured.line()) == measured


# Errors: what was stopped in the middle does not go on as if nothing were missing


def test_an_interrupted_training_says_so_and_a_closed_one_ends():
    def interrupt(training, steps):
        if training.step == 3:
            raise KeyboardInterrupt

    training = Training(small(), evaluate=interrupt)
    with pytest.raises(KeyboardInterrupt):
        list(training)
    with pytest.raises(RuntimeError, match="interrupted after step 3: make another"):
        next(training)
    closed = train(small())
    next(closed)
    closed.close()
    assert list(closed) == []


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ValueError, match="seed is -1: seed >= 0 is needed"):
        train(small(), seed=-1)


def test_trap_20_a_teacher_that_lags_more_than_a_hundredth_of_the_training_is_said():
    with pytest.warns(UserWarning, match=r"teacher lags 717 steps at the end, 0.12 of this run: a lower mu0"):
        Training(small(recipe=CT, steps=6000))


@pytest.mark.parametrize(("recipe", "steps"), [(ICT, 12), (CT, 72_000), (replace(CT, mu0=0.01), 6000)])
def test_trap_20_a_teacher_that_keeps_up_is_not_warned_of(recipe, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Training(small(recipe=recipe, steps=steps))
