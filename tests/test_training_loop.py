"""The training loop: `ict_lib.training.loop`. Resuming and stopping are in test_training_loop_resume.py."""

import copy
import math

import pytest
import torch
from ict_lib.run_config import RunConfig

from ict_lib.objective import consistency_training_loss
from ict_lib.recipe import CT, ICT
from ict_lib.sampling import sample
from ict_lib.techniques.dropout import dropout_rates
from ict_lib.training import Metrics, Training, train
from tests import mutants

RECIPES = {"CT": CT, "ICT": ICT}


def config(**changes):
    small = {"network_options": {"width": 16, "blocks": 2}, "steps": 12, "batch_size": 8, "device": "cpu"}
    return RunConfig(**{**small, "log_every": 1, **changes})


def numbers(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


# Value from the paper


@pytest.mark.parametrize("recipe", RECIPES)
def test_trap_3_the_averaged_weights_move_by_a_tenth_with_decay_0_9(recipe):
    training = train(config(recipe=RECIPES[recipe], ema_decay=0.9, learning_rate=0.1))
    start = numbers(training.student)
    next(training)
    moved = numbers(training.student) - start
    assert moved.abs().max() > 0.001
    torch.testing.assert_close(numbers(training.average) - start, moved / 10, rtol=1e-4, atol=1e-6)


def test_cts_teacher_moves_by_a_tenth_at_two_levels():
    """mu = exp(s0 ln mu0 / N) = 0.9 for s0 = N = 2 and mu0 = 0.9."""
    training = train(config(recipe=CT, learning_rate=0.1))
    start = numbers(training.student)
    assert next(training).num_scales == 2
    moved = numbers(training.student) - start
    torch.testing.assert_close(numbers(training.teacher) - start, moved / 10, rtol=1e-4, atol=1e-6)


def check_teacher_has_no_parameters_of_its_own(training_class):
    training = training_class(config())
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
    training = train(config(learning_rate=0.01))
    assert isinstance(training.optimizer, torch.optim.RAdam)
    (group,) = training.optimizer.param_groups
    assert (group["betas"], group["weight_decay"], group["lr"]) == ((0.9, 0.999), 0, 0.01)
    start = numbers(training.student)
    next(training)
    gradient = torch.cat([p.grad.flatten() for p in training.student.parameters()])
    torch.testing.assert_close(numbers(training.student), start - 0.01 * gradient, rtol=1e-4, atol=1e-6)


def test_trap_10_the_recipes_dropout_reaches_student_teacher_and_blocks():
    training = train(config())
    assert dropout_rates(training.student) == dropout_rates(training.teacher) == [0.3, 0.3]
    assert training.student.training
    assert training.teacher.training
    ema_teacher = train(config(recipe=CT)).teacher
    assert dropout_rates(ema_teacher) == [0, 0]


# Invariant


def test_seeds_give_different_and_repeatable_weights():
    def weights(seed, steps):
        training = train(config(seed=seed, steps=steps))
        list(training)
        return numbers(training.student)

    built = {seed: numbers(train(config(seed=seed)).student) for seed in (0, 1)}
    assert not torch.equal(built[0], built[1])
    assert torch.equal(weights(0, 3), weights(0, 3))
    assert not torch.equal(weights(0, 3), weights(1, 3))


def test_the_global_random_state_is_neither_used_nor_changed():
    with torch.random.fork_rng(devices=[]):
        made = []
        for outside in (0, 1):
            torch.manual_seed(outside)
            before = torch.get_rng_state()
            training = train(config(steps=3))
            list(training)
            assert torch.equal(torch.get_rng_state(), before)
            made.append(numbers(training.student))
    assert torch.equal(*made)


def test_two_trainings_side_by_side_do_not_disturb_each_other():
    alone, first, second = (train(config(steps=4, seed=seed)) for seed in (0, 0, 1))
    list(alone)
    for _ in range(4):
        next(first), next(second)
    assert torch.equal(numbers(alone.student), numbers(first.student))


@pytest.mark.slow
def test_samples_come_near_the_data_in_every_one_of_three_seeds():
    """An untrained model samples grey images; a short training finds the mean of the digits."""
    for seed in range(3):
        training = train(config(seed=seed, steps=300, batch_size=64, ema_decay=0.98, network_options={"width": 64}))
        mean = training.data.images.mean(0)

        def distance(model, mean=mean):
            drawn = sample(model, 500, (1, 8, 8), generator=torch.Generator().manual_seed(0))
            return float((drawn.mean(0) - mean).norm())

        before = distance(training.average)
        list(training)
        assert distance(training.average) < before / 2


# Independent slow reference: the loop written out


def slow_training(settings, steps):
    """The student, the teacher and the average after some steps; model and loss are tested elsewhere."""
    built = train(settings)
    student, average, teacher = built.student, copy.deepcopy(built.student), copy.deepcopy(built.student)
    optimizer = torch.optim.RAdam(student.parameters(), lr=settings.learning_rate)
    gen, own = torch.Generator().manual_seed(settings.seed), settings.recipe.teacher == "ema"
    for k in range(steps):
        x = built.data.images[torch.randint(1797, (settings.batch_size,), generator=gen)]
        now = teacher if own else student
        shards = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=gen)))
        own_gen = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=shards)))
        output = consistency_training_loss(student, now, x, settings.recipe, k, settings.steps, own_gen)
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
    settings = config(recipe=RECIPES[recipe], ema_decay=0.7, seed=3)
    training = train(settings)
    for _ in range(9):
        next(training)
    models = (training.student, training.teacher, training.average)
    for model, expected in zip(models, slow_training(settings, 9), strict=True):
        torch.testing.assert_close(numbers(model), numbers(expected), rtol=1e-4, atol=1e-6)


# What is yielded


def test_the_records_of_a_training():
    each = list(train(config(seed=2)))
    some = list(train(config(seed=2, log_every=5)))
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
    training = train(config(log_every=log_every))
    left = []
    while True:
        left.append(len(training))
        if next(training, None) is None:
            break
    assert left == list(range(len(left)))[::-1]


def test_iteration_ends_and_stays_ended():
    training = train(config(steps=2))
    assert len(list(training)) == 2
    assert list(training) == []
    assert training.step == 2


@pytest.mark.parametrize("conditional", [True, False])
def test_labels_are_those_of_the_images_if_the_run_is_conditional(monkeypatch, conditional):
    seen = []

    def spy(student, teacher, x, recipe, step, total, generator, label, perceptual):
        seen.append((x, label))
        return consistency_training_loss(student, teacher, x, recipe, step, total, generator, label)

    monkeypatch.setattr("ict_lib.training.loop.consistency_training_loss", spy)
    training = train(config(conditional=conditional, steps=1))
    next(training)
    assert (training.student.network.classes is not None) == conditional
    ((x, label),) = seen
    if not conditional:
        assert label is None
        return
    for image, digit in zip(x, label, strict=True):
        matches = (training.data.images == image).flatten(1).all(1)
        assert digit in training.data.labels[matches]
