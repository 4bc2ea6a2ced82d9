"""The whole path of a large run, made small: packed images in colour, labels, ADM, two processes, Inception, export."""

import hashlib
import json
import os
import subprocess
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import pytest
import torch
import yaml
from diffusers import ConsistencyModelPipeline
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from ict_lib.data import fetch, stand_in
from ict_lib.data.imagenet64 import FILE
from tests.test_run_notebook import LEFT, errors, names, outputs, project, run_command  # noqa: F401

SMALL = {
    "name": "small",
    "data": "imagenet64",
    "network": "adm",
    "network_options": {
        "channels": 8,
        "multipliers": [1, 2],
        "blocks": 1,
        "attention_resolutions": [32],
        "head_channels": 8,
        "dropout_resolution": 32,
        "embedding_scale": 1000,
        "groups": 2,
    },
    "conditional": True,
    "steps": 800_000,
    "batch_size": 4,
    "micro_batch": 1,
    "measure_every": 40_000,
    "processes": 2,
}
# Random weights pass for the published ones in every process that starts here.
PUBLISH = """
from ict_lib.evaluation import fidelity
fidelity.INCEPTION = "https://example.org/inception-{}.pth"
"""


@pytest.fixture
def place(project, tmp_path_factory):  # noqa: F811
    """A project with a packed data set and Inception weights, and the environment that says where they are."""
    folder = tmp_path_factory.mktemp("place")
    made = stand_in("imagenet64", 24)
    rows, numbers = made.pixels.flatten(1).numpy(), made.labels.numpy() + 1
    numbers[-1] = 1000  # so that there are as many classes
    np.savez(folder / "train_data_batch_1.npz", data=rows, labels=numbers)
    assert list(fetch("imagenet64", folder, folder))[-1] == (24, 24)
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
    paths = {
        "ICT_DATA": folder,
        "ICT_INCEPTION": folder / "inception.pth",
        "PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    return project, os.environ | {name: str(path) for name, path in paths.items()}


@pytest.mark.slow
def test_a_dry_run_goes_all_the_way_and_its_model_to_diffusers(place):
    project, environment = place  # noqa: F811
    words = ["--dry", "num_samples=12", "milestone_every=2", "tensorboard=true"]
    done = run_command("small", *words, cwd=project, env=environment)
    assert done.returncode == 0, done.stderr
    assert "images/s=" in done.stderr
    assert not (project / "runs" / "small").exists()
    folder = project / "runs" / "preview" / "small"
    assert names(folder) == LEFT | {"tensorboard"}
    kept = {"best.safetensors", "weights.safetensors", "step-000000002-kept.ckpt", "step-000000003-kept.ckpt"}
    assert names(folder / "seed-0") >= kept
    assert list((folder / "tensorboard" / "seed-0").glob("events.*"))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["processes"], manifest["images_seen"]) == (2, 3 * 4)
    (result,) = manifest["results"]
    assert {"fid_1_step", "fid_2_steps", "precision_1_step", "recall_2_steps"} <= result.keys()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], "frechet_pixels_1_step" in line) for line in lines] == [(1, False), (2, True), (3, True)]
    assert (result["best_step"], result["best_fid_1_step"]) == (3, lines[-1]["fid_1_step"])
    assert errors(folder / "notebook.ipynb") == []
    views = [output for output in outputs(folder / "notebook.ipynb") if "Explorer" in str(output.get("data"))]
    assert views  # two quick evaluations: a figure of the training, in colour

    words = [sys.executable, "-m", "ict_lib", "export", "preview/small", "exported"]
    subprocess.run(words, cwd=project, env=environment, check=True, capture_output=True)
    pipeline = ConsistencyModelPipeline.from_pretrained(str(project / "exported"), low_cpu_mem_usage=False)
    generator = torch.Generator().manual_seed(0)
    images = pipeline(2, [1, 999], num_inference_steps=1, generator=generator, output_type="pt").images
    assert images.shape == (2, 3, 64, 64)


def test_what_is_missing_is_said_before_training(place):
    project, environment = place  # noqa: F811
    os.remove(project / environment["ICT_DATA"] / FILE)
    done = run_command("small", "--dry", "processes=1", cwd=project, env=environment)
    assert done.returncode == 2
    assert "-m ict_lib data imagenet64" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (project / "runs" / "preview").exists()  # nothing was started
