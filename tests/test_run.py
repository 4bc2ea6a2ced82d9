"""Runs through papermill: every run file, refusals, a whole run at tiny scale, failure, kill and resume."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import safetensors.torch
import torch
import yaml

from ict_lib.networks.options import NETWORK_OPTIONS
from ict_lib.run import check, main, parameters_of, shortened

ROOT = Path(__file__).resolve().parents[1]
RUN_FILES = sorted((ROOT / "runs").rglob("*.yaml"))
RECORDED = [path for path in RUN_FILES if (path.with_suffix("") / "manifest.json").exists()]
TINY = {
    "name": "tiny",
    "steps": 24,
    "batch_size": 32,
    "log_every": 4,
    "evaluate_every": 8,
    "checkpoint_every": 8,
    "num_samples": 200,
    "network_options": {"width": 16, "blocks": 1},
}
LEFT = {"notebook.ipynb", "manifest.json", "metrics.jsonl", "samples.png", "README.md", "weights-seed-0.safetensors"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own around the real library and chapters, so that no test touches real results."""
    for name in ("pyproject.toml", "ict_lib", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in RUN_FILES:
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "runs" / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICT_CACHE", str(ROOT / ".cache" / "ict_lib"))
    return tmp_path


def run_command(*words, cwd, **options):
    return subprocess.run(
        [sys.executable, "-m", "ict_lib.run", *words], cwd=cwd, capture_output=True, text=True, timeout=300, **options
    )


# --- value: what the run files say ---


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: path.stem)
def test_every_run_file_is_valid_and_named_after_its_path(path):
    name = path.relative_to(ROOT / "runs").with_suffix("").as_posix()
    run = check(parameters_of(name, [], ROOT), ROOT)
    assert run.name == name


def test_the_runs_of_the_digits_have_records():
    assert set((ROOT / "runs" / "digits").glob("*.yaml")) <= set(RECORDED)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_a_record_was_made_by_its_run_file(path):
    name = path.relative_to(ROOT / "runs").with_suffix("").as_posix()
    manifest = json.loads((ROOT / "runs" / name / "manifest.json").read_text())
    run = check(parameters_of(name, [], ROOT), ROOT)
    assert manifest["seeds"] == run.seeds
    assert manifest["training"]["steps"] == run.config.steps
    assert manifest["recipe"]["teacher"] == run.config.recipe.teacher
    assert manifest["recipe"]["distance"] == run.config.recipe.distance
    assert "+changes" not in manifest["commit"]
    assert [result["seed"] for result in manifest["results"]] == run.seeds


def test_the_recorded_ict_reaches_the_bar():
    manifest = json.loads((ROOT / "runs" / "digits" / "ict" / "manifest.json").read_text())
    distances = sorted(result["frechet_pixels_1_step"] for result in manifest["results"])
    assert len(distances) == 3
    assert distances[1] <= 0.45  # the split-half floor of the real digits is 0.28
    assert max(result["seconds"] for result in manifest["results"]) <= 240
    assert manifest["preset"] == "ICT"


# --- invariant: changes from the command line ---


def test_changes_reach_the_parameters():
    parameters = parameters_of("digits/ict", ["steps=7", "recipe.dropout=0.1", "seeds=[4]", "recipe.s1=20"], ROOT)
    assert parameters["steps"] == 7
    assert parameters["seeds"] == [4]
    assert parameters["recipe"] == {"dropout": 0.1, "s1": 20}


def test_a_dry_run_is_short_apart_and_can_still_be_changed():
    parameters = parameters_of("digits/ict", ["--dry", "batch_size=9", "measure_every=2"], ROOT)
    run = check(parameters, ROOT)
    assert (run.name, run.seeds, run.config.steps, run.num_samples) == ("preview/digits/ict", [0], 3, 100)
    assert (run.evaluate_every, run.measure_every, run.config.batch_size) == (2, 2, 9)
    assert run.config.recipe == check(parameters_of("digits/ict", [], ROOT), ROOT).config.recipe
    assert shortened({"name": "a", "measure_every": 500, "seeds": [4, 5]})["measure_every"] == 3
    assert shortened({"name": "a", "seeds": [4, 5]})["seeds"] == [4]


def test_the_table_of_network_options_is_that_of_the_networks():
    import inspect

    from ict_lib.networks.build import NETWORKS

    theirs = ("shape", "fourier_scale", "dropout", "num_classes")
    for name, network in NETWORKS.items():
        assert set(inspect.signature(network).parameters) - set(theirs) == set(NETWORK_OPTIONS[name])
    assert set(NETWORKS) == set(NETWORK_OPTIONS)


