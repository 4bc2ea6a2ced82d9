"""A run's notebook by one command: ``python -m ict_lib run``; and by plain papermill."""

import functools
import json
import os
import re
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
from nbclient.exceptions import DeadKernelError

from ict_lib.__main__ import main
from ict_lib.config import run_from
from ict_lib.files import read_lines
from ict_lib.run.notebook import asked, why
from ict_lib.training import Training, train
from ict_lib.training.measuring import evaluate

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "name": "tiny",
    "steps": 24,
    "batch_size": 32,
    "log_every": 4,
    "evaluate_every": 8,
    "checkpoint_every": 8,
    "num_samples": 50,
    "network_options": {"width": 16, "blocks": 1},
}
# A notebook that shows nothing: it waits at step 16 while there is a file `wait`, and fails if there is a file `fail`.
SHORT = """
import os, time
from ict_lib.run.execute import execute

def show(training):
    for metrics in training:
        while metrics.step >= 16 and os.path.exists("wait"):
            time.sleep(0.05)
        yield metrics

execute(run, show)
assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
if os.path.exists("fail"):
    raise ZeroDivisionError("after the training")
if os.path.exists("die"):
    os.kill(os.getpid(), 9)
"""
LEFT = {"notebook.ipynb", "manifest.json", "metrics.jsonl", "samples.png", "README.md", "seed-0"}
LOCKS = {"lock", "lock.json"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own around the real library and chapters, so that no test touches real results."""
    tmp_path = tmp_path / "as {others} name it"
    tmp_path.mkdir()
    for name in ("pyproject.toml", "ict_lib", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    for path in (ROOT / "runs").rglob("*.yaml"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    (tmp_path / "runs" / "tiny.yaml").write_text(yaml.safe_dump({"run": TINY}))
    (tmp_path / "runs" / "short.yaml").write_text(yaml.safe_dump({"run": {**TINY, "notebook": "short.ipynb"}}))
    parameters = nbformat.v4.new_code_cell("run = {}", metadata={"tags": ["parameters"]})
    cells = [parameters, nbformat.v4.new_code_cell(SHORT)]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "short.ipynb")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words):
    return [sys.executable, "-m", "ict_lib", "run", *words]


def run_command(*words, cwd, **options):
    return subprocess.run(command(*words), cwd=cwd, capture_output=True, text=True, timeout=500, **options)


def others(folder):
    """An environment whose owner has a kernel, start-up files, styles and an encoding of their own; none may count."""
    kernel, start_up = folder / "kernels" / "python3", folder / "profile_default" / "startup"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text('{"argv": ["false"], "display_name": "theirs", "language": "python"}')
    start_up.mkdir(parents=True)
    (start_up / "first.py").write_text("import os; os._exit(3)")
    places = {name: str(folder) for name in ("JUPYTER_PATH", "IPYTHONDIR", "MATPLOTLIBRC")}
    return os.environ | places | {"MPLBACKEND": "theirs", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}


def names(folder):
    return {path.name for path in folder.iterdir()} - LOCKS


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in LOCKS}


def outputs(path):
    """What a notebook shows, by type; an error under its own name."""
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells for output in cell.get("outputs", [])]


def errors(path):
    return [output.ename for output in outputs(path) if output.output_type == "error"]


def processes_in(folder):
    """Processes whose current folder is a project: papermill's kernel is one, in a session of its own."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            found += [int(entry.name)] if (entry / "cwd").resolve() == folder.resolve() else []
        except OSError:
            continue  # not ours to see, or gone already
    return set(found) - {os.getpid()}


def wait_until(holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


# Value: what a command asks for


def test_a_dry_run_is_short_apart_and_can_still_be_changed(monkeypatch):
    monkeypatch.chdir(ROOT)
    whole = run_from(asked("cifar10/ict", []))
    dry = run_from(asked("cifar10/ict", ["batch_size=24", "processes=1", "micro_batch=null"], dry=True))
    assert (dry.name, dry.seeds, dry.steps, dry.num_samples) == ("preview/cifar10/ict", [0], 3, 100)
    assert (dry.log_every, dry.evaluate_every, dry.measure_every, dry.checkpoint_every) == (1, 2, 3, 3)
    assert (dry.recipe, dry.network_options, dry.batch_size) == (whole.recipe, whole.network_options, 24)
    assert run_from(asked("digits/ict", [], dry=True)).measure_every is None  # as the run itself


def test_a_dry_run_never_writes_into_the_run_whatever_its_name(monkeypatch):
    monkeypatch.chdir(ROOT)
    dry = run_from(asked("digits/ict", ["name=digits/mine", "steps=100"], dry=True))
    assert (dry.name, dry.steps) == ("preview/digits/mine", 3)


def test_numbers_are_handed_on_as_numbers(tmp_path, monkeypatch):
    """JSON writes 5e-05 without a point, which YAML 1.1 takes for text."""
    monkeypatch.chdir(ROOT)
    assert run_from(asked("digits/ict", ["learning_rate=5e-05"])).learning_rate == 5e-05
    study = ["variants={low: {learning_rate: 5.0e-5}}"]
    assert run_from(asked("digits/ict", study, dry=True)).variants["low"]["learning_rate"] == 5e-05
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"run": run_from({"learning_rate": 5e-05}).to_dict(), "commit": "x"}))
    assert run_from(asked(str(manifest), [])).learning_rate == 5e-05
    assert asked("digits/ict", ["steps=1000"], chapter="teacher")["variants"]["ict-ema"]["recipe"]["mu0"] < 1e-4


