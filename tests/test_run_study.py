"""Variants of one run and their table: `ict_lib.run.study`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from ict_lib.config import run_from, variants_of
from ict_lib.files import cores, read_lines
from ict_lib.run import study
from ict_lib.run.execute import execute
from ict_lib.run.study import execute_study
from tests.test_run_execute import TINY, make_project

pytestmark = pytest.mark.slow  # processes that load torch for each study
ROOT = Path(__file__).resolve().parents[1]
PLAIN = {**TINY, "name": "tried", "preset": "CT", "variants": {}}
VARIANTS = {"verbatim": {}, "mu0.5": {"recipe": {"mu0": 0.5}}, "ict": {"preset": "ICT", "seeds": [0, 3]}}
NOT_ALIKE = ("seconds", "peak_memory_bytes")


def tried(**changes):
    return run_from({**PLAIN, "variants": {**VARIANTS, **changes}})


def numbers(rows):
    return [{name: value for name, value in row.items() if name not in NOT_ALIKE} for row in rows]


def started_alone(values, **options):
    """A process of its own that executes a study."""
    script = "import json, sys; from ict_lib.run.study import *; execute_study(run_from(json.loads(sys.argv[1])))"
    command = [sys.executable, "-c", script, json.dumps(values)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, **options)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(make_project(tmp_path_factory.mktemp("study")))
        yield Path.cwd()


@pytest.fixture(scope="module")
def whole(project):
    return execute_study(tried())


# Value: a row is what the run alone would have left


def test_there_is_a_row_for_each_seed_of_each_variant_in_their_order(whole):
    rows = [(row["variant"], row["seed"]) for row in whole.rows]
    assert rows == [("verbatim", 0), ("mu0.5", 0), ("ict", 0), ("ict", 3)]
    assert whole.result("precision_1_step", "ict") == [row["precision_1_step"] for row in whole.rows[2:]]
    assert len({row["frechet_pixels_1_step"] for row in whole.rows}) == 4


def test_a_row_is_what_the_variant_gives_as_a_run_of_its_own(whole):
    record = execute(run_from({**TINY, "name": "alone", "preset": "ICT"}))
    (alone,) = record.manifest["results"]
    row = whole.rows[2]
    assert {name: row[name] for name in alone if name not in NOT_ALIKE} == {
        name: value for name, value in alone.items() if name not in NOT_ALIKE
    }
    assert row["code"] == record.manifest["code"]


def test_trainings_take_as_many_processes_as_the_run_asks_for_and_write_tensorboards_files(whole):
    alone = {
        "name": "many",
        "micro_batch": 16,
        "tensorboard": True,
        "variants": {"ict": {"preset": "ICT", "processes": 2}},
    }
    (row,) = execute_study(run_from({**PLAIN, **alone})).rows
    left = json.loads(Path("runs/many/ict/seed-0/result.json").read_text("utf8"))
    assert left["surroundings"]["processes"] == 2
    assert list(Path("runs/many/ict/tensorboard/seed-0").glob("events*"))
    assert row["frechet_pixels_1_step"] == pytest.approx(whole.rows[2]["frechet_pixels_1_step"], rel=1e-3)


def test_a_variant_with_a_preset_starts_from_it_and_others_from_the_studys_recipe():
    run = run_from({**PLAIN, "recipe": {"s1": 40}, "variants": VARIANTS})
    found = variants_of(run)
    assert (found["mu0.5"].recipe.s1, found["mu0.5"].recipe.mu0, found["mu0.5"].recipe.teacher) == (40, 0.5, "ema")
    assert found["ict"].recipe == run_from({"preset": "ICT"}).recipe
    assert found["verbatim"].recipe == run.recipe


# Invariant: what is there is not made again, and nothing of it is lost


def test_it_leaves_one_table_a_manifest_and_pictures_to_be_kept(whole):
    read = study.read("tried")
    assert (read.run, read.rows) == (tried(), whole.rows)
    assert sorted(path.name for path in whole.folder.glob("samples/*")) == ["ict.png", "mu0.5.png", "verbatim.png"]
    assert list(whole.folder.rglob("checkpoint*")) == []


def test_a_number_written_otherwise_is_the_same_setting():
    first, second = (
        study._settings(run_from({**PLAIN, "variants": {"a": {"recipe": {"dropout": zero}, "sigma_mid": one}}}))
        for zero, one in ((0, 1), (0.0, 1.0))
    )
    assert first == second


def test_only_what_the_table_lacks_is_trained(whole):
    less = {**tried().to_dict(), "variants": {name: VARIANTS[name] for name in ("verbatim", "ict")}}
    table = whole.folder / study.TABLE
    before = table.read_text()
    assert {row["variant"] for row in execute_study(run_from(less)).rows} == {"verbatim", "ict"}
    table.write_text(before)
    before, times = table.read_text(), {path: path.stat().st_mtime_ns for path in whole.folder.rglob("*.safetensors")}
    table.write_text("".join(line for line in before.splitlines(keepends=True) if "mu0.5" not in line))
    (whole.folder / "mu0.5" / "seed-0" / "result.json").unlink()  # as if it had been cut off before its end
    (whole.folder / "mu0.5" / "seed-0" / "weights.safetensors").unlink()
    again = execute_study(tried())
    assert numbers(again.rows) == numbers(map(json.loads, before.splitlines()))
    others = {path: time for path, time in times.items() if "mu0.5" not in str(path)}
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_after_a_kill_the_rest_is_trained_and_no_process_is_left(whole):
    values = {**tried().to_dict(), "name": "killed"}
    started = started_alone(values)
    table, deadline = whole.folder.parent / "killed" / study.TABLE, time.monotonic() + 120
    while not read_lines(table) and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    below = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    assert 0 < len(read_lines(table)) < 4  # in the middle
    assert psutil.wait_procs(below, timeout=30)[1] == []
    assert numbers(execute_study(run_from(values)).rows) == numbers(whole.rows)


def test_more_samples_or_another_level_are_measured_again_without_training(whole):
    values = {**tried().to_dict(), "variants": {"ict": VARIANTS["ict"]}, "name": "measured"}
    first = execute_study(run_from(values))
    weights = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*.safetensors")}
    more = execute_study(run_from({**values, "num_samples": 60, "sigma_mid": 2.0}))
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    alone = execute(run_from({**TINY, "name": "alone-60", "preset": "ICT", "num_samples": 60, "sigma_mid": 2.0}))
    (expected,) = alone.manifest["results"]
    for key in ("frechet_pixels_1_step", "frechet_pixels_2_steps", "fid_1_step"):
        assert more.rows[0][key] == expected[key]
        assert more.rows[0][key] != first.rows[0][key]


def when_it_trains(values, project, **options):
    """A study in a process of its own, as soon as its one training has a line of metrics; that training's folder."""
    place = project / "runs" / values["name"] / "one" / "seed-0"
    started, deadline = started_alone(values, start_new_session=True, **options), time.monotonic() + 300
    while not read_lines(place / "metrics.jsonl") and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert started.poll() is None, options.get("stderr") and started.stderr.read()
    return started, place


