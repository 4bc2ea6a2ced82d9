"""A run on several machines: `runs/slurm.sh` and `ict_lib.training.program`, with two pretended ones on this one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from ict_lib.config import run_from
from ict_lib.files import HOLDER, read_json, read_lines
from ict_lib.group import Alone
from ict_lib.training import checkpoint, launch, program, train
from ict_lib.training.folder import METRICS, WEIGHTS, read_result
from ict_lib.training.model import build_model, load_weights
from tests.test_training_launch import told
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
LONG = TINY | {"seeds": [0], "steps": 1200, "log_every": 2, "checkpoint_every": 20, "evaluate_every": 500}
SCONTROL = """#!/bin/sh
echo "$@" >> scontrol.log
echo "127.0.0.1"
echo "127.0.0.2"
"""
# What SLURM's own commands do, for two machines that are both this one: the second comes first, the first late.
SRUN = """#!{}
import os, signal, subprocess, sys, time
tasks = {{}}
signal.signal(signal.SIGUSR1, lambda number, _: [task.send_signal(number) for task in tasks.values()])
for node in (1, 0):
    tasks[node] = subprocess.Popen(sys.argv[3:], env=os.environ | {{"SLURM_NODEID": str(node)}})
    open(f"task-{{node}}", "w").write(str(tasks[node].pid))
    time.sleep(1)
while None in (codes := [task.poll() for task in tasks.values()]):
    if any(codes):  # --kill-on-bad-exit
        [task.kill() for task in tasks.values()]
    time.sleep(0.1)
sys.exit(max(128 - code if code < 0 else code for code in codes))
"""
# Python, but for the notebook, which takes long and has a test of its own.
PYTHON = """#!/bin/sh
case "$*" in "-m ict_lib run"*) echo "the notebook"; exit 0;; esac
exec {} "$@"
"""

SOON = """
from datetime import timedelta
from ict_lib import group
group.STUCK = timedelta(seconds=30)
"""


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
    texts = {"scontrol": SCONTROL, "srun": SRUN.format(sys.executable), "no-notebook": PYTHON.format(sys.executable)}
    for name, text in texts.items():
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Records and average of a training by two processes that nothing disturbs."""
    training = launch(run_from(LONG | {"processes": 2}), folder=tmp_path_factory.mktemp("whole"))
    return [(record.step, record.loss) for record in training], numbers(training.average)


class Job:
    """A job of two machines that trains without its notebook."""

    def __init__(self, project, environment):
        (project / "runs" / "long.yaml").write_text(yaml.safe_dump({"run": LONG}))
        self.project, self.folder = project, project / "runs" / "tiny" / "seed-0"
        self.environment = environment | {"PYTHON": str(project / "bin" / "no-notebook")}
        self.started = None

    def submit(self):
        self.environment["PORT"] = str(free_port())
        words, pipes = ["bash", str(ROOT / "runs" / "slurm.sh"), "long"], {"stdout": subprocess.PIPE, "text": True}
        self.started = subprocess.Popen(
            words, cwd=self.project, env=self.environment, stderr=subprocess.STDOUT, start_new_session=True, **pipes
        )

    def wait_for(self, steps):
        while self.started.poll() is None and self.step() < steps:
            time.sleep(0.05)
        assert self.started.poll() is None, self.started.stdout.read()

    def step(self):
        return max((line["step"] for line in read_lines(self.folder / METRICS)), default=0)

    def machine(self, node):
        """The processes of one machine: torchrun, and those that train."""
        agent = psutil.Process(int((self.project / f"task-{node}").read_text()))
        return [agent, *agent.children(recursive=True)]

    def end(self):
        said = self.started.communicate(timeout=400)[0]
        return self.started.returncode, said

    def finish(self, whole):
        """What it said, once it has ended well, as a training that nothing disturbed."""
        code, said = self.end()
        assert code == 0, said
        assert [(line["step"], line["loss"]) for line in read_lines(self.folder / METRICS)] == whole[0]
        model = build_model(run_from(LONG), (1, 8, 8), 10)
        load_weights(self.folder / WEIGHTS, model)
        assert torch.equal(numbers(model), whole[1])
        return said


