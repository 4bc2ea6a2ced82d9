"""What stands beside the weights: `ict_lib.export.card`; read by the hub's own reader."""

import copy
import json
import re
import tomllib
from pathlib import Path
from statistics import median

import pytest
import yaml
from huggingface_hub import ModelCard

from ict_lib.config import run_from
from ict_lib.consistency import ConsistencyModel
from ict_lib.data import DATASETS
from ict_lib.export import card as card_module
from ict_lib.export.card import model_card
from ict_lib.export.pipeline import save_pipeline
from ict_lib.networks.adm import ADM
from ict_lib.run import record, trained
from ict_lib.training.model import build_model

RUNS = Path(__file__).resolve().parents[1] / "runs"
RECORDS = sorted(path for path in RUNS.rglob("manifest.json") if (path.parent / "metrics.jsonl").exists())
MEASURED = {"seconds": 411.5, "images_seen": 411_522, "peak_memory_bytes": 3 * 2**30}
FIDS = [3.25, 2.5, 4.125]
MADE_WITH = {"versions": {"torch": "2.0", "numpy": "1.0"}, "device": "NVIDIA H200", "commit": 40 * "a"}


def manifest_of(results=None, processes=1, commit=40 * "a", **asked):
    """A manifest of made-up numbers."""
    run = run_from({"name": "digits/a", "seeds": [0, 1, 2], **asked})
    results = results or [{"fid_1_step": fid} for fid in FIDS]
    made_with = MADE_WITH | {"commit": commit, "processes": processes}
    left = [
        {"result": {"seed": seed, **MEASURED, **result}, "surroundings": made_with}
        for seed, result in zip(run.seeds, results, strict=False)
    ]
    return record.manifest_of(run, left)


HEADINGS = ["Results", "Recipe", "Training", "How to sample", "Limits"]


def section(card, title):
    """The text under one heading."""
    return re.split(r"\n## .*\n", card + "\n## end\n")[1:][headings(card).index(title)].strip()


def headings(card):
    return re.findall(r"(?m)^## (.*)$", card)


