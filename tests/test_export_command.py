"""A run's model, written by `python -m ict_lib export`: `ict_lib.export.command`."""

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from diffusers import ConsistencyModelPipeline

from ict_lib.__main__ import main
from ict_lib.export.command import export
from ict_lib.sampling import sample
from ict_lib.training.folder import WEIGHTS
from tests.test_run_trained import MLP, finished

# Invariant


@pytest.mark.parametrize("seed", [None, 5])
def test_diffusers_draws_what_the_run_has_learned(project, seed):
    models = finished()
    assert export("digits/adm-small", Path("made/here"), seed) == Path("made/here")
    model, labels = models[seed or 3], torch.arange(4)
    ours = sample(model, 4, (1, 8, 8), (60.0,), torch.Generator().manual_seed(1), labels).clamp(-1, 1)
    pipeline = ConsistencyModelPipeline.from_pretrained("made/here", low_cpu_mem_usage=False)
    images = pipeline(4, labels.tolist(), generator=torch.Generator().manual_seed(1), output_type="pt").images
    torch.testing.assert_close(2 * images - 1, ours, rtol=0, atol=1e-4)
    assert pipeline.scheduler.config["rho"] == 5
    assert f"The weights here are of seed {seed or 3}." in Path("made/here/README.md").read_text("utf8")


def test_it_is_a_command(project, capsys):
    finished()
    assert main(["export", "digits/adm-small", "made", "--seed", "5"]) == 0
    assert capsys.readouterr().out == (
        'made: load it with diffusers.ConsistencyModelPipeline.from_pretrained("made")\n'
    )
    assert Path("made/model_index.json").is_file()
    assert main(["export", "digits/adm-small", "again", "--seed", "4"]) == 2
    assert capsys.readouterr().err == "refused: seed is 4: one of the run's, [3, 5], is needed\n"


# Errors


def test_what_cannot_be_exported_leaves_no_folder(project):
    with pytest.raises(FileNotFoundError, match="run 'digits/adm-small' has no record yet"):
        export("digits/adm-small", Path("made"))
    folder = project / "runs/digits/adm-small"
    finished()
    with pytest.raises(ValueError, match=r"seed is 4: one of the run's, \[3, 5\]"):
        export("digits/adm-small", Path("made"), 4)
    (folder / "seed-5" / WEIGHTS).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"weights.safetensors is missing: .*RUN=runs/digits/adm-small/manifest.json`"
    ):
        export("digits/adm-small", Path("made"), 5)
    finished(name="digits/mlp", **MLP)
    with pytest.raises(ValueError, match=r"^network is 'ResidualMLP': .*\Z"):
        export("digits/mlp", Path("made"))
    assert not Path("made").exists()
