"""A run's model, written by `python -m ict_lib export`: `ict_lib.export.command`."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from diffusers import ConsistencyModelPipeline

from ict_lib.__main__ import main
from ict_lib.config import run_from
from ict_lib.data import DATASETS
from ict_lib.export.command import export
from ict_lib.run import record
from ict_lib.sampling import sample
from ict_lib.training.folder import WEIGHTS
from ict_lib.training.model import build_model, save_weights

SIZES = {"channels": 16, "multipliers": [1], "blocks": 1, "attention_resolutions": [8], "head_channels": 8, "groups": 4}
ASKED = {
    "name": "digits/adm-small",
    "seeds": [3, 5],
    "network": "adm",
    "network_options": {**SIZES, "embedding_scale": 1000},
    "conditional": True,
    "recipe": {"sigma_max": 60.0, "rho": 5.0, "sigma_data": 0.4},
    "sigma_mid": 0.9,
}
MEASURED = {"seconds": 1.0, "images_seen": 10, "peak_memory_bytes": 10, "fid_1_step": 3.0, "fid_2_steps": 2.0}
MADE_WITH = {"versions": {"torch": "2.0"}, "device": "CPU, 1 thread", "commit": 40 * "a", "processes": 1}


def finished(folder, **changes):
    """Leave what a run leaves; return the models, one a seed."""
    run, models = run_from({**ASKED, **changes}), {}
    data = DATASETS[run.data]
    for seed in run.seeds:
        models[seed] = build_model(run, data.shape, data.num_classes, seed).eval()
        for parameter in models[seed].parameters():
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(seed))
        (folder / f"seed-{seed}").mkdir(parents=True)
        save_weights(folder / f"seed-{seed}" / WEIGHTS, models[seed])
    left = [{"result": {"seed": seed, **MEASURED}, "surroundings": MADE_WITH} for seed in run.seeds]
    record.write(folder, record.manifest_of(run, left), [], "")
    return models


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of its own, with the current folder in it."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Invariant


@pytest.mark.parametrize("seed", [None, 5])
def test_diffusers_draws_what_the_run_has_learned(project, seed):
    models = finished(project / "runs/digits/adm-small")
    assert export("digits/adm-small", Path("made/here"), seed) == Path("made/here")
    model, labels = models[seed or 3], torch.arange(4)
    ours = sample(model, 4, (1, 8, 8), (60.0,), torch.Generator().manual_seed(1), labels).clamp(-1, 1)
    pipeline = ConsistencyModelPipeline.from_pretrained("made/here", low_cpu_mem_usage=False)
    images = pipeline(4, labels.tolist(), generator=torch.Generator().manual_seed(1), output_type="pt").images
    torch.testing.assert_close(2 * images - 1, ours, rtol=0, atol=1e-4)
    assert pipeline.scheduler.config["rho"] == 5
    assert f"The weights here are of seed {seed or 3}." in Path("made/here/README.md").read_text("utf8")


def test_it_is_a_command(project, capsys):
    finished(project / "runs/digits/adm-small")
    assert main(["export", "digits/adm-small", "made", "--seed", "5"]) == 0
    assert capsys.readouterr().out == (
        'made: load it with diffusers.ConsistencyModelPipeline.from_pretrained("made")\n'
    )
    assert Path("made/model_index.json").is_file()
    assert main(["export", "digits/adm-small", "again", "--seed", "4"]) == 2
    assert capsys.readouterr().err == "refused: seed is 4: one of the run's, [3, 5], is needed\n"


# Errors


def test_what_cannot_be_exported_leaves_no_folder(project):
    with pytest.raises(FileNotFoundError, match="has no record yet: `make run RUN=digits/adm-small` makes it"):
        export("digits/adm-small", Path("made"))
    folder = project / "runs/digits/adm-small"
    finished(folder)
    with pytest.raises(ValueError, match=r"seed is 4: one of the run's, \[3, 5\]"):
        export("digits/adm-small", Path("made"), 4)
    (folder / "seed-5" / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"weights.safetensors is missing: .*`make run RUN=digits/adm-small`"):
        export("digits/adm-small", Path("made"), 5)
    finished(project / "runs/digits/mlp", name="digits/mlp", network="mlp", network_options={"width": 16, "blocks": 1})
    with pytest.raises(ValueError, match=r"^network is 'ResidualMLP': .*\Z"):
        export("digits/mlp", Path("made"))
    assert not Path("made").exists()