def rows(text):
    """The cells of a table in Markdown."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(line) for line in cells}) == 1  # no cell holds a bar
    return [cells[0], *cells[2:]]


# Value: what the card says is what the manifest says


def test_metrics_are_the_median_and_the_range_over_the_seeds():
    results = [{"fid_1_step": fid, "fid_2_steps": fid / 2, "precision_1_step": 0.5} for fid in FIDS]
    made = section(model_card(manifest_of(results, data="cifar10")), "Results")
    assert rows(made) == [
        ["", "1 step", "2 steps"],
        ["FID, Inception's features", "3.25 (2.50 to 4.12)", "1.62 (1.25 to 2.06)"],
        ["Precision, Inception's features", "0.500 (0.500 to 0.500)", ""],
    ]
    assert "2,000 images; median over 3 seeds (lowest to highest). A second step is at level 0.821." in made


def test_the_recipe_shows_what_differs_from_its_preset():
    card = model_card(manifest_of(preset="CT", recipe={"dropout": 0.1, "s1": 20}))
    assert rows(section(card, "Recipe")) == [
        ["field", "`CT`", "here"],
        ["`dropout`", "0.0", "0.1"],
        ["`s1`", "None", "20"],
    ]
    assert section(model_card(manifest_of()), "Recipe") == "`ICT`, unchanged."


def test_the_training_is_told_with_its_cost():
    asked = {"network": "small_unet", "network_options": {"channels": 8}, "conditional": True, "precision": "bf16"}
    card = model_card(manifest_of(**asked, processes=8, steps=4000, batch_size=128))
    found = dict(rows(section(card, "Training"))[1:])
    assert found == {
        "network": "`small_unet`, options `{'channels': 8}`",
        "labels": "given to the network",
        "steps": "4,000, of 128 images each",
        "images seen": "1,234,566, all seeds together",
        "optimiser": "RAdam, learning rate 0.0006",
        "sampled weights": "moving average, decay 0.998 a step",
        "precision": "bf16",
        "device": "NVIDIA H200; 8 processes together",
        "time": "1,234 seconds, all seeds together",
        "memory": "3.0 GiB at most",
        "commit": f"`{40 * 'a'}`",
        "versions": "torch 2.0, numpy 1.0",
    }


def test_the_marks_of_the_values_are_told_with_their_notes():
    sources = {"steps": "A", "recipe.mu0": "M 0.9 from the talk", "optimizer.betas": "M [0.9, 0.999]", "seeds": "own"}
    card = model_card(manifest_of(sources=sources))
    assert section(card, "Where the values come from").splitlines() == [
        "- Read in released code or in the poster: `steps`.",
        "- From memory, not from the paper: `recipe.mu0` 0.9 from the talk, `optimizer.betas` [0.9, 0.999].",
        "- Our own choice: `seeds`.",
    ]
    assert headings(model_card(manifest_of())) == HEADINGS


# Invariant


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_every_record_gives_a_card_with_its_numbers(path):
    manifest = json.loads(path.read_text())
    before = copy.deepcopy(manifest)
    card = model_card(manifest)
    assert manifest == before
    assert [name for name in headings(card) if name != "Where the values come from"] == HEADINGS
    distances = [result["sliced_wasserstein_1_step"] for result in manifest["results"]]
    assert re.search(rf"^\| Sliced Wasserstein distance.* \| {median(distances):.3g}", card, re.MULTILINE)
    assert all(f"{manifest[key]:,.0f}" in card for key in ("seconds", "images_seen"))
    assert not re.search(r"None|nan|\{[a-z]", card.split("## Recipe")[0])
    assert card.endswith(".\n")


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_one_seed_has_no_range_and_says_so(seeds):
    card = model_card(manifest_of(seeds=seeds))
    alone = len(seeds) == 1
    assert ("(2.50 to" in card) != alone
    assert ("; one seed." in card) == alone
    assert ("There is one seed: how much seeds differ is not known." in section(card, "Limits")) == alone


def test_the_template_goes_into_the_package():
    table = tomllib.loads((RUNS.parent / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]["package-data"]
    packed = {path for pattern in table["ict_lib"] for path in (RUNS.parent / "ict_lib").glob(pattern)}
    assert Path(card_module.__file__).with_name("card.md") in packed


# Independent reference: the hub's own reader


@pytest.mark.parametrize("data", DATASETS)
@pytest.mark.parametrize("exported_seed", [None, 1])
def test_the_hub_reads_its_head(data, exported_seed):
    manifest = manifest_of(data=data, conditional=True, name=f"{data.replace('_', '-')}/a")
    read = ModelCard(model_card(manifest, exported_seed)).data
    assert (read.license, read.pipeline_tag) == ("mit", "unconditional-image-generation")
    assert read.library_name == ("ict_lib" if exported_seed is None else "diffusers")
    assert "class-conditional" in read.tags
    assert read.model_name == manifest["run"]["name"]
    (found,) = read.eval_results
    assert (found.metric_value, found.dataset_name) == (3.25, data)
    assert found.metric_type == (f"{data}_fid" if data in ("digits", "fashion_mnist") else "fid")
    assert (read.datasets == [found.dataset_type]) == (DATASETS[data].hub_name is not None)


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.parent.name)
def test_the_head_is_plain_yaml_that_holds_every_metric(path):
    manifest = json.loads(path.read_text())
    _, head, _ = model_card(manifest).split("---\n", 2)
    metrics = yaml.safe_load(head)["model-index"][0]["results"][0]["metrics"]
    measured = [key for key in manifest["results"][0] if re.search(r"_\d_steps?$", key) and "_std" not in key]
    assert len(metrics) == len(measured)  # best_step is none
    for metric in metrics:
        steps = re.fullmatch(r".*, (\d) steps?", metric["name"])[1]
        key = f"{metric['type'].removeprefix(manifest['run']['data'] + '_')}_{steps}_step{'s' * (steps != '1')}"
        assert metric["value"] == pytest.approx(median(result[key] for result in manifest["results"]), rel=1e-3)


# What it says must run


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("data", ["digits", "cifar10"])
def test_the_lines_that_sample_do(monkeypatch, data, conditional):
    run = run_from({"data": data, "network_options": {"width": 8, "blocks": 1}, "conditional": conditional})
    asked, shape = [], DATASETS[data].shape
    model = build_model(run, shape, 10)
    monkeypatch.setattr(trained, "trained_model", lambda *given, **named: (asked.append((given, named)), model)[1])
    card = model_card(manifest_of(data=data, conditional=conditional, seeds=[4, 2], sigma_mid=0.7))
    code = re.search(r"```python\n(.*)```", section(card, "How to sample"), re.S)[1]
    names = {}
    exec(code, names)
    assert names["images"].shape == (16, *shape)
    assert asked == [(("digits/a",), {"seed": 4})]
    assert code.endswith("# in two steps: sigmas=(80.0, 0.7)\n")


@pytest.mark.parametrize("conditional", [False, True])
def test_the_lines_for_diffusers_do(tmp_path, monkeypatch, conditional):
    network = ADM((1, 8, 8), 0, 10 * conditional, 8, (1,), 1, (8,), 8, embedding_scale=1000.0, groups=2)
    save_pipeline(tmp_path / "FOLDER", ConsistencyModel(network))
    monkeypatch.chdir(tmp_path)
    code = re.search(r"```python\n(.*)```", model_card(manifest_of(conditional=conditional), 0), re.S)[1]
    names = {}
    exec(code, names)
    assert [image.size for image in names["images"]] == 16 * [(8, 8)]
    again = code.splitlines()[-1].removeprefix("# in two steps: ")
    assert "timesteps=[788, 0]" in again
    assert len(eval(again, names).images) == 16


# What is not shown


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "compare with no published number"),
        ({"data": "fashion_mnist"}, "features of a Fashion-MNIST classifier: they compare with no published number"),
        ({"data": "cifar10"}, "An FID of 2,000 images is higher, in the mean, than one of 50,000"),
        ({"network": "adm"}, "Nothing is shown of the recipe's `fourier_scale`: the network has no use for it."),
        ({"preset": "CT"}, "CT was published with LPIPS"),
        ({"data": "fashion_mnist"}, "Nothing is shown of other data than `fashion_mnist`."),
        ({"sigma_mid": 0.5}, "The noise level of the second step, 0.5, was given, not searched for."),
    ],
)
def test_limits_are_said_where_they_hold_and_not_elsewhere(asked, said):
    opposite = {"data": "cifar10", "num_samples": 50_000, "network": "ncsnpp", "preset": "ICT"}
    assert said in section(model_card(manifest_of(**asked)), "Limits")
    assert said not in section(model_card(manifest_of(**opposite)), "Limits")


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        (40 * "a" + "+changes", "The code had changes that are in no commit."),
        ("unknown", "The commit of the code is not known."),
    ],
)
def test_code_that_cannot_be_found_again_is_admitted(commit, said):
    assert said in model_card(manifest_of(commit=commit))
    assert said not in model_card(manifest_of())


def test_a_metric_without_a_title_is_shown_by_its_name():
    results = [
        {"new_metric_4_steps": 1.0, "new_metric_std_4_steps": 2.0, "other_1_step": 3.0},
        {"new_metric_4_steps": 3.0},
    ]
    found = rows(section(model_card(manifest_of(results, seeds=[0, 1])), "Results"))
    assert found == [["", "4 steps"], ["New metric", "2.00 (1.00 to 3.00)"]]
