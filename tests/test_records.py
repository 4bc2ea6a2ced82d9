"""A run's record: `ict_lib.run.record`, and the manifest in it: `ict_lib.run.manifest`."""

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from statistics import median

import pytest
import torch
from ict_lib.run_file import run_from

from ict_lib.data import load_dataset
from ict_lib.recipe import CT
from ict_lib.run import manifest
from ict_lib.run import record as records
from ict_lib.run.record import MetricsLog, exists, project_root, read, results_folder, spread, table, write

RUNS = Path(__file__).resolve().parents[1] / "runs"
RESULTS = [
    {"seed": 0, "seconds": 1.5, "images_seen": 100, "peak_memory_bytes": 5, "frechet": 3.0},
    {"seed": 1, "seconds": 2.5, "images_seen": 100, "peak_memory_bytes": 9, "frechet": 1.0},
    {"seed": 2, "seconds": 1.0, "images_seen": 100, "peak_memory_bytes": 7, "frechet": 1.25},
]
METRICS = [{"seed": 0, "step": 1, "loss": 0.1}, {"seed": 0, "step": 2, "loss": 1 / 3}]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, with the current folder somewhere inside."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    (tmp_path / "book" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "book" / "deep")
    return tmp_path


# Value: what is read is what was written


def test_round_trip(project):
    write(results_folder("digits/ict"), {"name": "digits/ict", "results": RESULTS}, METRICS)
    record = read("digits/ict")
    assert record.folder == project / "runs" / "digits" / "ict"
    assert record.manifest == {"name": "digits/ict", "results": RESULTS}
    assert record.metrics == METRICS
    assert record.result("frechet") == [3.0, 1.0, 1.25]


def test_the_files_are_json_that_anybody_reads(project):
    folder = results_folder("a")
    write(folder, {"results": RESULTS}, METRICS)
    assert json.loads((folder / "manifest.json").read_text()) == {"results": RESULTS}
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == METRICS
    assert sorted(p.name for p in folder.iterdir()) == ["manifest.json", "metrics.jsonl"]


def test_the_project_is_found_from_below(project):
    assert project_root() == project
    assert project_root(project / "book") == project


# Invariant: whole or not there


@pytest.mark.parametrize("moment", [(os, "fsync"), (Path, "replace")])
def test_an_interrupted_write_leaves_the_old_record(project, monkeypatch, moment):
    folder = results_folder("a")
    write(folder, {"results": RESULTS}, METRICS)

    def stop(*_):
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(*moment, stop)
        with pytest.raises(OSError):  # noqa: PT011
            write(folder, {"results": []}, [])
    assert read("a").manifest == {"results": RESULTS}
    assert read("a").metrics == METRICS


def test_a_record_exists_only_when_both_files_do(project, monkeypatch):
    """The manifest is written last, and it is what is looked for."""
    written, real = [], records.write_atomically
    monkeypatch.setattr(records, "write_atomically", lambda path, content: (written.append(path), real(path, content)))
    assert not exists("a")
    write(results_folder("a"), {"results": []}, METRICS)
    assert [path.name for path in written] == ["metrics.jsonl", "manifest.json"]
    assert exists("a")


def test_a_log_goes_on_where_the_training_does(tmp_path):
    """Lines after the checkpoint are dropped, since they will be written again; so is one that was cut off."""
    log = MetricsLog(tmp_path / "new")
    for step in (1, 2, 3, 4):
        log.append({"step": step, "loss": step / 3})
    with log.path.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [line["step"] for line in log.lines()] == [1, 2, 3, 4]
    again = MetricsLog(tmp_path / "new", step=2)
    again.append({"step": 3, "loss": 0.5})
    assert again.lines() == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}, {"step": 3, "loss": 0.5}]
    assert MetricsLog(tmp_path / "new").lines() == []


# Independent slow reference


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([3.0, 1.0, 1.25], "1.25 (1 to 3)"),
        ([2.0], "2 (2 to 2)"),
        ([1.0, 2.0], "1.5 (1 to 2)"),
        ([0.0123456, 0.02, 1234.5], "0.02 (0.0123 to 1.23e+03)"),
        ([-1.0, -2.0, -3.0], "-2 (-3 to -1)"),
    ],
)
def test_spread_is_the_median_between_the_extremes(values, said):
    assert spread(values) == said


def test_the_middle_of_many_seeds():
    values = torch.rand(101, generator=torch.Generator().manual_seed(0)).tolist()
    assert spread(values).startswith(f"{sorted(values)[50]:.3g} (")
    assert median(values) == sorted(values)[50]


def test_a_table_has_a_row_a_run_in_the_order_asked(project):
    for name, factor in (("b", 2), ("a", 1)):
        scaled = [{**result, "frechet": factor * result["frechet"]} for result in RESULTS]
        write(results_folder(name), {"results": scaled, "seeds": [0, 1, 2]}, [])
    assert table(["b", "a"], {"distance": "frechet", "time": "seconds"}) == [
        {"run": "b", "distance": "2.5 (2 to 6)", "time": "1.5 (1 to 2.5)", "seeds": 3},
        {"run": "a", "distance": "1.25 (1 to 3)", "time": "1.5 (1 to 2.5)", "seeds": 3},
    ]