# --- errors: refused at once, with the nearest right name ---


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["digits/itc"], "digits/ict"),
        (["digits/ict", "stpes=10"], "'steps'"),
        (["digits/ict", "steps=ten"], "int is needed"),
        (["digits/ict", "steps=-1"], "steps > 0"),
        (["digits/ict", "learning_rate=1e-4"], "1.0e-4"),
        (["digits/ict", "recipe.droput=0.1"], "'dropout'"),
        (["digits/ict", "recipe.distance=pseudohuber"], "'pseudo_huber'"),
        (["digits/ict", "network=small_unett"], "'small_unet'"),
        (["digits/ict", "network_options={widht: 8}"], "'width'"),
        (["digits/ict", "preset=ICTT"], "'ICT'"),
        (["digits/ict", "seeds=[1, 1]"], "different whole numbers"),
        (["digits/ict", "notebook=book/none.ipynb"], "does not exist"),
        (["digits/ict", "steps"], "name=value"),
        ([], "which run"),
    ],
)
def test_mistakes_are_refused_with_the_nearest_right_name(words, meant, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("refused:")
    assert meant in error
    assert error.count("\n") == 1


def test_refusing_takes_less_than_five_seconds(project):
    started = time.monotonic()
    done = run_command("digits/ict", "stpes=10", cwd=project)
    assert time.monotonic() - started < 5
    assert done.returncode == 2
    assert not (project / "runs" / "digits" / "ict").exists()


# --- the whole run at tiny scale ---


@pytest.mark.slow
def test_a_run_leaves_everything_and_a_failure_leaves_it_alone(project):
    done = run_command("tiny", cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / "runs" / "tiny"
    assert {path.name for path in folder.iterdir()} == LEFT
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("recipe", "seeds", "versions", "device", "commit", "seconds", "images_seen", "peak_memory_bytes"):
        assert manifest[key] not in (None, "", []), key
    assert manifest["images_seen"] == 24 * 32
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
    assert ["frechet_pixels_1_step" in line for line in lines] == [False, True] * 3

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    # A failure after training: more KID samples are asked for than there are.
    failed = run_command("tiny", "num_samples=2", cwd=project)
    assert failed.returncode == 1
    assert "failed.ipynb" in failed.stderr
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before}
    assert after == before
    notebook = nbformat.read(folder / "failed.ipynb", as_version=4)
    errors = [o for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "error"]
    assert len(errors) == 1
    assert errors[0].ename == "ValueError"


@pytest.mark.slow
def test_a_run_with_two_processes_leaves_the_same_files(project):
    done = run_command("tiny", "processes=2", cwd=project)
    assert done.returncode == 0, done.stderr
    folder = project / "runs" / "tiny"
    assert {path.name for path in folder.iterdir()} == LEFT
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["processes"], manifest["images_seen"]) == (2, 24 * 32)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24]
    assert "frechet_pixels_1_step" in lines[-1]


@pytest.mark.slow
def test_a_dry_run_executes_everything_and_keeps_the_best_and_the_milestones(project):
    words = ["--dry", "measure_every=2", "milestone_every=2", "precision=fp16", "tensorboard=true"]
    done = run_command("tiny", *words, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "images/s=" in done.stderr
    assert not (project / "runs" / "tiny").exists()
    folder = project / "runs" / "preview" / "tiny"
    manifest = json.loads((folder / "manifest.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    by_fid = {line["step"]: line["fid_1_step"] for line in lines if "fid_1_step" in line}
    assert by_fid.keys() == {2, 3}
    (result,) = manifest["results"]
    assert result["fid_1_step"] == pytest.approx(by_fid[3])
    assert (result["best_step"], result["best_fid_1_step"]) == min(by_fid.items(), key=lambda item: item[1])
    kept = {path.name for path in (folder / "checkpoints" / "seed-0").iterdir()}
    assert kept >= {"best.safetensors", "step-000000002-kept.ckpt", "step-000000003-kept.ckpt", "metrics.jsonl"}
    assert list((folder / "tensorboard" / "seed-0").iterdir())
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures  # the newest images


@pytest.mark.slow
def test_plain_papermill_runs_the_same_and_refuses_a_mistyped_parameter(project):
    papermill = [sys.executable, "-m", "papermill", "book/reproduce.ipynb", "out.ipynb", "-k", "python3"]
    bad = [*papermill, "-f", "runs/tiny.yaml", "-p", "stpes", "3"]
    refused = subprocess.run(bad, cwd=project, capture_output=True, text=True, timeout=120)
    assert refused.returncode != 0
    assert "did you mean 'steps'?" in refused.stderr
    assert not (project / "runs" / "tiny").exists()
    done = subprocess.run(
        [*papermill, "-f", "runs/tiny.yaml"], cwd=project, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (project / "runs" / "tiny" / "manifest.json").exists()
    assert nbformat.read(project / "out.ipynb", as_version=4).metadata.papermill.exception is None


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(project):
    longer = ["steps=400", "checkpoint_every=20", "evaluate_every=100"]
    assert run_command("tiny", "name=whole", *longer, cwd=project).returncode == 0
    words = [sys.executable, "-m", "ict_lib.run", "tiny", "name=killed", *longer]
    victim = subprocess.Popen(words, cwd=project, start_new_session=True, stderr=subprocess.DEVNULL)
    checkpoints = project / "runs" / "killed" / "checkpoints" / "seed-0"
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(victim.pid, signal.SIGKILL)  # papermill and, in its session or not, the kernel
    victim.wait()
    _kill_kernels(project)
    assert not (project / "runs" / "killed" / "manifest.json").exists(), "the kill came too late to test anything"
    assert run_command("tiny", "name=killed", *longer, cwd=project).returncode == 0
    whole, killed = (project / "runs" / name for name in ("whole", "killed"))
    weights = [safetensors.torch.load_file(f / "weights-seed-0.safetensors") for f in (whole, killed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    lines = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (whole, killed)]
    assert [(line["step"], line["loss"]) for line in lines[0]] == [(line["step"], line["loss"]) for line in lines[1]]


def _kill_kernels(project):
    """Kill what still runs inside the test's project: papermill's kernel lives in a session of its own."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() == project.resolve() and int(entry.name) != os.getpid():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue  # not ours to see, or gone already
