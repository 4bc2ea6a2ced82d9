"""A run from its fields to its record: `ict_lib.run.execute`. The notebook around it is in test_run_notebook.py."""

import json
import shutil
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ict_lib.config import run_from
from ict_lib.data import load_dataset
from ict_lib.evaluation.measure import draw, measure, quick
from ict_lib.run import record as records
from ict_lib.run.execute import execute
from ict_lib.run.trained import trained_model
from ict_lib.sampling import sample
from ict_lib.training import train
from ict_lib.training.measuring import FINAL, QUICK
from tests.test_files import another

TINY = {
    "name": "tiny",
    "steps": 24,
    "batch_size": 32,
    "micro_batch": 16,
    "log_every": 4,
    "evaluate_every": 8,
    "checkpoint_every": 8,
    "num_samples": 50,
    "network_options": {"width": 16, "blocks": 1},
}
LEFT = {"manifest.json", "metrics.jsonl", "samples.png", "README.md", "seed-0"}
OF_A_SEED = {"identity.json", "result.json", "metrics.jsonl", "weights.safetensors", "looks"}
LOCKS = {"lock", "lock.json"}


def make_project(folder):
    (folder / "pyproject.toml").touch()
    (folder / "ict_lib").mkdir()
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, with the current folder in it."""
    monkeypatch.chdir(make_project(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """The record of a finished run, to copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("once")))
        yield execute(TINY)


@pytest.fixture
def first(once, project):
    """The record of a finished run in a project of its own."""
    shutil.copytree(once.folder, project / "runs" / "tiny")
    return records.read("tiny")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A record of two seeds, measured on the way, with everything that a run can leave; one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("whole")))
        asked = {"seeds": [0, 3], "measure_every": 12, "milestone_every": 12, "tensorboard": True, "conditional": True}
        yield execute({**TINY, **asked})


def names(folder):
    return {path.name for path in folder.iterdir()} - LOCKS