@pytest.fixture
def job(project, slurm):
    made = Job(project, slurm)
    yield made
    if made.started and made.started.poll() is None:
        left = psutil.Process(made.started.pid).children(recursive=True)
        for process in [made.started, *left]:
            process.kill()


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


def test_a_notebook_that_the_time_ends_is_executed_by_the_job_that_queues_again(project, slurm):
    for name, text in (
        ("srun", "exit 0"),
        ("python", "trap 'exit 138' USR1; touch reads; while :; do sleep 0.1; done"),
    ):
        (project / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (project / "bin" / name).chmod(0o755)
    environment = slurm | {"PYTHON": str(project / "bin" / "python")}
    job = subprocess.Popen(["bash", str(ROOT / "runs" / "slurm.sh"), "tiny"], cwd=project, env=environment)
    deadline = time.monotonic() + 60
    while not (project / "reads").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 75
    assert "requeue 7" in (project / "scontrol.log").read_text()


@pytest.mark.slow
def test_before_the_time_is_over_all_stop_at_one_step_and_the_job_queues_again(job, whole):
    job.submit()
    job.wait_for(30)
    job.started.send_signal(signal.SIGUSR1)
    code, said = job.end()
    assert code == 75, said
    assert (job.project / "scontrol.log").read_text().splitlines() == ["show hostnames both", "requeue 7"]
    assert "the notebook" not in said
    stopped = checkpoint.load_latest(job.folder)
    assert 30 <= stopped["step"] < 1200
    job.submit()
    assert "the notebook" in job.finish(whole)


@pytest.mark.slow
def test_a_machine_that_dies_ends_the_job_and_submitted_again_it_goes_on(job, whole):
    job.submit()
    job.wait_for(30)
    others = job.machine(0)
    for process in job.machine(1):
        process.kill()
    code, said = job.end()
    assert psutil.wait_procs(others, timeout=30)[1] == []  # as SLURM sees to it
    assert code not in (0, 75), said
    assert "the notebook" not in said
    assert checkpoint.newest(job.folder)
    job.submit()
    job.finish(whole)


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_a_process_that_is_stuck_is_found_and_all_begin_again_from_the_checkpoint(job, whole, node):
    """One of the machine that writes, or of the other."""
    (job.project / "sitecustomize.py").write_text(SOON)
    job.environment["PYTHONPATH"] = f"{job.project}{os.pathsep}{job.environment.get('PYTHONPATH', '')}"
    job.submit()
    job.wait_for(30)
    trainer = next(one for one in job.machine(node) if "ict_lib.training.program" in told(one, "cmdline")[:4])
    trainer.suspend()
    assert "lost contact" in job.finish(whole)


@pytest.mark.slow
def test_a_machine_that_is_late_is_waited_for(job, whole):
    job.environment["SLURM_CPUS_PER_TASK"] = "3"
    job.submit()
    job.wait_for(30)
    has = job.machine(1)[-1].environ()
    assert (has["OMP_NUM_THREADS"], has["TORCHINDUCTOR_COMPILE_THREADS"]) == ("3", "3")
    assert has["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    others, writer = job.machine(1), read_json(job.folder / HOLDER)
    assert writer["process"] in [process.pid for process in job.machine(0)]  # where the notebook is read
    for process in others:
        process.suspend()
    reached = job.step()
    time.sleep(3)
    assert job.step() <= reached + 4  # nobody goes on alone
    for process in others:
        process.resume()
    assert "lost contact" not in job.finish(whole)


def test_without_the_network_that_measures_nothing_is_trained(project, tmp_path, monkeypatch):
    """On a machine without a network it would be missed after all steps."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("ICT_INCEPTION", str(tmp_path / "none"))
    monkeypatch.setenv("RANK", "0")
    ended = []
    for name, value in {"watch": lambda *_: None, "_join": lambda run: (run, Alone())}.items():
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
