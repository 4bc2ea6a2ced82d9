"""The whole path of a large run, made small: packed images in colour, labels, ADM, two processes, Inception, export."""

import hashlib
import json
import os
import subprocess
import sys

import nbformat
import pytest
import torch
import yaml
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ict_lib.data.packed import PIXELS
from ict_lib.data.packing import Source, pack
from ict_lib.data.stand_in import stand_in
from ict_lib.export import load_pipeline
from tests.test_slurm import project  # noqa: F401

SMALL = {
    "name": "small",
    "data": "imagenet64",
    "network": "adm",
    "network_options": {
        "channels": 16,
        "multipliers": [1, 2],
        "blocks": 1,
        "attention_resolutions": [32],
        "head_channels": 16,
        "dropout_resolution": 32,
        "embedding_scale": 1000,
        "groups": 4,
    },
    "conditional": True,
    "steps": 800_000,
    "batch_size": 4,
    "micro_batch": 1,
    "measure_every": 40_000,
    "processes": 2,
}
LEFT = {"notebook.ipynb", "manifest.json", "metrics.jsonl", "samples.png", "README.md", "seed-0"}
# Random weights pass for the published ones in every process that starts here.
PUBLISH = """
import torch_fidelity.feature_extractor_inceptionv3 as inception
inception.URL_INCEPTION_V3 = "https://example.org/inception-{}.pth"
"""


def run_command(*words, cwd, env):
    command = [sys.executable, "-m", "ict_lib", "run", *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500)


def read(start, stop):
    return stand_in("imagenet64", 60).pixels[start:stop].numpy()


@pytest.fixture
def place(project, tmp_path_factory):  # noqa: F811
    """A project with a packed data set and Inception weights, and the environment that says where they are."""
    folder = tmp_path_factory.mktemp("place")
    labels = stand_in("imagenet64", 60).labels.numpy()
    classes = [str(number) for number in range(1000)]
    made = Source("random bytes", (3, 64, 64), labels, classes, ["all"], read)
    assert max(pack(made, folder / "imagenet64")) == 60
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({}, folder / "none.pth")
        load, FeatureExtractorInceptionV3.load_state_dict = FeatureExtractorInceptionV3.load_state_dict, id
        try:
            network = FeatureExtractorInceptionV3("random", ["2048"], str(folder / "none.pth"))
        finally:
            FeatureExtractorInceptionV3.load_state_dict = load
    torch.save(network.state_dict(), folder / "inception.pth")
    content = hashlib.sha256((folder / "inception.pth").read_bytes()).hexdigest()
    (folder / "sitecustomize.py").write_text(PUBLISH.format(content[:8]))
    (project / "runs" / "small.yaml").write_text(yaml.safe_dump({"run": SMALL}))
    paths = {"ICT_DATA": folder, "ICT_INCEPTION": folder / "inception.pth", "PYTHONPATH": folder}
    return project, os.environ | {name: str(path) for name, path in paths.items()}


@pytest.mark.slow
def test_a_dry_run_goes_all_the_way_and_its_model_to_diffusers(place):
    project, environment = place  # noqa: F811
    done = run_command("small", "--dry", "num_samples=20", cwd=project, env=environment)
    assert done.returncode == 0, done.stderr
    folder = project / "runs" / "preview" / "small"
    assert {path.name for path in folder.iterdir()} >= LEFT
    left = {path.name for path in (folder / "seed-0").iterdir()}
    assert left >= {"best.safetensors", "weights.safetensors", "result.json", "looks"}
    assert not [name for name in left if name.endswith(".ckpt")]
    manifest = json.loads((folder / "manifest.json").read_text())
    (result,) = manifest["results"]
    assert {"fid_1_step", "fid_2_steps", "precision_1_step", "recall_2_steps", "best_step"} <= result.keys()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert result["best_step"] == 3
    assert result["fid_1_step"] == pytest.approx(last["fid_1_step"], rel=1e-3)
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    views = [o for cell in notebook.cells for o in cell.get("outputs", []) if "Explorer" in str(o.get("data"))]
    assert views  # two quick evaluations: a figure of the training, in colour

    words = [sys.executable, "-m", "ict_lib", "export", "preview/small", "exported"]
    subprocess.run(words, cwd=project, env=environment, check=True, capture_output=True)
    model = load_pipeline(project / "exported")
    x, label = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 999])
    assert model(80 * x, 80.0, label).shape == (2, 3, 64, 64)


def test_what_is_missing_is_said_before_training(place):
    project, environment = place  # noqa: F811
    os.remove(project / environment["ICT_DATA"] / "imagenet64" / PIXELS)
    done = run_command("small", "--dry", "processes=1", cwd=project, env=environment)
    assert done.returncode == 1
    assert "python -m ict_lib data imagenet64" in done.stderr
    assert not (project / "runs" / "preview" / "small" / "seed-0").exists()