def weights(folder, seed=0):
    return safetensors.torch.load_file(folder / f"seed-{seed}" / "weights.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def never(training):
    """A ``show`` that must not be asked."""
    raise AssertionError("it was trained again")


class Watched:
    """A ``show`` that remembers which trainings began, and at which step."""

    def __init__(self):
        self.begun = []

    def __call__(self, training):
        self.begun.append((training.seed, training.step))
        return training


# Value: what a run leaves


def test_a_run_leaves_its_record_and_of_each_seed_what_can_be_used_again(whole):
    assert names(whole.folder) == LEFT | {"seed-3", "tensorboard"}
    kept = {"best.safetensors", "step-000000012-kept.ckpt", "step-000000024-kept.ckpt"}
    for seed in (0, 3):
        place = whole.folder / f"seed-{seed}"
        assert names(place) == OF_A_SEED | kept
        assert names(place / "looks") == {f"step-{step:09d}.png" for step in (8, 16, 24)}


def test_the_record_says_what_was_asked_and_what_came_out(whole):
    assert records.read("tiny") == whole
    assert whole.run.to_dict() == whole.manifest["run"]
    assert (whole.run.steps, whole.run.seeds, whole.run.measure_every) == (24, [0, 3], 12)
    for key in ("versions", "device", "commit", "code", "data_checksum", "seconds", "peak_memory_bytes"):
        assert whole.manifest[key] not in (None, "", [], 0), key
    assert whole.manifest["images_seen"] == 2 * 24 * 32
    assert "tiny" in (whole.folder / "README.md").read_text()
    with Image.open(whole.folder / "samples.png") as picture:
        assert picture.width == picture.height  # ten by ten


def test_the_metrics_hold_quick_and_full_measurements_where_they_were_due(whole):
    for seed in (0, 3):
        lines = whole.of_seed(seed)
        assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
        assert [line["step"] for line in lines if "frechet_pixels_1_step" in line] == [8, 16, 24]
        assert [line["step"] for line in lines if "fid_1_step" in line] == [12, 24]
        assert [line["step"] for line in lines if "fid_2_steps" in line] == [24]  # on the way the FID alone
        assert [line["images_seen"] for line in lines] == [32 * line["step"] for line in lines]


def test_the_best_weights_are_those_of_the_lowest_fid_on_the_way(whole):
    for seed, result in zip((0, 3), whole.manifest["results"], strict=True):
        by_fid = {line["fid_1_step"]: line["step"] for line in whole.of_seed(seed) if "fid_1_step" in line}
        assert result["best_fid_1_step"] == min(by_fid)
        assert result["best_step"] == by_fid[min(by_fid)]
        best = safetensors.torch.load_file(whole.folder / f"seed-{seed}" / "best.safetensors")
        assert same(best, weights(whole.folder, seed)) == (result["best_step"] == 24)


def test_tensorboard_shows_the_same_numbers_and_the_samples(whole):
    for seed in (0, 3):
        board = EventAccumulator(str(whole.folder / "tensorboard" / f"seed-{seed}"))
        board.Reload()
        shown = [(event.step, event.value) for event in board.Scalars("loss")]
        assert shown == [(line["step"], pytest.approx(line["loss"], rel=1e-6)) for line in whole.of_seed(seed)]
        assert [event.step for event in board.Images("samples")] == [8, 16, 24]


def test_a_conditional_model_takes_the_label(whole, monkeypatch):
    monkeypatch.chdir(whole.folder)
    model = trained_model("tiny", 3)
    images = [
        sample(model, 2, (1, 8, 8), (80.0,), torch.Generator().manual_seed(0), torch.tensor(label))
        for label in ([1, 1], [1, 9])
    ]
    assert torch.equal(images[0][0], images[1][0])
    assert not torch.equal(images[0][1], images[1][1])


# Independent slow reference: the training alone, and its weights measured by hand


def test_the_numbers_are_those_of_the_weights_measured_by_hand(whole, monkeypatch):
    monkeypatch.chdir(whole.folder)
    data, model = load_dataset("digits"), trained_model("tiny", 3)
    alone = train(whole.run, seed=3)
    list(alone)
    assert same(alone.average.state_dict(), weights(whole.folder, 3))
    found = measure(draw(model, data, 50, (80.0,), FINAL + 3), data, "1_step")
    found |= measure(draw(model, data, 50, (80.0, 0.821), FINAL + 3), data, "2_steps")
    result = whole.manifest["results"][1]
    assert {name: result[name] for name in found} == pytest.approx(found, rel=1e-4)
    eighth = next(line for line in whole.of_seed(3) if line["step"] == 8)
    before = train(whole.run, seed=3)
    next(before), next(before)
    assert eighth["frechet_pixels_1_step"] == pytest.approx(
        quick(before.average, data, 80.0, QUICK + 3)["frechet_pixels_1_step"], rel=1e-4
    )


# Invariant: what is finished is recognised, and what is measured otherwise is measured again


def test_a_finished_run_is_recognised_however_it_is_shown_or_computed(whole, monkeypatch):
    monkeypatch.chdir(whole.folder)
    started, other = time.monotonic(), {"log_every": 2, "evaluate_every": 4, "milestone_every": None, "compile": True}
    again = execute({**whole.manifest["run"], **other, "sources": {"steps": "own"}}, never)
    assert time.monotonic() - started < 5
    assert again.manifest["results"] == whole.manifest["results"]
    assert again.metrics == whole.metrics
    assert again.run.sources == {"steps": "own"}


def test_more_samples_or_another_level_are_measured_again_without_training(first):
    more = execute({**TINY, "num_samples": 60, "sigma_mid": 2.0}, never)
    before, now = first.manifest["results"][0], more.manifest["results"][0]
    assert before.keys() == now.keys()
    changed = {name for name in before if before[name] != now[name]}
    measured = {name for name in before if name.endswith(("_1_step", "_2_steps"))}
    assert {"frechet_pixels_1_step", "fid_1_step", "fid_2_steps", "kid_2_steps"} <= changed <= measured
    assert (more.run.num_samples, more.run.sigma_mid) == (60, 2.0)
    level = execute({**TINY, "num_samples": 60}, never).manifest["results"][0]
    changed = {name for name in now if level[name] != now[name]}
    assert {"frechet_pixels_2_steps", "fid_2_steps"} <= changed <= {n for n in measured if n.endswith("_2_steps")}
    assert execute(TINY, never).manifest["results"] == first.manifest["results"]


def test_an_interrupted_run_goes_on_to_the_same_record(project):
    def stop(training):
        for metrics in training:
            if training.seed == 3 and metrics.step > 16:
                raise KeyboardInterrupt
            yield metrics

    seeds = {**TINY, "seeds": [0, 3]}
    with pytest.raises(KeyboardInterrupt):
        execute(seeds, stop)
    assert not records.exists("tiny")
    assert len((project / "runs/tiny/seed-3/metrics.jsonl").read_text().splitlines()) == 5
    gone_on = execute(seeds, watched := Watched())
    assert watched.begun == [(3, 16)]
    straight = execute({**seeds, "name": "straight"})
    assert [(line["seed"], line["step"], line["loss"]) for line in gone_on.metrics] == [
        (line["seed"], line["step"], line["loss"]) for line in straight.metrics
    ]
    assert all(same(weights(gone_on.folder, seed), weights(straight.folder, seed)) for seed in (0, 3))


def test_one_seed_more_trains_that_one_alone(first):
    record = execute({**TINY, "seeds": [0, 1]}, watched := Watched())
    assert watched.begun == [(1, 0)]
    assert [result["seed"] for result in record.manifest["results"]] == [0, 1]
    assert record.manifest["results"][0] == first.manifest["results"][0]


def test_a_preview_starts_anew_unless_the_same_code_has_finished_the_same_settings(first):
    place = first.folder.with_name("preview") / "a"
    shutil.copytree(first.folder, place)
    preview, result = {**TINY, "name": "preview/a"}, place / "seed-0" / "result.json"
    execute(preview, never)
    left = json.loads(result.read_text())
    left["surroundings"]["code"] = "of another library"
    result.write_text(json.dumps(left))
    execute(preview, watched := Watched())
    execute({**preview, "steps": 20}, watched)
    with pytest.raises(ZeroDivisionError):
        execute(preview, lambda training: (1 / (metrics.step < 12) for metrics in training))
    execute(preview, watched)
    assert watched.begun == [(0, 0)] * 3
    execute(preview, never)


def test_resume_false_trains_again_to_the_same_weights(first):
    again = execute(run_from(TINY), watched := Watched(), resume=False)
    assert watched.begun == [(0, 0)]
    assert again.result("fid_1_step") == first.result("fid_1_step")


@pytest.mark.slow
def test_two_processes_leave_the_same_as_one(first):
    one = first
    two = execute({**TINY, "name": "two", "processes": 2, "tensorboard": True})
    assert names(two.folder) == LEFT | {"tensorboard"}
    assert names(two.folder / "seed-0") >= OF_A_SEED
    assert (one.manifest["processes"], two.manifest["processes"]) == (1, 2)
    assert [line["step"] for line in two.metrics] == [line["step"] for line in one.metrics]
    ours, theirs = weights(one.folder), weights(two.folder)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6)
    sheets = [np.asarray(Image.open(record.folder / "samples.png")).astype(int) for record in (one, two)]
    assert abs(sheets[0] - sheets[1]).max() <= 1
    assert two.result("fid_1_step") == pytest.approx(one.result("fid_1_step"), rel=0.05)
    assert execute({**TINY, "name": "two"}, never).manifest["results"] == two.manifest["results"]