def test_the_line_of_the_checkpoints_step_is_added_where_an_interruption_lost_it(tmp_path):
    log = MetricsLog(tmp_path)
    for step in (1, 2):
        log.append({"step": step})
    assert MetricsLog(tmp_path, 3, {"step": 3, "loss": 0.5}).lines()[1:] == [{"step": 2}, {"step": 3, "loss": 0.5}]
    assert MetricsLog(tmp_path, 3, {"step": 3, "loss": 9.0}).lines()[-1] == {"step": 3, "loss": 0.5}  # there already
    assert MetricsLog(tmp_path / "new", 3, {"step": 3}).lines() == [{"step": 3}]


# The manifest


def made(**parameters):
    run = run_from({"name": "digits/test", "preset": "CT", "seeds": [0, 1, 2], "steps": 7, **parameters})
    return manifest.manifest_of(run, RESULTS, torch.device("cpu"), load_dataset("digits"))


def test_the_manifest_says_all_that_a_repetition_needs():
    found = made(recipe={"dropout": 0.1}, network_options={"width": 8})
    assert json.loads(json.dumps(found)) == found
    assert found["recipe"] == {**asdict(CT), "dropout": 0.1}
    assert found["training"]["steps"] == 7
    assert found["training"]["network_options"] == {"width": 8}
    assert (found["name"], found["preset"], found["seeds"]) == ("digits/test", "CT", [0, 1, 2])
    assert (found["seconds"], found["images_seen"], found["results"]) == (5.0, 300, RESULTS)
    assert torch.__version__.startswith(found["versions"]["torch"])
    assert found["device"].startswith(f"CPU, {torch.get_num_threads()} thread")
    assert found["peak_memory_bytes"] == max(result["peak_memory_bytes"] for result in RESULTS)


@pytest.mark.parametrize(("network", "unused"), [("mlp", []), ("ncsnpp", []), ("adm", ["fourier_scale"])])
def test_the_manifest_names_what_the_network_did_not_take_from_the_recipe(network, unused):
    assert made(network=network)["recipe_unused"] == unused


def test_the_run_can_be_built_again_from_its_manifest():
    given = {"recipe": {"rho": 5.0}, "conditional": True, "sigma_mid": 1.0, "network_options": {"width": 8}}
    asked = {"name": "digits/test", "preset": "CT", "seeds": [0, 1, 2], "steps": 7, **given}
    again = manifest.run_of(json.loads(json.dumps(made(**given))))
    assert again == run_from(asked)
    assert again.config.recipe.rho == 5


@pytest.mark.parametrize("path", sorted(RUNS.rglob("manifest.json")), ids=lambda path: path.parent.name)
def test_the_runs_of_all_records_can_be_built_again(path):
    found = json.loads(path.read_text())
    again = manifest.run_of(found)
    assert again.name == path.parent.relative_to(RUNS).as_posix()
    assert asdict(again.config.recipe).items() >= found["recipe"].items()
    assert asdict(again.config).items() >= found["training"].items()


def test_the_commit_is_that_of_git_or_unknown(project):
    assert manifest.commit() == "unknown"
    (project / "ict_lib" / "a.py").touch()

    def git(*words):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", *identity, *words], cwd=project, capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head = git("rev-parse", "HEAD").strip()
    assert manifest.commit() == head
    (project / "ict_lib" / "a.py").write_text("changed")
    assert manifest.commit() == f"{head}+changes"


# Errors


def test_a_missing_record_names_the_command_that_makes_it(project):
    for ask in (lambda: read("digits/ict"), lambda: table(["digits/ict"], {"time": "seconds"})):
        with pytest.raises(FileNotFoundError, match="'digits/ict' has no record yet: `make run RUN=digits/ict`"):
            ask()


def test_a_missing_result_names_those_there_are(project):
    write(results_folder("a"), {"results": RESULTS}, [])
    with pytest.raises(ValueError, match=r"run 'a' has no result 'fid'; it has seed, seconds, .*, frechet"):
        read("a").result("fid")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": None}, "this manifest has no 'recipe': one that `make run` wrote is needed"),
        ({"training": []}, "this manifest has no 'training'"),
        ({"recipe": {"dropuot": 0.1}}, "unknown field 'dropuot' of Recipe: did you mean 'dropout'"),
        ({"training": {"network": "vgg"}}, "network is 'vgg'"),
    ],
)
def test_what_is_no_manifest_of_a_run_is_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        manifest.run_of({**made(), **changes})


def test_outside_of_the_project_the_message_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not lie in the project: change into its folder"):
        project_root(tmp_path)
