"""A run on several machines: `runs/slurm.sh` and `ict_lib.training.program`, with two pretended ones on this one."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ict_lib.config import run_from
from ict_lib.files import read_lines
from ict_lib.group import Alone
from ict_lib.training import program, train
from ict_lib.training.folder import METRICS, WEIGHTS, read_result
from ict_lib.training.model import build_model, load_weights
from tests.test_training_loop import numbers

ROOT = Path(__file__).resolve().parents[1]
TINY = {
    "name": "tiny",
    "seeds": [0, 5],
    "steps": 12,
    "batch_size": 16,
    "micro_batch": 8,
    "device": "cpu",
    "log_every": 4,
    "evaluate_every": 6,
    "num_samples": 100,
    "network_options": {"width": 16, "blocks": 1},
}
# What SLURM's own commands do, for two machines that are both this one.
COMMANDS = {
    "scontrol": '#!/bin/sh\necho "127.0.0.1"\necho "127.0.0.2"\n',
    "srun": '#!/bin/sh\nshift 2\nSLURM_NODEID=1 "$@" & SLURM_NODEID=0 "$@"; first=$?; wait $!; exit $((first + $?))\n',
}


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@pytest.fixture
def project(tmp_path):
    """A project of its own around the real library and chapters, so that no test touches real results."""
    for name in ("pyproject.toml", "ict_lib", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "tiny.yaml").write_text(yaml.safe_dump({"run": TINY}))
    return tmp_path


@pytest.fixture
def slurm(tmp_path, project):
    """The environment in which SLURM would start the template."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, text in COMMANDS.items():
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "both",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "1",
        "PYTHON": sys.executable,
        "PROCESSES": "1",
        "PORT": str(free_port()),
    }


def submit(*words, cwd, env):
    script = ["bash", str(ROOT / "runs" / "slurm.sh"), *words]
    return subprocess.run(script, cwd=cwd, env=env, capture_output=True, text=True, timeout=500)


@pytest.mark.slow
def test_two_machines_train_all_seeds_as_one_process_does_and_leave_the_record(project, slurm):
    done = submit("tiny", "name=two-machines", cwd=project, env=slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    folder, run = project / "runs" / "two-machines", run_from(TINY)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [result["seed"] for result in manifest["results"]] == [0, 5]
    assert manifest["processes"] == 2
    assert all(result["fid_1_step"] > 0 for result in manifest["results"])
    assert [(line["seed"], line["step"]) for line in read_lines(folder / "metrics.jsonl")] == [
        (seed, step) for seed in (0, 5) for step in (4, 8, 12)
    ]
    for seed in run.seeds:
        alone, model = train(run, seed=seed), build_model(run, (1, 8, 8), 10, seed)
        records = list(alone)
        load_weights(folder / f"seed-{seed}" / WEIGHTS, model)
        assert (numbers(model) - numbers(alone.average)).abs().max() < 1e-6
        losses = [line["loss"] for line in read_lines(folder / f"seed-{seed}" / METRICS)]
        assert losses == pytest.approx([record.loss for record in records], rel=1e-4)

    # Submitted again there is nothing to train, and with other settings it is refused at once.
    before = {path: path.read_bytes() for path in folder.glob("seed-*/*") if path.suffix in (".jsonl", ".safetensors")}
    result = read_result(folder / "seed-5")
    slurm["PORT"] = str(free_port())
    refused = submit("tiny", "name=two-machines", "steps=13", cwd=project, env=slurm)
    assert refused.returncode != 0
    assert "made with other settings (steps: 12 -> 13)" in refused.stderr
    assert before == {path: path.read_bytes() for path in before}
    assert read_result(folder / "seed-5") == result


def test_without_the_network_that_measures_nothing_is_trained(project, tmp_path, monkeypatch):
    """On a machine without a network it would be missed after all steps."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("ICT_INCEPTION", str(tmp_path / "none"))
    monkeypatch.setenv("RANK", "0")
    ended = []
    for name, value in {"watch": lambda: None, "_join": lambda run: (run, Alone())}.items():
        monkeypatch.setattr(program, name, value)
    monkeypatch.setattr(os, "kill", lambda *words: ended.append(words))
    with pytest.raises(SystemExit, match="1"):
        program.main(["tiny", "data=cifar10"], lambda *_, **__: pytest.fail("it was trained"))
    left = json.loads((project / "runs" / "tiny" / "seed-0" / "failure.json").read_text())
    assert "ICT_INCEPTION" in left["message"]
    assert ended == [(os.getppid(), signal.SIGTERM)]


def test_the_template_asks_for_a_run(slurm, project):
    done = submit(cwd=project, env=slurm)
    assert done.returncode == 2
    assert done.stderr.startswith("Say which run")


def test_a_mistake_in_the_command_is_not_tried_again(project, tmp_path):
    """One process of torchrun's; what it says comes once, and soon."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "--max-restarts=3"]
    words += ["--monitor-interval=0.1", "-m", "ict_lib.training.program", "tinny"]
    done = subprocess.run([sys.executable, *words], cwd=project, capture_output=True, text=True, timeout=200)
    assert done.returncode != 0
    assert done.stderr.count("\nValueError: ") == 1
    assert "did you mean 'tiny'" in done.stderr
