"""Measuring on the way: `ict_lib.training.measuring`, and what it must not do to the training."""

from dataclasses import replace
from importlib.metadata import version

import pytest
import safetensors.torch
import torch
from PIL import Image

from ict_lib.config import EVALUATION, Run
from ict_lib.evaluation.measure import draw, measure
from ict_lib.files import read_lines
from ict_lib.group import Alone
from ict_lib.training import Training, train
from ict_lib.training import measuring as module
from ict_lib.training.folder import BEST, LOOKS, METRICS, WEIGHTS, best_of, read_result
from ict_lib.training.measuring import FINAL, evaluate, keep_best, measure_fully, write_picture
from ict_lib.training.model import build_model, load_weights
from tests.test_training_loop import numbers, small
from tests.test_training_loop_resume import same

ASKED = {"measure_every": 5, "evaluate_every": 4, "num_samples": 60, "sigma_mid": 0.8, "checkpoint_every": 1}


def measuring(settings, folder=None):
    return Training(settings, folder=folder, evaluate=evaluate)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A training that measured, its records, and its folder."""
    folder = tmp_path_factory.mktemp("measured")
    training = measuring(small(**ASKED), folder)
    return training, list(training), folder


# Value


def test_it_measures_when_due_and_at_the_end(measured):
    names = ("frechet_pixels_1_step", "fid_1_step")
    quick, full = ([record.step for record in measured[1] if name in record.measured] for name in names)
    assert quick == [4, 8, 12]
    assert full == [5, 10, 12]
    assert {"fid_2_steps", "precision_1_step", "frechet_pixels_2_steps"} <= set(measured[1][-1].measured)
    assert set(measured[1][4].measured) == {"fid_1_step"}  # on the way that alone
    looks = [path.name for path in sorted((measured[2] / LOOKS).iterdir())]
    assert looks == [f"step-{step:09d}.png" for step in (4, 8, 12)]


@pytest.mark.parametrize(("log_every", "due"), [(5, [5, 10, 12]), (3, [6, 9, 12]), (7, [7, 12]), (50, [12])])
def test_what_is_due_between_two_records_is_measured_at_the_next(tmp_path, log_every, due):
    """``evaluate_every`` is 4, which these do not divide."""
    training = measuring(small(log_every=log_every, evaluate_every=4, num_samples=20), tmp_path)
    assert [r.step for r in training if "frechet_pixels_1_step" in r.measured] == due
    looks = sorted(int(path.stem.removeprefix("step-")) for path in (tmp_path / LOOKS).iterdir())
    assert looks == due


def test_the_last_numbers_are_those_that_the_end_of_the_run_gives(measured):
    training, records, folder = measured
    result = read_result(folder)["result"]
    for label, sigmas in {"1_step": (80.0,), "2_steps": (80.0, 0.8)}.items():
        images = draw(training.average, training.data, 60, sigmas, seed=FINAL)
        for name, value in measure(images, training.data, label).items():
            assert records[-1].measured[name] == result[name] == pytest.approx(value), name


def test_the_best_weights_are_kept_with_their_step(measured):
    _, records, folder = measured
    by_fid = {record.step: record.measured["fid_1_step"] for record in records if "fid_1_step" in record.measured}
    best = min(by_fid, key=by_fid.get)
    assert best_of(folder, 60) == {"best_step": best, "best_fid_1_step": by_fid[best]}
    assert best_of(folder, 60).items() <= read_result(folder)["result"].items()


def test_the_result_says_what_it_was_made_with(measured):
    training, _, folder = measured
    left = read_result(folder)
    assert left["evaluation"] == {name: ASKED[name] for name in EVALUATION}
    assert left["surroundings"]["data_checksum"] == training.data.checksum()
    assert left["surroundings"]["versions"]["torch"] == version("torch")
    assert (left["result"]["seed"], left["result"]["images_seen"]) == (0, 96)
    model = build_model(training.run, (1, 8, 8), 10)
    load_weights(folder / WEIGHTS, model)
    assert torch.equal(numbers(model), numbers(training.average))


# Invariant


def test_measuring_changes_nothing_of_the_training(measured):
    plain = train(small())
    list(plain)
    assert same(measured[0], plain)


def test_resuming_measures_again_what_was_lost_and_not_what_was_kept(tmp_path, measured):
    settings = small(**{**ASKED, "checkpoint_every": 4})
    first = measuring(settings, tmp_path)
    assert [r.step for _, r in zip(range(5), first, strict=False)] == [1, 2, 3, 4, 5]
    training = measuring(settings, tmp_path)  # from step 4, before the measurement at step 5
    assert training.last.measured == measured[1][3].measured
    assert [r.measured for r in training] == [r.measured for r in measured[1][4:]]
    assert best_of(tmp_path, 60) == best_of(measured[2], 60)


def test_weights_are_measured_as_they_are_sampled_and_stay_in_training_mode(measured):
    assert measured[0].student.training
    assert not torch.equal(numbers(measured[0].average), numbers(measured[0].student))


@pytest.mark.parametrize("precision", ["tf32", "fp32"])
def test_a_training_in_tf32_is_measured_without_it(tmp_path, precision):
    seen = {"student": set(), "average": set()}
    training = measuring(small(**ASKED, precision=precision, log_every=4), tmp_path)
    for name, flags in seen.items():
        network = getattr(training, name)
        network.register_forward_pre_hook(lambda *_, flags=flags: flags.add(torch.backends.cudnn.allow_tf32))
    list(training)
    assert seen == {"student": {precision == "tf32"}, "average": {False}}


# Keeping the best


def test_better_weights_replace_worse_ones_and_a_new_training_replaces_all(tmp_path):
    model = train(small()).student
    assert best_of(tmp_path, 50) == {}

    def keep(step, value):
        torch.nn.init.constant_(model.network.last.bias, step)
        keep_best(tmp_path, model, step, value, 50)
        return tuple(best_of(tmp_path, 50).values())

    assert keep(10, 3.5) == (10, 3.5)
    assert keep(20, 3.6) == (10, 3.5)
    assert safetensors.torch.load_file(tmp_path / BEST)["network.last.bias"][0] == 10
    assert keep(30, 0.1) == (30, 0.1)
    assert keep(10, 7.0) == (10, 7.0)  # step 30 belongs to steps that were given up
    assert safetensors.torch.load_file(tmp_path / BEST)["network.last.bias"][0] == 10


def test_fids_of_other_numbers_of_samples_do_not_compare(tmp_path):
    model = train(small()).student
    keep_best(tmp_path, model, 10, 3.5, 50)
    assert best_of(tmp_path, 60) == {}
    keep_best(tmp_path, model, 20, 9.9, 60)
    assert best_of(tmp_path, 60) == {"best_step": 20, "best_fid_1_step": 9.9}


def test_the_fid_on_the_way_is_the_one_that_all_numbers_go_with(measured):
    training = measured[0]
    whole = measure_fully(training.average, training.data, training.run, 0)
    alone = measure_fully(training.average, training.data, training.run, 0, on_the_way=True)
    assert alone == {"fid_1_step": whole["fid_1_step"]}


def test_points_have_no_best_and_are_measured_on_the_way_all_the_same(tmp_path):
    settings = Run(data="ring", network_options={"width": 16, "blocks": 1}, steps=4, batch_size=8, device="cpu")
    list(measuring(replace(settings, log_every=1, measure_every=2, num_samples=50), tmp_path))
    assert [line["step"] for line in read_lines(tmp_path / METRICS) if "on_data_1_step" in line] == [2, 4]
    assert best_of(tmp_path, 50) == {}


def test_images_are_drawn_before_any_is_measured_so_that_no_exchange_waits_for_that(monkeypatch, measured):
    order, training = [], measured[0]

    class Watched(Alone):
        def gather(self, tensor):
            order.append("exchange")
            return super().gather(tensor)

        def wait(self):
            order.append("wait")

    monkeypatch.setattr(module, "measure", lambda *_: order.append("measure") or {})
    measure_fully(training.average, training.data, training.run, 0, Watched())
    assert order == ["exchange", "exchange", "measure", "measure", "wait"]


def test_without_a_folder_nothing_is_kept_and_without_measuring_there_is_no_best(tmp_path):
    assert list(measuring(small(**{**ASKED, "measure_every": 12})))[-1].measured["fid_1_step"] > 0
    list(measuring(small(num_samples=20, evaluate_every=50), tmp_path))
    assert best_of(tmp_path, 50) == {}
    assert "best_step" not in read_result(tmp_path)["result"]


# Pictures


def test_a_picture_is_a_grid_of_enlarged_images(tmp_path):
    images = torch.stack([torch.full((1, 8, 8), value) for value in (-1.0, 0.0, 3.0)])
    write_picture(tmp_path / "new" / "a.png", images, columns=2)
    picture = Image.open(tmp_path / "new" / "a.png").convert("L")
    assert picture.size == (4 * (2 * 9 - 1), 4 * (2 * 9 - 1))
    centre = [picture.getpixel((4 * 9 * column + 16, 4 * 9 * row + 16)) for row, column in ((0, 0), (0, 1), (1, 0))]
    assert centre == [0, 128, 255]
