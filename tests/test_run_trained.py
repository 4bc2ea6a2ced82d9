"""The trained model of a run, read back: `ict_lib.run.trained`; and as ``python -m ict_lib export`` writes it."""

import os

import pytest
import safetensors.torch
import torch
from torch import nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from diffusers import ConsistencyModelPipeline

from ict_lib.__main__ import main
from ict_lib.config import run_from
from ict_lib.data import DATASETS
from ict_lib.files import results_folder
from ict_lib.run.record import manifest_of, write
from ict_lib.run.trained import trained_model
from ict_lib.sampling import sample
from ict_lib.training.folder import WEIGHTS
from ict_lib.training.model import build_model, save_weights

ADM = {"channels": 16, "multipliers": [1], "blocks": 1, "attention_resolutions": [8], "head_channels": 8, "groups": 4}
MLP = {"network": "mlp", "network_options": {"width": 16, "blocks": 1}}
MADE_WITH = {"versions": {"torch": "2.0"}, "device": "CPU, 1 thread", "commit": 40 * "a", "processes": 1}
MEASURED = {"seconds": 1.0, "images_seen": 10, "peak_memory_bytes": 10, "fid_1_step": 3.0, "fid_2_steps": 2.0}
ASKED = {
    "name": "digits/adm-small",
    "seeds": [3, 5],
    "network": "adm",
    "network_options": {**ADM, "embedding_scale": 1000},
    "conditional": True,
    "recipe": {"sigma_max": 60.0, "rho": 5.0, "sigma_data": 0.4},
    "sigma_mid": 0.9,
}
LABELS = torch.tensor([1, 2, 3, 3])


def weights_of(seed):
    return results_folder("digits/adm-small") / f"seed-{seed}" / WEIGHTS


def finished(**changes):
    """Leave what a run leaves; return the models, one a seed."""
    run, models = run_from({**ASKED, **changes}), {}
    entry = DATASETS[run.data]
    for seed in run.seeds:
        models[seed] = build_model(run, entry.shape, entry.num_classes, seed).eval()
        for parameter in models[seed].parameters():
            nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(seed))
        weights = results_folder(run.name) / f"seed-{seed}" / WEIGHTS
        weights.parent.mkdir(parents=True, exist_ok=True)
        save_weights(weights, models[seed])
    left = [{"result": {"seed": seed, **MEASURED}, "surroundings": MADE_WITH} for seed in run.seeds]
    write(results_folder(run.name), manifest_of(run, left), [], "")
    return models


def drawn(model, shape=(1, 8, 8), sigmas=(60.0,), label=None):
    return sample(model, 4, shape, sigmas, torch.Generator().manual_seed(1), label)


# Value: what is read is what was trained


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conditional": False},
        MLP,
        {**MLP, "preset": "ICT_DEEP", "conditional": False},
        {"network": "small_unet", "network_options": {"channels": 8}},
    ],
)
def test_the_model_of_each_seed_comes_back_bit_for_bit(project, changes):
    models = finished(**changes)
    label = LABELS if changes.get("conditional", True) else None
    for seed in (3, 5):
        read = trained_model("digits/adm-small", seed)
        assert torch.equal(drawn(read, label=label), drawn(models[seed], label=label))
        assert (read.sigma_data, read.sigma_min, read.training) == (0.4, 0.002, False)
    assert torch.equal(drawn(trained_model("digits/adm-small"), label=label), drawn(models[3], label=label))


def test_the_data_need_not_be_there(project, monkeypatch):
    monkeypatch.setenv("ICT_DATA", str(project / "none"))
    models = finished(data="cifar10", **MLP)
    read = trained_model("digits/adm-small")
    assert torch.equal(drawn(read, (3, 32, 32), label=LABELS), drawn(models[3], (3, 32, 32), label=LABELS))


# Invariant: the command writes the same model


@pytest.mark.parametrize("words", [[], ["--seed", "5"]])
def test_the_command_exports_what_diffusers_draws_alike(project, capsys, words):
    models = finished()
    assert main(["export", "digits/adm-small", "made/here", *words]) == 0
    assert 'from_pretrained("made/here")' in capsys.readouterr().out
    model = models[5 if words else 3]
    pipeline = ConsistencyModelPipeline.from_pretrained("made/here", low_cpu_mem_usage=False)
    images = pipeline(4, LABELS.tolist(), generator=torch.Generator().manual_seed(1), output_type="pt").images
    torch.testing.assert_close(2 * images - 1, drawn(model, label=LABELS).clamp(-1, 1), rtol=0, atol=1e-4)
    assert pipeline.scheduler.config["rho"] == 5
    assert f"The weights here are of seed {5 if words else 3}." in (project / "made/here/README.md").read_text()


# Errors


def test_a_run_without_record_or_weights_names_the_command(project, capsys):
    with pytest.raises(FileNotFoundError, match="run 'digits/adm-small' has no record yet"):
        trained_model("digits/adm-small")
    finished()
    weights_of(5).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"seed-5/weights.safetensors is missing: .*`make run RUN=runs/digits/adm-small/manif"
    ):
        trained_model("digits/adm-small", 5)
    assert main(["export", "digits/adm-small", "made", "--seed", "5"]) == 2
    assert "seed-5/weights.safetensors is missing" in capsys.readouterr().err
    assert not (project / "made").exists()


def test_a_seed_that_the_run_has_not_is_refused(project):
    finished()
    with pytest.raises(ValueError, match=r"seed is 0: one of the run's, \[3, 5\], is needed"):
        trained_model("digits/adm-small", 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: b"",
        lambda whole: safetensors.torch.save({"network.first.weight": torch.zeros(3)}),
    ],
)
def test_damaged_or_foreign_weights_are_named(project, damage):
    finished()
    weights_of(3).write_bytes(damage(weights_of(3).read_bytes()))
    with pytest.raises(ValueError, match=r"weights.safetensors is damaged, or not of the network in its manifest"):
        trained_model("digits/adm-small")


def test_a_network_that_diffusers_cannot_hold_is_refused_in_one_line(project, capsys):
    finished(**MLP)
    assert main(["export", "digits/adm-small", "made"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("refused: network is 'mlp': ")
    assert err.count("\n") == 1
    assert not (project / "made").exists()
