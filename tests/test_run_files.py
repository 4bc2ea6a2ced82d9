"""The run files at scale: their values against the paper's, the source of each, and one change an ablation."""

import inspect
import json
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml

from ict_lib.config import Run, check_processes, read_run, run_from, variants_of
from ict_lib.data import DATASETS
from ict_lib.networks.build import NETWORKS
from ict_lib.recipe import CT, ICT, RUNGS
from ict_lib.techniques import curriculum, distance
from ict_lib.training.step import Learner

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs"
NAMES = sorted(path.relative_to(RUNS).with_suffix("").as_posix() for path in RUNS.rglob("*.yaml"))
STUDIES = [name for name in NAMES if yaml.safe_load((RUNS / f"{name}.yaml").read_text())["run"].get("variants")]
PAPER = [name for name in NAMES if name not in STUDIES and name.startswith(("cifar10/", "imagenet64/"))]
SCALE = [*PAPER, *(name for name in NAMES if name not in STUDIES and name.startswith("fashion-mnist/"))]

# Typed from the notes on the paper, by run: setting -> value and mark. What stands for iCT on a data set stands for
# iCT-deep too, unless it is said again.
ICT_RECIPE = {
    "recipe.teacher": ("student", "B"),
    "recipe.distance": ("pseudo_huber", "B"),
    "recipe.huber_c": ("0.00054 sqrt(d)", "B"),
    "recipe.curriculum": ("doubling", "B"),
    "recipe.s0": (10, "B"),
    "recipe.s1": (1280, "B"),
    "recipe.noise_schedule": ("lognormal", "B"),
    "recipe.p_mean": (-1.1, "B"),
    "recipe.p_std": (2.0, "B"),
    "recipe.weighting": ("inverse_gap", "B"),
}
CT_RECIPE = {
    "recipe.teacher": ("ema", "A"),
    "recipe.distance": ("lpips", "A"),
    "recipe.curriculum": ("square_root", "A"),
    "recipe.s0": (2, "A"),
    "recipe.noise_schedule": ("uniform", "A"),
    "recipe.weighting": ("uniform", "A"),
    "recipe.dropout": (0.0, "A"),
}
ENDS = (("rho", 7.0), ("sigma_min", 0.002), ("sigma_max", 80.0), ("sigma_data", 0.5))
GRID = {mark: {f"recipe.{name}": (value, mark) for name, value in ENDS} for mark in "AB"}
CIFAR10 = {
    "data": ("cifar10", "A"),
    "conditional": (False, "A"),
    "flip": (True, "A"),
    "network": ("ncsnpp", "A"),
    "network_options.channels": (128, "A"),
    "network_options.multipliers": ([2, 2, 2], "A"),
    "network_options.blocks": (4, "A"),
    "network_options.attention_resolutions": ([16], "A"),
}
IMAGENET64 = {
    "data": ("imagenet64", "A"),
    "conditional": (True, "A"),
    "network": ("adm", "A"),
    "network_options.channels": (192, "A"),
    "network_options.multipliers": ([1, 2, 3, 4], "A"),
    "network_options.blocks": (3, "A"),
    "network_options.attention_resolutions": ([32, 16, 8], "A"),
    "network_options.head_channels": (64, "A"),
}
OPTIMIZER = {name: {"optimizer.betas": ([0.9, 0.999], name), "optimizer.weight_decay": (0, name)} for name in "AM"}
ICT_CIFAR10 = {
    **ICT_RECIPE,
    **GRID["B"],
    **CIFAR10,
    **OPTIMIZER["M"],
    "recipe.fourier_scale": (0.02, "B"),
    "recipe.dropout": (0.3, "B"),
    "learning_rate": (1e-4, "B"),
    "batch_size": (1024, "B"),
    "steps": (400_000, "B"),
    "ema_decay": (0.99993, "B"),
    "sigma_mid": (0.821, "B"),
}
ICT_IMAGENET64 = {
    **ICT_RECIPE,
    **GRID["B"],
    **IMAGENET64,
    **OPTIMIZER["M"],
    "recipe.dropout": (0.2, "B"),
    "network_options.dropout_resolution": (16, "B"),
    "network_options.adaptive_norm": (False, "B"),
    "learning_rate": (1e-4, "B"),
    "batch_size": (4096, "B"),
    "steps": (800_000, "B"),
    "ema_decay": (0.99997, "B"),
    "sigma_mid": (1.526, "B"),
}
VALUES = {
    "cifar10/ict": ICT_CIFAR10,
    "cifar10/ict-deep": {**ICT_CIFAR10, "recipe.depth": (2, "B"), "sigma_mid": (0.661, "M")},
    "cifar10/ict-512": {
        **ICT_CIFAR10,
        "batch_size": (512, "M"),
        "steps": (400_000, "own"),
        "ema_decay": (0.99993, "own"),
    },
    "cifar10/ct": {
        **CT_RECIPE,
        **GRID["A"],
        **CIFAR10,
        **OPTIMIZER["A"],
        "recipe.s1": (150, "A"),
        "recipe.mu0": (0.9, "A"),
        "recipe.fourier_scale": (16.0, "A"),
        "learning_rate": (4e-4, "A"),
        "batch_size": (512, "A"),
        "steps": (800_000, "A"),
        "ema_decay": (0.9999, "A"),
        "precision": ("fp32", "A"),
    },
    "imagenet64/ict": ICT_IMAGENET64,
    "imagenet64/ict-normalised": {
        **ICT_IMAGENET64,
        "network_options.attention_resolutions": ([16, 8], "B"),
        "network_options.normalise_qk": (True, "own"),
    },
    "imagenet64/ict-deep": {**ICT_IMAGENET64, "recipe.depth": (2, "M"), "sigma_mid": (0.973, "M")},
    "imagenet64/ct": {
        **CT_RECIPE,
        **GRID["A"],
        **IMAGENET64,
        **OPTIMIZER["A"],
        "recipe.s1": (200, "A"),
        "recipe.mu0": (0.95, "A"),
        "network_options.adaptive_norm": (True, "A"),
        "network_options.embedding_scale": (1000.0, "A"),
        "learning_rate": (1e-4, "A"),
        "batch_size": (2048, "A"),
        "steps": (800_000, "A"),
        "ema_decay": (0.999943, "A"),
        "precision": ("fp16", "A"),
        "sigma_mid": (1.913, "A"),
    },
}
ABLATIONS = {
    "ict-uniform-weighting": ("weighting", "uniform"),
    "ict-fourier-16": ("fourier_scale", 16.0),
    "ict-no-dropout": ("dropout", 0.0),
    "ict-ema": ("teacher", "ema"),
    "ict-squared-l2": ("distance", "squared_l2"),
    "ict-square-root": ("curriculum", "square_root"),
    "ict-uniform-noise": ("noise_schedule", "uniform"),
}


