"""Wrong readings that train: what each replaces, and that nothing of it stays."""

from dataclasses import replace

import pytest
import torch

from ict_lib.config import identity, run_from
from ict_lib.consistency import ConsistencyModel
from ict_lib.exact.toy import two_moons
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.objective import levels
from ict_lib.recipe import ICT
from ict_lib.run.execute import execute
from ict_lib.run.mistakes import MISTAKES, made
from ict_lib.run.study import execute_study
from ict_lib.training import Learner, Shard, fit
from tests.test_run_execute import TINY, make_project

RECIPE = replace(ICT, dropout=0.5)
CPU = torch.device("cpu")


def trained(mistake="", steps=15, precision="fp32"):
    """Average, student, losses and levels of a short training, and what its model then answers."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResidualMLP((2,), RECIPE.fourier_scale, dropout=RECIPE.dropout, width=16, blocks=1)
        torch.nn.init.normal_(network.last.weight, std=0.1)  # the output is not 0
    points = two_moons(64 * steps, generator).float().view(steps, 64, 2)
    with made(mistake):
        learner = Learner(ConsistencyModel(network), RECIPE, learning_rate=1e-2, precision=precision)
        start = [weight.clone() for weight in learner.average.parameters()]
        done = list(fit(learner, lambda step: [Shard(points[step], None, generator)], steps, ema_decay=0.9))
        answer = learner.average.eval()(3 * points[0], torch.full((64,), 3.0)).detach()
    return {
        "moved": max(float((a - b).abs().max()) for a, b in zip(start, learner.average.parameters(), strict=True)),
        "apart": max(float((a - b).detach().abs().max()) for a, b in zip(learner.student.parameters(),
                                                                        learner.average.parameters(), strict=True)),
        "losses": [float(output.loss) for output in done],
        "scales": [output.num_scales for output in done],
        "answer": answer,
    }  # fmt: skip


@pytest.fixture(scope="module")
def right():
    return trained()


# Value: what the paper has, and what the mistake has in its place


def test_all_train_to_other_weights_and_the_losses_are_numbers(right):
    half = {"precision": "bf16"}
    for name in MISTAKES:
        wrong = trained(name, **half if name == "layers-16-bits" else {})
        assert all(loss == loss for loss in wrong["losses"]), name
        assert not torch.equal(wrong["answer"], right["answer"]), name
    assert not torch.equal(trained("layers-16-bits", **half)["answer"], trained(**half)["answer"])


def test_each_is_what_its_name_says(right):
    assert trained("average-swapped")["moved"] == 0 < right["moved"]
    reversed_ = trained("average-reversed")
    assert reversed_["apart"] < 0.5 * right["apart"]
    ends = [right["scales"], trained("log-of-sum")["scales"]]
    assert ends[0] != ends[1]
    with made("no-sigma-min"):
        assert float(levels(ICT, 11, CPU).lo[0]) > 0.002 * 1.5
    assert float(levels(ICT, 11, CPU).lo[0]) == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["c-out-bare"])
def test_without_its_scale_the_boundary_condition_is_gone(name):
    model, x = ConsistencyModel(ResidualMLP((2,), 0.02, width=8, blocks=1)), torch.randn(5, 2)
    torch.nn.init.normal_(model.network.last.weight, std=10.0)
    assert torch.allclose(model(x, 0.002), x, atol=1e-6)
    with made(name):
        assert not torch.allclose(model(x, 0.002), x, atol=1e-3)


# Invariant: after it, nothing is left of it


@pytest.mark.parametrize("name", MISTAKES)
def test_nothing_of_it_stays(name, right):
    place, key, wrong = MISTAKES[name]
    found = place[key] if isinstance(place, dict) else getattr(place, key)

    def interrupted():
        with made(name):
            levels(ICT, 11, CPU)
            assert (place[key] if isinstance(place, dict) else getattr(place, key)) is wrong
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (place[key] if isinstance(place, dict) else getattr(place, key)) is found is not wrong
    assert levels(ICT, 11, CPU).lo[0] == pytest.approx(0.002)


def test_a_training_is_known_by_its_mistake_and_one_without_is_as_it_was():
    plain, wrong = run_from(TINY), run_from({**TINY, "mistake": "no-c-in"})
    assert "mistake" not in identity(plain, 0)
    assert identity(wrong, 0) == {**identity(plain, 0), "mistake": "no-c-in"}


# Independent reference: a study trains it, in its own process


@pytest.mark.slow
def test_a_study_trains_what_is_wrong_beside_what_is_right(tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path))
    variants = {"right": {}, "swapped": {"mistake": "average-swapped"}, "right-again": {}}
    found = execute_study(run_from({**TINY, "name": "wrong", "variants": variants}))
    assert found.result("frechet_pixels_1_step", "right") == found.result("frechet_pixels_1_step", "right-again")
    assert found.result("frechet_pixels_1_step", "right") != found.result("frechet_pixels_1_step", "swapped")


# Errors


def test_an_unknown_mistake_is_refused_with_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(make_project(tmp_path))
    with pytest.raises(ValueError, match="did you mean 'no-c-in'"):
        execute_study(run_from({**TINY, "name": "wrong", "variants": {"a": {"mistake": "no-cin"}}}))
    with pytest.raises(ValueError, match="mistake is 'no-c-in': none, or execute_study, is needed"):
        execute(run_from({**TINY, "mistake": "no-c-in"}))