@pytest.mark.parametrize("whole_group", [False, True])
def test_a_signal_leaves_a_checkpoint_of_each_training_however_long_a_step_takes(project, whole_group):
    slow = {"steps": 200, "batch_size": 4096, "micro_batch": 4096, "network_options": {"width": 512, "blocks": 4}}
    values = {**PLAIN, **slow, "name": f"slow{whole_group:d}", "log_every": 1, "checkpoint_every": 200}
    started, place = when_it_trains({**values, "variants": {"one": {}}}, project, stderr=subprocess.PIPE, text=True)
    below = psutil.Process(started.pid).children(recursive=True)
    (training,) = [one for one in below if "spawn_main" in " ".join(one.cmdline())]
    training.suspend()  # as in a step, or a writing, of more than the five seconds that a process has without a caller
    os.killpg(started.pid, signal.SIGTERM) if whole_group else started.terminate()  # a kernel's caller signals all
    time.sleep(7)
    training.resume()
    said = started.communicate(timeout=60)[1]
    assert "Stopped: stopped: the same command goes on where it was" in said
    assert len(list(place.glob("step-*.ckpt"))) == 1
    assert psutil.wait_procs(below, timeout=30)[1] == []


def test_after_a_signal_no_other_training_begins(project):
    endless = {"steps": 10**7, "evaluate_every": 10**7, "seeds": list(range(4 * cores())), "variants": {"one": {}}}
    started, place = when_it_trains({**PLAIN, **endless, "name": "queue"}, project)
    started.terminate()
    started.wait(timeout=60)
    assert len(list(place.parent.glob("seed-*"))) <= cores()


def test_a_killed_caller_leaves_no_training_that_would_go_on_for_hours(project):
    values = {**PLAIN, "name": "endless", "steps": 10**7, "evaluate_every": 10**7, "variants": {"one": {}}}
    started, _ = when_it_trains(values, project)
    below = psutil.Process(started.pid).children(recursive=True)
    assert below
    started.kill()
    started.wait()
    assert psutil.wait_procs(below, timeout=30)[1] == []


