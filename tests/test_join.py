"""A run on several machines: `ict_lib.run.join`, and the template for SLURM, with two pretended machines on this one."""

import json
import os
import socket
import subprocess
import sys

import pytest
import safetensors.torch
import torch
from ict_lib.run.join import main

from tests.test_run import ROOT, project, run_command  # noqa: F401

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
def slurm(tmp_path, project):  # noqa: F811
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
        "SLURM_CPUS_PER_TASK": "1",
        "PYTHON": sys.executable,
        "PORT": str(free_port()),
    }


@pytest.mark.slow
def test_two_machines_end_as_one_with_two_processes(project, slurm):  # noqa: F811
    words = ["bash", str(ROOT / "runs" / "slurm.sh"), "tiny", "name=two-machines"]
    done = subprocess.run(words, cwd=project, env=slurm, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert run_command("tiny", "name=one-machine", "processes=2", cwd=project).returncode == 0
    folders = [project / "runs" / name for name in ("two-machines", "one-machine")]
    manifests = [json.loads((folder / "manifest.json").read_text()) for folder in folders]
    assert [(m["nodes"], m["processes"]) for m in manifests] == [(2, 1), (1, 2)]
    first, second = (safetensors.torch.load_file(folder / "weights-seed-0.safetensors") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in second)
    lines = [(folder / "metrics.jsonl").read_text().count("\n") for folder in folders]
    assert lines == [6, 6]


def test_the_template_asks_for_a_run(slurm, project):  # noqa: F811
    done = subprocess.run(
        ["bash", str(ROOT / "runs" / "slurm.sh")], cwd=project, env=slurm, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Say which run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give a run and node_rank=N"),
        (["digits/ict"], "give a run and node_rank=N"),
        (["digits/ict", "node_rank=first"], "give a run and node_rank=N"),
        (["digits/ict", "node_rank=1"], "1 <= node_rank < nodes = 1"),
        (["digits/ict", "node_rank=0", "nodes=2"], "node_rank is 0"),
        (["digits/ict", "node_rank=2", "nodes=2"], "node_rank is 2"),
        (["digits/ict", "node_rank=1", "nodes=2"], "2 nodes need the host and port of node 0"),
        (["digits/itc", "node_rank=1", "nodes=2"], "did you mean 'digits/ict'"),
        (["digits/ict", "node_rank=1", "nodes=3"], "256"),
    ],
)
def test_mistakes_are_refused(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("refused:")
    assert said in error