def values_of(name):
    return read_run(name, [], ROOT)


def run_of(name):
    return run_from(values_of(name))


def sources_of(name):
    """Setting -> mark, and the note behind it."""
    return {key: tuple(text.partition(" ")[::2]) for key, text in values_of(name).get("sources", {}).items()}


def in_force(name):
    """What a run really uses, by the names that its file has for it, wherever in the code it is decided."""
    run = run_of(name)
    recipe = asdict(run.recipe)
    grow = inspect.signature(curriculum.CHOICES[run.recipe.curriculum]).parameters
    ends = {end: grow[end].default for end in ("s0", "s1") if recipe[end] is None}
    recipe |= {**ends, "huber_c": f"{distance.huber_c(1)} sqrt(d)"}
    options = {key: parameter.default for key, parameter in inspect.signature(NETWORKS[run.network]).parameters.items()}
    options = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()} | run.network_options
    used = Learner(torch.nn.Linear(1, 1), ICT).optimizer.defaults
    optimizer = {"betas": list(used["betas"]), "weight_decay": used["weight_decay"]}
    groups = {"recipe": recipe, "network_options": options, "optimizer": optimizer}
    flat = {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
    return {**run.to_dict(), **flat, "flip": DATASETS[run.data].flip}


def said_in(name):
    """Gather the values that a file sets, those of a dict one by one."""
    flat = {}
    for key, value in values_of(name).items():
        if key not in ("name", "preset", "notebook", "sources"):
            flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


# --- value: the paper's, typed a second time ---


@pytest.mark.parametrize("name", VALUES)
def test_the_values_are_the_papers_with_the_same_marks(name):
    used, sources = in_force(name), sources_of(name)
    assert {key: (used[key], sources[key][0]) for key in VALUES[name]} == VALUES[name]


def test_there_is_a_run_for_each_column_and_each_technique():
    ablations = {f"cifar10/{name}" for name in ABLATIONS}
    assert set(PAPER) == set(VALUES) | ablations
    assert set(SCALE) - set(PAPER) == {"fashion-mnist/ict", "fashion-mnist/ct", "fashion-mnist/mlp"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_ict_at_its_batch_with_one_field_of_ct(name):
    whole, changed = (run_of(f"cifar10/{each}").to_dict() for each in ("ict-512", name))
    field, value = ABLATIONS[name]
    assert changed["recipe"].pop(field) == value == getattr(CT, field)
    assert whole["recipe"].pop(field) == getattr(ICT, field)
    assert changed.pop("name") != whole.pop("name")
    assert changed.pop("sources") != whole.pop("sources")
    assert changed == whole


def test_the_ablations_ict_is_ict_but_for_half_the_batch():
    whole, changed = (run_of(f"cifar10/{each}").to_dict() for each in ("ict", "ict-512"))
    assert (changed.pop("batch_size"), whole.pop("batch_size")) == (512, 1024)
    assert (changed.pop("micro_batch"), whole.pop("micro_batch")) == (64, 128)  # 8 shards each
    differ = {name for name, value in whole.items() if changed[name] != value}
    assert differ == {"name", "sources"}


def test_the_normalised_run_is_ict_but_for_its_attention():
    whole, changed = (run_of(f"imagenet64/{each}").to_dict() for each in ("ict", "ict-normalised"))
    differ = {name for name, value in whole.items() if changed[name] != value}
    assert differ == {"name", "network_options", "sources"}


def test_the_ablations_leave_out_each_technique_once():
    left_out = [field for field, _ in ABLATIONS.values()]
    assert len(set(left_out)) == 7
    assert set(left_out) == {field for field, value in asdict(ICT).items() if value != asdict(CT)[field]}


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_ablations_batch_is_from_memory_and_what_depends_on_it_our_choice(name):
    marks = {key: mark for key, (mark, _) in sources_of(f"cifar10/{name}").items()}
    assert (marks["batch_size"], marks["ema_decay"], marks["steps"]) == ("M", "own", "own")


@pytest.mark.parametrize("name", [name for name in PAPER if "/ict" in name])
def test_of_icts_values_only_data_and_network_are_read_in_released_code(name):
    """And what an ablation takes from CT. The code of iCT was not released."""
    read = {key for key, (mark, _) in sources_of(name).items() if mark == "A"}
    of_ct = {f"recipe.{field}" for field, _ in ABLATIONS.values()} | {"recipe.mu0", "recipe.s0", "recipe.s1"}
    allowed = {"data", "flip", "conditional", "network"} | (
        of_ct if name.removeprefix("cifar10/") in ABLATIONS else set()
    )
    assert {key for key in read if not key.startswith("network_options.")} <= allowed


# --- invariant: every value has a source, and what the file says of the code is so ---


@pytest.mark.parametrize("name", SCALE)
def test_every_value_has_a_source(name):
    sources = sources_of(name)
    assert said_in(name).keys() <= sources.keys()
    run, default = run_of(name).to_dict(), Run().to_dict()
    differ = {field.name for field in fields(Run) if run[field.name] != default[field.name]}
    differ -= {"name", "preset", "notebook", "recipe", "network_options", "sources"}
    assert differ <= sources.keys()


@pytest.mark.parametrize("name", SCALE)
def test_what_a_file_says_of_the_code_is_so(name):
    """Behind the mark of what the file does not set stands the value that the preset or the code has for it."""
    used, said = in_force(name), said_in(name)
    for key, (_, note) in sources_of(name).items():
        if key not in said:
            assert yaml.safe_load(note.partition("; ")[0]) == used[key], key


@pytest.mark.parametrize("name", SCALE)
def test_all_in_which_ct_and_ict_differ_is_said(name):
    differ = {f"recipe.{field}" for field, value in asdict(ICT).items() if value != asdict(CT)[field]}
    unused = {"recipe.fourier_scale"} if name.startswith("imagenet64/") else set()  # its embedding is positional
    assert {"optimizer.betas", "optimizer.weight_decay", "flip"} | differ - unused <= sources_of(name).keys()


def test_every_file_is_a_run_of_its_own_name():
    assert NAMES
    for name in NAMES:
        assert run_of(name).name == name
        assert yaml.safe_load((RUNS / f"{name}.yaml").read_text()).keys() == {"run"}  # papermill's one parameter


# --- invariant: a ladder changes one technique a rung, both ways, and a sweep one thing ---

SETS = ("ring.", "moons.", "spiral.", "checkerboard.")
LADDERS = [(name, "") for name in STUDIES if "/ladder" in name and name != "toy/ladder"]
LADDERS += [("toy/ladder", prefix) for prefix in SETS]


def techniques_in(first, second):
    """Name the techniques in which two recipes differ; their constants are not counted."""
    return [field for field in RUNGS if getattr(first, field) != getattr(second, field)]


@pytest.mark.parametrize(("name", "prefix"), LADDERS)
def test_a_ladder_changes_one_technique_a_rung_and_takes_each_out_once(name, prefix):
    runs = {v.removeprefix(prefix): one for v, one in variants_of(run_of(name)).items() if v.startswith(prefix)}
    climbed = ["ct", *(v for v in runs if v.startswith("plus-")), "ict"]
    rungs = [techniques_in(runs[low].recipe, runs[high].recipe) for low, high in pairwise(climbed)]
    fields = [field for field in RUNGS if prefix == "" or field != "dropout"]  # of points none has any
    assert rungs == [[field] for field in fields]
    out = [techniques_in(one.recipe, runs["ict"].recipe) for v, one in runs.items() if v.startswith("ict-")]
    assert out == [[field] for field in fields]
    assert techniques_in(runs["ct-verbatim"].recipe, CT) == techniques_in(runs["ct"].recipe, CT) == []
    assert runs["ct-verbatim"].recipe.mu0 == CT.mu0 != runs["ct"].recipe.mu0
    assert techniques_in(runs["ict"].recipe, ICT) == (["dropout"] if prefix else [])


def test_the_sets_of_the_toys_ladder_are_trained_alike():
    runs = {v: one.to_dict() for v, one in variants_of(run_of("toy/ladder")).items()}
    assert len(runs) == 4 * sum(v.startswith("ring.") for v in runs)
    names = dict(zip(SETS, ("ring", "two_moons", "spiral", "checkerboard"), strict=True))
    for label, one in runs.items():
        assert one.pop("data") == names[f"{label.partition('.')[0]}."]
    for label, one in runs.items():
        assert one == runs[f"ring.{label.partition('.')[2]}"]


@pytest.mark.parametrize("name", [name for name in STUDIES if name.startswith("toy/sweep")])
def test_a_sweep_changes_one_field_of_ict_as_the_toys_ladder_has_it(name):
    runs = variants_of(run_of(name))
    whole = variants_of(run_of("toy/ladder"))["ring.ict"].to_dict()
    said = {"name", "recipe", "preset", "seeds"}
    settings = {label: {k: v for k, v in one.to_dict().items() if k not in said} for label, one in runs.items()}
    half = {k: v // 2 if k in ("steps", "evaluate_every") else v for k, v in whole.items() if k not in said}
    assert settings["ict"] == half
    for label, one in runs.items():
        changed = {k for k, v in asdict(one.recipe).items() if v != getattr(runs["ict"].recipe, k)}
        changed |= {k for k, v in settings[label].items() if v != settings["ict"][k]}
        if label.startswith("same-"):  # as many points seen, and averaged over as many
            assert changed == {"batch_size", "steps", "evaluate_every", "ema_decay"}
            assert one.batch_size * one.steps == runs["ict"].batch_size * runs["ict"].steps
            assert one.ema_decay == pytest.approx(runs["ict"].ema_decay ** (one.batch_size / 64), abs=1e-4)
        else:
            assert len(changed) == (label != "ict") or changed == {"s0", "s1"}
    published = asdict(runs["ict"].recipe)
    ends = {"s0": 10, "s1": 1280, "huber_c": pytest.approx(distance.huber_c(2), rel=1e-4)}
    wanted = {k: ends[k] if k in ends and published[k] is not None else v for k, v in whole["recipe"].items()}
    assert published == wanted


def test_the_study_of_rounding_changes_the_numbers_alone_and_begins_with_a_training_of_a_sweep():
    runs = {label: one.to_dict() for label, one in variants_of(run_of("toy/precision")).items()}
    whole = variants_of(run_of("toy/sweep-levels"))["fixed-1280"].to_dict()
    for label, one in runs.items():
        changed = {k for k, v in one.items() if v != whole[k]} - {"name", "notebook"}
        assert changed == (set() if label == "fp32" else {"precision"} if label == "bf16" else {"precision", "mistake"})
    rows = [json.loads(line) for line in (RUNS / "toy/precision/table.jsonl").read_text().splitlines()]
    swept = [json.loads(line) for line in (RUNS / "toy/sweep-levels/table.jsonl").read_text().splitlines()]
    same = [row | {"variant": "fp32"} for row in swept if row["variant"] == "fixed-1280"]
    assert [row for row in rows if row["variant"] == "fp32"] == same  # settings and all


# --- shapes: processes, stages, lengths of lines ---


@pytest.mark.parametrize("name", SCALE)
def test_the_processes_of_several_machines_can_share_a_batch(name):
    run, shards = run_of(name), {"cifar10": 8, "imagenet64": 64, "fashion-mnist": 1}[name.partition("/")[0]]
    assert run.num_shards == shards
    assert run.processes == (1 if shards == 1 else 8)
    for processes in (1, 2, 4, 8, 16, 32, 64):
        if processes <= shards:
            check_processes(run, processes)


@pytest.mark.parametrize("name", SCALE)
def test_what_is_done_now_and_then_falls_on_a_record(name):
    run = run_of(name)
    for every in (run.evaluate_every, run.measure_every, run.checkpoint_every, run.milestone_every, run.steps):
        assert every % run.log_every == 0
    if run.recipe.curriculum == "doubling":
        assert run.milestone_every == run.steps // 8  # eight stages, from 11 to 1281 levels


def test_a_line_fits_on_a_screen():
    for name in NAMES:
        assert max(map(len, (RUNS / f"{name}.yaml").read_text().splitlines())) <= 120, name
