"""The run files at scale: their values against the paper's, the mark of each, and one change an ablation."""

import inspect
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from ict_lib.plan.marks import LINE, OPENING, settings_of
from ict_lib.run_config import RunConfig
from ict_lib.run_file import run_from

from ict_lib.data import DATASETS
from ict_lib.data.stand_in import stand_in
from ict_lib.networks.build import NETWORKS
from ict_lib.recipe import CT, ICT
from ict_lib.techniques import curriculum, distance
from ict_lib.training.loop import Training

RUNS = Path(__file__).resolve().parents[1] / "runs"
SCALE = sorted(path for folder in ("cifar10", "imagenet64", "fashion-mnist") for path in (RUNS / folder).glob("*.yaml"))
PAPER = [path for path in SCALE if path.parent.name != "fashion-mnist"]
HEADING = ("name", "notebook", "preset")

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
GRID = {f"recipe.{name}": (value, "A") for name, value in (("rho", 7.0), ("sigma_min", 0.002), ("sigma_max", 80.0))}
CIFAR10 = {
    **GRID,
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
    **GRID,
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
    **CIFAR10,
    **OPTIMIZER["M"],
    "recipe.fourier_scale": (0.02, "B"),
    "recipe.dropout": (0.3, "B"),
    "learning_rate": (1e-4, "B"),
    "batch_size": (1024, "A"),
    "steps": (400_000, "A"),
    "ema_decay": (0.99993, "B"),
    "sigma_mid": (0.821, "A"),
}
ICT_IMAGENET64 = {
    **ICT_RECIPE,
    **IMAGENET64,
    **OPTIMIZER["M"],
    "recipe.dropout": (0.2, "M"),
    "network_options.dropout_resolution": (16, "B"),
    "network_options.adaptive_norm": (False, "B"),
    "learning_rate": (1e-4, "A"),
    "batch_size": (4096, "A"),
    "steps": (800_000, "A"),
    "ema_decay": (0.99997, "A"),
    "sigma_mid": (1.526, "A"),
}
VALUES = {
    "cifar10/ict": ICT_CIFAR10,
    "cifar10/ict-deep": {**ICT_CIFAR10, "recipe.depth": (2, "B"), "sigma_mid": (0.661, "M")},
    "cifar10/ct": {
        **CT_RECIPE,
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
    "imagenet64/ict-deep": {**ICT_IMAGENET64, "recipe.depth": (2, "M"), "sigma_mid": (0.973, "M")},
    "imagenet64/ct": {
        **CT_RECIPE,
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


def name_of(path):
    return path.relative_to(RUNS).with_suffix("").as_posix()


def text_of(name):
    return (RUNS / f"{name}.yaml").read_text()


def run_of(name):
    return run_from(yaml.safe_load(text_of(name)))


def in_force(name):
    """What a run really uses, by the names that its file has for it, wherever in the code it is decided."""
    run = run_of(name)
    config, recipe = run.config, asdict(run.config.recipe)
    grow = {"square_root": curriculum.square_root, "doubling": curriculum.doubling}[config.recipe.curriculum]
    ends = {end: inspect.signature(grow).parameters[end].default for end in ("s0", "s1") if recipe[end] is None}
    recipe |= {**ends, "huber_c": f"{distance.huber_c(1)} sqrt(d)"}
    options = {key: p.default for key, p in inspect.signature(NETWORKS[config.network]).parameters.items()}
    options = {key: list(v) if isinstance(v, tuple) else v for key, v in options.items()} | config.network_options
    small = RunConfig(steps=1, network_options={"width": 8, "blocks": 1})
    optimizer = Training(small, data=stand_in("digits", 4)).optimizer.defaults
    optimizer = {"betas": list(optimizer["betas"]), "weight_decay": optimizer["weight_decay"]}
    groups = {"recipe": recipe, "network_options": options, "optimizer": optimizer}
    flat = {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
    return {**asdict(config), **asdict(run), **flat, "flip": DATASETS[config.data].flip}


def flattened(parameters):
    flat = {}
    for key, value in parameters.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


# --- value: the paper's, typed a second time ---


@pytest.mark.parametrize("name", VALUES)
def test_the_values_are_the_papers_with_the_same_marks(name):
    found = {setting.name: (setting.value, setting.mark) for setting in settings_of(text_of(name))}
    assert {key: found.get(key) for key in VALUES[name]} == VALUES[name]


@pytest.mark.parametrize("name", VALUES)
def test_the_values_are_those_that_the_run_uses(name):
    used = in_force(name)
    assert {key: used[key] for key in VALUES[name]} == {key: value for key, (value, _) in VALUES[name].items()}


def test_there_is_a_run_for_each_column_and_each_technique():
    ablations = {f"cifar10/{name}" for name in ABLATIONS}
    assert {name_of(path) for path in PAPER} == set(VALUES) | ablations
    assert {name_of(path) for path in SCALE} - set(VALUES) - ablations == {"fashion-mnist/ict", "fashion-mnist/ct"}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_ict_with_one_field_of_ct_at_half_the_batch(name):
    whole, changed = asdict(run_of("cifar10/ict")), asdict(run_of(f"cifar10/{name}"))
    field, value = ABLATIONS[name]
    assert changed["config"]["recipe"].pop(field) == value == getattr(CT, field)
    assert whole["config"]["recipe"].pop(field) == getattr(ICT, field)
    assert (changed["config"].pop("batch_size"), whole["config"].pop("batch_size")) == (512, 1024)
    assert (changed["config"].pop("micro_batch"), whole["config"].pop("micro_batch")) == (64, 128)  # 8 shards each
    changed.pop("name"), whole.pop("name")
    assert changed == whole


def test_the_ablations_leave_out_each_technique_once():
    fields = [field for field, _ in ABLATIONS.values()]
    ours = {field for field, value in asdict(ICT).items() if value != asdict(CT)[field]}
    assert len(set(fields)) == 7
    assert set(fields) == ours


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_batch_of_the_ablations_is_from_memory(name):
    assert {s.name: s.mark for s in settings_of(text_of(f"cifar10/{name}"))}["batch_size"] == "M"


# --- invariant: every value has a mark, and what the file says of the code is so ---


@pytest.mark.parametrize("path", SCALE, ids=name_of)
def test_every_value_has_a_mark(path):
    for line in path.read_text().splitlines():
        plain = line == "" or re.match(r"# ", line) or OPENING.fullmatch(line)
        heading = line.partition(":")[0] in HEADING and "#" not in line
        assert plain or heading or LINE.fullmatch(line), f"{line!r} has no mark"


@pytest.mark.parametrize("path", SCALE, ids=name_of)
def test_the_marked_values_are_those_that_yaml_reads(path):
    read = {setting.name: setting.value for setting in settings_of(path.read_text()) if not setting.default}
    parameters = yaml.safe_load(path.read_text())
    assert read == flattened({key: value for key, value in parameters.items() if key not in HEADING})


@pytest.mark.parametrize("path", SCALE, ids=name_of)
def test_what_a_file_says_of_the_code_is_so_and_said_once(path):
    settings, used = settings_of(path.read_text()), in_force(name_of(path))
    names = [setting.name for setting in settings]
    assert len(names) == len(set(names))
    told = {setting.name: setting.value for setting in settings if setting.default}
    assert told == {key: used[key] for key in told}


@pytest.mark.parametrize("path", SCALE, ids=name_of)
def test_all_in_which_ct_and_ict_differ_is_said(path):
    said = {setting.name for setting in settings_of(path.read_text())}
    differ = {f"recipe.{field}" for field, value in asdict(ICT).items() if value != asdict(CT)[field]}
    unused = {"recipe.fourier_scale"} if path.parent.name == "imagenet64" else set()  # its embedding is positional
    assert differ - unused <= said
    assert {"optimizer.betas", "optimizer.weight_decay", "flip"} <= said


# --- shapes: processes, stages, lengths of lines ---


@pytest.mark.parametrize("path", SCALE, ids=name_of)
def test_the_processes_of_several_machines_can_share_a_batch(path):
    shards = {"cifar10": 8, "imagenet64": 64, "fashion-mnist": 1}[path.parent.name]
    parameters = yaml.safe_load(path.read_text())
    for processes in (1, 2, 4, 8, 16, 32, 64):
        changed = {**parameters, "processes": min(processes, 8), "nodes": -(-processes // 8)}
        if processes <= shards:
            assert run_from(changed).configs()[0].num_shards == shards
    assert run_from(parameters).processes == (1 if shards == 1 else 8)


@pytest.mark.parametrize("path", SCALE, ids=name_of)
def test_what_is_done_now_and_then_falls_on_a_record(path):
    run = run_of(name_of(path))
    config = run.config
    for every in (run.evaluate_every, run.measure_every, config.checkpoint_every, config.milestone_every, config.steps):
        assert every % config.log_every == 0
    if config.recipe.curriculum == "doubling":
        assert config.milestone_every == config.steps // 8  # eight stages, from 11 to 1281 levels


def test_a_line_fits_on_a_screen():
    for path in SCALE:
        assert max(map(len, path.read_text().splitlines())) <= 120, path