# Errors


def test_other_settings_in_the_same_place_are_refused_with_what_differs(first):
    with pytest.raises(ValueError, match=r"with other settings \(recipe.dropout: 0.3 -> 0.1\): restore them, .*ANEW=1"):
        execute({**TINY, "recipe": {"dropout": 0.1}})
    assert records.read("tiny") == first


def test_a_run_that_another_process_trains_is_refused_until_it_has_gone(first):
    holder = another(first.folder / "seed-0", "input()")
    with pytest.raises(RuntimeError, match=f"process {holder.pid} on .* works in"):
        execute(TINY)
    holder.communicate("\n")
    execute(TINY, never)


def test_damaged_weights_of_a_finished_training_are_named(first):
    place = first.folder / "seed-0" / "weights.safetensors"
    place.write_bytes(place.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"weights\.safetensors is damaged"):
        execute(TINY)


def test_a_mistake_or_missing_data_are_named_and_leave_nothing(project, monkeypatch):
    with pytest.raises(ValueError, match="did you mean 'steps'"):
        execute({**TINY, "stpes": 3})
    monkeypatch.setenv("ICT_DATA", str(project / "none"))
    with pytest.raises(FileNotFoundError, match="python -m ict_lib data cifar10"):
        execute({**TINY, "data": "cifar10"})
    assert not (project / "runs").exists()
