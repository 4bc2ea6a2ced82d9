"""Measuring on the way: `ict_lib.training.measuring`, and what it must not do to the training."""

from dataclasses import replace

import pytest
import safetensors.torch
import torch
from ict_lib.run_config import Measuring

from ict_lib.data import load_dataset
from ict_lib.evaluation import measure as report
from ict_lib.evaluation.measure import draw, measure
from ict_lib.group import Alone
from ict_lib.training import train
from ict_lib.training.checkpoint import BEST
from ict_lib.training.measuring import best_result, best_so_far, final_seed, keep_best
from tests.test_training_loop import config, numbers
from tests.test_training_loop_resume import interrupted, same

ASKED = Measuring(every=5, num_samples=60, sigma_mid=0.8)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    settings = config(measuring=ASKED, folder=str(tmp_path_factory.mktemp("measured")), checkpoint_every=1)
    training = train(settings)
    return training, list(training)


# Value


def test_it_measures_when_due_and_at_the_end(measured):
    assert [record.step for record in measured[1] if record.measured] == [5, 10, 12]
    fields = set(measured[1][-1].measured)
    assert {"fid_1_step", "fid_2_steps", "precision_1_step", "frechet_pixels_2_steps"} <= fields
    assert measured[1][-1].line()["fid_1_step"] == measured[1][-1].measured["fid_1_step"]


def test_the_last_numbers_are_those_that_the_end_of_the_run_gives(measured):
    training, records = measured
    for label, sigmas in {"1_step": (80.0,), "2_steps": (80.0, 0.8)}.items():
        images = draw(training.average, training.data, 60, sigmas, seed=final_seed(0))
        for name, value in measure(images, training.data, label).items():
            assert records[-1].measured[name] == pytest.approx(value), name


def test_the_best_weights_are_kept_with_their_step(measured):
    training, records = measured
    by_fid = {record.step: record.measured["fid_1_step"] for record in records if record.measured}
    best = min(by_fid, key=by_fid.get)
    assert best_result(training.config) == {"best_step": best, "best_fid_1_step": by_fid[best]}


# Invariant


def test_measuring_changes_nothing_of_the_training(measured):
    plain = train(config())
    list(plain)
    assert same(measured[0], plain)


def test_resuming_measures_again_what_was_lost_and_not_what_was_kept(tmp_path, measured):
    settings = config(measuring=ASKED, folder=str(tmp_path), checkpoint_every=4)
    assert [step for step, *_ in interrupted(settings, 5)] == [1, 2, 3, 4, 5]
    training = train(settings)  # from step 4, before the measurement at step 5
    records = list(training)
    assert {r.step: r.measured for r in records if r.measured} == {
        r.step: r.measured for r in measured[1] if r.measured
    }
    assert best_so_far(tmp_path / BEST) == tuple(best_result(measured[0].config).values())


class Pretended(Alone):
    """One of several processes, whose exchanges are what it would have drawn in the place of the others."""

    def __init__(self, rank, processes, asked):
        self.rank, self.processes, self.asked = rank, processes, asked

    def gather(self, tensor):
        self.asked.append(tensor)
        return [tensor] * self.processes


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_processes_share_the_blocks_out(monkeypatch, processes):
    """What the ranks draw, laid side by side, are the images that one process draws, in their order."""
    monkeypatch.setattr(report, "BLOCK", 4)
    model, data = train(config()).student, load_dataset("digits")
    torch.nn.init.normal_(model.network.last.weight, generator=torch.Generator().manual_seed(0))
    drawn = {rank: [] for rank in range(processes)}
    for rank in drawn:
        images = draw(model, data, 14, (80.0, 0.8), 3, Pretended(rank, processes, drawn[rank]))
        assert len(images) == (14 if rank == 0 else 0)
    rounds = [part for parts in zip(*drawn.values(), strict=True) for part in parts]
    together = torch.cat(rounds[:4])[:14].clamp(-1, 1)
    assert torch.equal(together, draw(model, data, 14, (80.0, 0.8), 3))


def test_blocks_differ_and_a_small_number_is_one_block(monkeypatch):
    model, data = train(config()).student, load_dataset("digits")
    torch.nn.init.normal_(model.network.last.weight, generator=torch.Generator().manual_seed(0))
    one = draw(model, data, 12, (80.0,), 3)
    monkeypatch.setattr(report, "BLOCK", 4)
    blocks = draw(model, data, 12, (80.0,), 3).split(4)
    assert torch.equal(blocks[0], draw(model, data, 4, (80.0,), 3))
    assert not torch.equal(blocks[0], blocks[1])
    assert not torch.equal(torch.cat(blocks), one)


# Keeping the best


def test_better_weights_replace_worse_ones_and_a_new_training_replaces_all(tmp_path):
    model, path = train(config()).student, tmp_path / BEST
    assert best_so_far(path) is None

    def keep(step, value):
        torch.nn.init.constant_(model.network.last.bias, step)
        keep_best(path, model, step, value)
        return best_so_far(path)

    assert keep(10, 3.5) == (10, 3.5)
    assert keep(20, 3.6) == (10, 3.5)
    assert safetensors.torch.load_file(path)["network.last.bias"][0] == 10
    assert keep(30, 0.1) == (30, 0.1)
    assert keep(10, 7.0) == (10, 7.0)  # step 30 belongs to a training that was given up
    assert safetensors.torch.load_file(path)["network.last.bias"][0] == 10


def test_without_a_folder_nothing_is_kept_and_without_measuring_there_is_no_best(tmp_path):
    training = train(config(measuring=replace(ASKED, every=12)))
    assert list(training)[-1].measured["fid_1_step"] > 0
    assert best_result(training.config) == {}
    assert best_result(config(folder=str(tmp_path))) == {}


def test_weights_are_measured_as_they_are_sampled_and_stay_in_training_mode(measured):
    assert measured[0].student.training
    assert not torch.equal(numbers(measured[0].average), numbers(measured[0].student))