def test_a_date_stays_the_text_that_it_was(monkeypatch):
    monkeypatch.chdir(ROOT)
    run = run_from(asked("digits/ict", ["sources={2020-01-01: B 2020-01-02}"]))
    assert run.to_dict()["sources"] == {"2020-01-01": "B 2020-01-02"}


# Errors: refused at once, with the nearest right name


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["digits/itc"], "digits/ict"),
        (["digits/ict", "stpes=10"], "'steps'"),
        (["digits/ict", "--dry", "stpes=10"], "'steps'"),
        (["digits/ict", "steps=ten"], "int is needed"),
        (["digits/ict", "steps=-1"], "1 <= steps"),
        (["digits/ict", "learning_rate=fast"], "float is needed"),
        (["digits/ict", "recipe.droput=0.1"], "'dropout'"),
        (["digits/ict", "recipe.distance=pseudohuber"], "'pseudo_huber'"),
        (["digits/ict", "network=small_unett"], "'small_unet'"),
        (["digits/ict", "network_options={widht: 8}"], "'width'"),
        (["digits/ict", "preset=ICTT"], "'ICT'"),
        (["digits/ict", "seeds=[1, 1]"], "different whole numbers"),
        (["digits/ict", "notebook=book/none.ipynb"], "a notebook of the project"),
        (["digits/ict", "steps"], "name=value"),
        (["digits/ict", "seeds=[1"], "no YAML"),
    ],
)
def test_mistakes_are_refused_with_the_nearest_right_name(words, meant, project, capsys):
    assert main(["run", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("refused:")
    assert meant in error
    assert error.count("\n") == 1
    assert not (project / "runs" / "digits" / "ict").exists()
    assert not (project / "runs" / "preview").exists()


def test_refusing_takes_less_than_five_seconds_as_nothing_is_loaded(project):
    started = time.monotonic()
    done = run_command("digits/ict", "stpes=10", cwd=project)
    assert time.monotonic() - started < 5
    assert (done.returncode, done.stdout) == (2, "")


def test_a_kernel_that_did_not_start_is_not_called_killed():
    said = why(RuntimeError("Kernel didn't respond in 60 seconds"))
    assert said == "the kernel did not start: Kernel didn't respond in 60 seconds"
    assert why(DeadKernelError("Kernel died")).startswith("the kernel was killed")


# What a run leaves, and what a failure leaves


@pytest.mark.slow
def test_a_failure_leaves_the_record_alone_and_the_notebook_with_its_error(project):
    folder = project / "runs" / "tiny"
    weights = folder / "seed-0" / "weights.safetensors"
    done = run_command("short", cwd=project, env=others(project / "theirs"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done: runs/tiny/notebook.ipynb, with its results beside it\n"
    assert names(folder) == LEFT
    before, trained = contents(folder), weights.stat().st_mtime_ns

    why = {"fail": "ZeroDivisionError: after the training", "die": "the kernel was killed"}
    for way, name in {"fail": ["ZeroDivisionError"], "die": []}.items():
        (project / way).touch()
        failed = run_command("short", cwd=project)
        (project / way).unlink()
        assert failed.returncode == 1, failed.stderr
        said = [line for line in failed.stderr.splitlines() if line.startswith("failed: ")]
        assert len(said) == 1
        assert why[way] in said[0]
        assert said[0].endswith(" (runs/tiny/failed.ipynb shows where)")
        assert "Traceback" not in failed.stderr
        assert errors(folder / "failed.ipynb") == name
        assert names(folder) == LEFT | {"failed.ipynb"}
        assert {key: value for key, value in contents(folder).items() if key != "failed.ipynb"} == before

    assert run_command("short", cwd=project).returncode == 0
    assert names(folder) == LEFT
    assert weights.stat().st_mtime_ns == trained  # all that was recognised, not trained again
    content = weights.read_bytes()
    assert run_command("short", "--anew", cwd=project).returncode == 0
    assert weights.stat().st_mtime_ns != trained
    assert weights.read_bytes() == content


@pytest.mark.slow
def test_a_run_is_alone_and_killed_leaves_no_process_and_goes_on_to_the_same_weights(project):
    (project / "wait").touch()
    folder = project / "runs" / "tiny"
    victim = subprocess.Popen(command("short"), cwd=project, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_until(lambda: (folder / "seed-0" / "step-000000016.ckpt").exists())

    second = run_command("short", "seeds=[1]", cwd=project)
    assert second.returncode == 2
    assert f"process {victim.pid} on" in second.stderr
    assert second.stderr.count("\n") == 1

    assert len(processes_in(project)) >= 2
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    wait_until(lambda: not processes_in(project), seconds=20)
    assert not (folder / "manifest.json").exists()
    (project / "wait").unlink()
    assert run_command("short", cwd=project).returncode == 0

    straight = train(run_from(TINY))
    lines = [metrics.line() for metrics in straight]
    left = safetensors.torch.load_file(folder / "seed-0" / "weights.safetensors")
    assert all(torch.equal(value, left[name]) for name, value in straight.average.state_dict().items())
    written = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in written] == [(line["step"], line["loss"]) for line in lines]


def started_by_make(project, changes):
    """``make run``, in a session of its own as in a terminal; whoever started the tests may have Ctrl-C ignored."""
    words = ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/.ready", f"PYTHON={sys.executable}", "run", "RUN=short"]
    options = {"stderr": subprocess.STDOUT, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    allow = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*words, f"SET={' '.join(changes)}"], cwd=project, preexec_fn=allow, **options)


def without_clocks(lines):
    passing = ("seconds", "peak_memory_bytes")
    return [{name: value for name, value in line.items() if name not in passing} for line in lines]


@pytest.mark.slow
def test_signals_to_make_stop_with_a_checkpoint_and_the_same_command_goes_on(project):
    """SIGTERM to make alone, then Ctrl-C, and what a terminal sends to all that it started when it is closed."""
    changes = ["steps=1500", "checkpoint_every=1000", "log_every=30", "evaluate_every=100", "seeds=[0]"]
    folder, reached = project / "runs" / "tiny", [0]
    lines = folder / "seed-0" / "metrics.jsonl"
    for number, send in ((signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg), (signal.SIGHUP, os.killpg)):
        victim = started_by_make(project, changes)
        while victim.poll() is None and len(read_lines(lines)) <= reached[-1] // 30:
            time.sleep(0.02)
        send(victim.pid, number)
        said = victim.communicate(timeout=60)[0]
        assert victim.returncode == -number, said
        found = re.search(r"\nstopped at step (\d+) with a checkpoint: the same command goes on from there\n", said)
        assert found, said
        assert "Traceback" not in said
        reached.append(int(found[1]))
        assert names(folder) == {"seed-0"}
        wait_until(lambda: not processes_in(project), seconds=10)
    assert 0 < reached[1] < reached[2] < reached[3] < 1500
    assert run_command("short", *changes, cwd=project).returncode == 0

    straight = Training(run_from({**TINY, "steps": 1500, "log_every": 30, "evaluate_every": 100}), evaluate=evaluate)
    whole = [metrics.line() for metrics in straight]
    assert without_clocks(read_lines(folder / "metrics.jsonl")) == without_clocks(whole)
    left = safetensors.torch.load_file(folder / "seed-0" / "weights.safetensors")
    assert all(torch.equal(value, left[name]) for name, value in straight.average.state_dict().items())


@pytest.mark.slow
def test_the_page_by_plain_papermill_and_once_more_by_the_command_which_recognises_it(project):
    papermill = [sys.executable, "-m", "papermill", "book/reproduce.ipynb", "out.ipynb", "-k", "python3"]
    options = {"cwd": project, "capture_output": True, "text": True, "timeout": 500, "check": False}
    refused = subprocess.run([*papermill, "-y", "run: {stpes: 3}"], **options)
    assert refused.returncode != 0
    assert "unknown parameter 'stpes': did you mean 'steps'?" in refused.stderr
    refused = subprocess.run([*papermill, "-p", "steps", "3"], **options)
    assert refused.returncode != 0
    assert "a parameter beside run is 'steps'" in refused.stderr
    assert names(project / "runs") & {"tiny", "preview"} == set()

    done = subprocess.run([*papermill, "-f", "runs/tiny.yaml"], **options)
    assert done.returncode == 0, done.stderr
    folder = project / "runs" / "tiny"
    assert names(folder) == LEFT - {"notebook.ipynb"}
    record = {path: content for path, content in contents(folder).items() if path != "notebook.ipynb"}
    trained = (folder / "seed-0" / "weights.safetensors").stat().st_mtime_ns

    again = run_command("tiny", cwd=project)
    assert again.returncode == 0, again.stderr
    assert "run tiny: 1 training of 24 steps in book/reproduce.ipynb\n" in again.stderr
    assert names(folder) == LEFT
    assert {path: content for path, content in contents(folder).items() if path != "notebook.ipynb"} == record
    assert (folder / "seed-0" / "weights.safetensors").stat().st_mtime_ns == trained

    for page in (project / "out.ipynb", folder / "notebook.ipynb"):
        assert errors(page) == []
        shown = [str(output.get("data", output.get("text"))) for output in outputs(page)]
        assert any("ict-explorer" in text or "Explorer" in text for text in shown)
        assert any("data_checksum" in text for text in shown)
        assert any("image/png" in output.get("data", {}) for output in outputs(page))
    bars = [output.text for output in outputs(project / "out.ipynb") if output.get("name") == "stderr"]
    assert any("24/24 steps" in text and "images/s=" in text for text in bars)