def test_a_preview_is_trained_anew_where_the_code_was_changed(project, monkeypatch):
    values = {**PLAIN, "name": "preview/code", "variants": {"a": {}}}
    execute_study(run_from(values))
    place = project / "runs" / "preview" / "code"
    result, weights = place / "a" / "seed-0" / "result.json", place / "a" / "seed-0" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    execute_study(run_from(values))
    assert weights.stat().st_mtime_ns == before
    for path in (place / study.TABLE, result):
        path.write_text(path.read_text().replace(json.loads(result.read_text())["surroundings"]["code"], "another"))
    execute_study(run_from(values))
    assert weights.stat().st_mtime_ns != before


def test_the_memory_of_a_training_is_its_own(project):
    wide = {"network_options": {"width": 1024, "blocks": 4}, "steps": 2, "evaluate_every": 2, "checkpoint_every": 2}
    values = {**PLAIN, "name": "memory", "variants": {"a-wide": wide, "b": {}, "c": {}}}
    assert started_alone(values).wait() == 0  # a process's peak begins with what its caller holds
    peaks = {row["variant"]: row["peak_memory_bytes"] for row in study.read("memory").rows}
    assert max(peaks["b"], peaks["c"]) < peaks["a-wide"] - 50e6


def test_of_points_some_are_kept_the_same_noise_for_all(project):
    options = {"data": "ring", "sigma_mid": 0.3, "variants": {"ct": {}, "ict": {"preset": "ICT"}}}
    found = execute_study(run_from({**PLAIN, **options, "name": "points"}))
    kept = {path.stem: np.load(path) for path in found.folder.glob("samples/*.npy")}
    assert set(kept) == {"ct", "ict"}
    assert all((points.shape, points.dtype) == ((2, 500, 2), np.float16) for points in kept.values())
    assert not np.array_equal(kept["ct"], kept["ict"])
    assert set(found.rows[0]) > {"sliced_wasserstein_1_step", "on_data_2_steps"}


def test_what_a_page_shows_while_it_is_built_starts_anew_where_the_page_was_changed(project):
    variants = {"a": {"recipe": {"mu0": 0.5}}}
    first = execute_study(run_from({**PLAIN, "name": "preview/page", "variants": variants}))
    changed = {**PLAIN, "name": "preview/page", "variants": {"a": {"recipe": {"mu0": 0.1}}}}
    again = execute_study(run_from(changed))
    assert again.run.variants != first.run.variants
    assert [row["settings"] for row in again.rows] != [row["settings"] for row in first.rows]
    execute_study(run_from({**PLAIN, "name": "page", "variants": variants}))
    with pytest.raises(ValueError, match="made with other settings"):  # what is no preview is not thrown away
        execute_study(run_from({**changed, "name": "page"}))


# Errors


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        ({"Big": {}}, "the label of a variant is 'Big': lower-case letters"),
        ({"..": {}}, "the label of a variant is"),
        ({"a": 3}, "variant a is 3: a dict"),
        ({"a": {"recipe": 3}}, "the recipe of variant a is 3: a dict"),
        ({"a": {"recipe": {"droput": 0.1}}}, "did you mean 'dropout'"),
        ({"a": {"stepps": 1}}, "did you mean 'steps'"),
        ({"a": {"batch_size": 0}}, "1 <= batch_size"),
    ],
)
def test_a_variant_that_cannot_be_is_refused_before_anything_is_loaded(variants, message):
    with pytest.raises(ValueError, match=message):
        run_from({**PLAIN, "variants": variants})


def test_one_that_diverges_is_named_and_the_others_are_trained(project):
    variants = {"a": {}, "b": {"learning_rate": 10.0}, "c": {}}
    run = run_from({**PLAIN, "name": "one-diverges", "variants": variants})
    with pytest.raises(RuntimeError, match=r"1 of 3 trainings failed: b/seed-0: FloatingPointError: .* step \d+"):
        execute_study(run)
    assert [row["variant"] for row in study.read("one-diverges").rows] == ["a", "c"]


def test_a_study_is_not_executed_as_if_it_had_no_variants(project):
    with pytest.raises(ValueError, match=r"variants is \['verbatim', 'mu0.5', 'ict'\]: none, or execute_study"):
        execute(tried())


def test_what_is_not_there_is_named(whole):
    with pytest.raises(FileNotFoundError, match="study 'none' has no record yet: `make run RUN=none` makes it"):
        study.read("none")
    with pytest.raises(ValueError, match=r"unknown variant 'mu05': did you mean 'mu0\.5'"):
        whole.result("precision_1_step", "mu05")
    with pytest.raises(ValueError, match="unknown result 'precision': did you mean 'precision_1_step'"):
        whole.result("precision", "ict")


def test_a_mistake_that_other_processes_would_not_make_is_refused(project):
    run = tried(wrong={"mistake": "no-c-in", "processes": 2})
    with pytest.raises(ValueError, match="processes is 2: 1 where a mistake is made"):
        execute_study(run)
