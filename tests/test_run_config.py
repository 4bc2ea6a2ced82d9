"""What a run is: `ict_lib.run_config`; and what the library may load: neither torch here, nor Jupyter in training."""

import inspect
import re
import subprocess
import sys
import typing
from dataclasses import asdict, fields
from pathlib import Path
from statistics import median

import pytest
import yaml
from ict_lib.run_config import RunConfig
from ict_lib.run_file import PARAMETERS, Run, find_run, notebook_parameters, run_from

from ict_lib.networks.options import NETWORK_OPTIONS
from ict_lib.recipe import CT, ICT, PRESETS

RUNS = Path(__file__).resolve().parents[1] / "runs"
ALL = {
    "name": "digits/a-1",
    "notebook": "book/reproduce.ipynb",
    "preset": "CT",
    "seeds": [3, 1],
    "num_samples": 10,
    "sigma_mid": 0.5,
    "evaluate_every": 7,
    "measure_every": 6,
    "nodes": 1,
    "rendezvous": "head:29500",
    "tensorboard": True,
    "recipe": {"dropout": 0.1, "s1": 20},
    "data": "digits",
    "network": "small_unet",
    "network_options": {"channels": 16},
    "conditional": True,
    "steps": 12,
    "batch_size": 6,
    "micro_batch": 3,
    "processes": 2,
    "learning_rate": 1,
    "ema_decay": 0.5,
    "precision": "bf16",
    "compile": True,
    "device": "cuda:1",
    "log_every": 2,
    "checkpoint_every": 5,
    "milestone_every": 4,
}


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Value: what a file says is what the run has


def test_every_parameter_arrives():
    assert set(ALL) == set(PARAMETERS)
    run = run_from(ALL)
    for name, value in ALL.items():
        if name != "recipe":
            assert getattr(run, name, None) == value or getattr(run.config, name) == value
    assert asdict(run.config.recipe) == {**asdict(CT), "dropout": 0.1, "s1": 20}


def test_nothing_given_is_ict_on_the_digits():
    assert run_from({}) == Run()
    assert run_from({"recipe": None}).config == RunConfig(recipe=ICT)


@pytest.mark.parametrize("path", sorted(RUNS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_the_run_files_are_right_and_named_as_they_say(path):
    run = run_from(yaml.safe_load(path.read_text()))
    assert find_run(run.name, RUNS.parent) == path


# Invariant


def test_one_configuration_a_seed_alike_in_all_else():
    run = run_from(ALL)
    configs = run.configs()
    assert [c.seed for c in configs] == [3, 1]
    assert {c.folder for c in configs} == {None}
    same = [{**asdict(c), "seed": 0} for c in configs]
    assert same[0] == same[1]


def test_each_seed_keeps_its_checkpoints_apart():
    folders = [c.folder for c in run_from({"seeds": [0, 1]}).configs(Path("runs/a"))]
    assert len(set(folders)) == 2
    assert all(folder.startswith("runs/a/") for folder in folders)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_taken_whole(preset):
    assert run_from({"preset": preset}).config.recipe == PRESETS[preset]


def test_sigma_mid_is_checked_against_the_runs_own_levels():
    assert run_from({"sigma_mid": 90.0, "recipe": {"sigma_max": 100.0}}).sigma_mid == 90
    assert run_from({"sigma_mid": 0.2, "recipe": {"sigma_max": 0.5}}).sigma_mid == 0.2
    with pytest.raises(ValueError, match=r"sigma_mid is 0.821: 0.002 <= sigma_mid < 0.5"):
        run_from({"recipe": {"sigma_max": 0.5}})


def test_the_options_known_without_torch_are_those_that_the_networks_take():
    from ict_lib.networks.build import NETWORKS

    of_the_recipe = {"shape", "fourier_scale", "dropout", "num_classes"}
    own = {name: set(inspect.signature(network).parameters) - of_the_recipe for name, network in NETWORKS.items()}
    assert {name: set(options) for name, options in NETWORK_OPTIONS.items()} == own
    assert set(typing.get_args(RunConfig.__annotations__["network"])) == set(NETWORKS)


def test_the_type_of_an_option_is_that_of_its_default():
    from ict_lib.networks.build import NETWORKS

    for name, network in NETWORKS.items():
        defaults = {key: p.default for key, p in inspect.signature(network).parameters.items()}
        for option, kind in NETWORK_OPTIONS[name].items():
            assert type(defaults[option]) is {list: tuple}.get(kind, kind), (name, option)


def test_switches_and_numbers_of_adm_arrive():
    options = {"adaptive_norm": True, "embedding_scale": 1000, "attention_resolutions": [16, 8]}
    assert run_from({"network": "adm", "network_options": options}).config.network_options == options


# A notebook's namespace


def test_parameters_of_a_notebook_are_what_stands_there_after_its_first_cell():
    namespace = {"__name__": "x", "_i1": "", "In": [], "Out": {}, "exit": None, "re": re, "find_run": find_run}
    namespace |= {"steps": 5, "stpes": 6}
    assert notebook_parameters(namespace) == {"steps": 5, "stpes": 6}
    namespace |= {"steps": 7, "later": 1}
    assert notebook_parameters(namespace) == {"steps": 7, "stpes": 6}


# What is loaded


def test_checking_a_run_needs_no_torch():
    python("import ict_lib.run_config, sys; assert 'torch' not in sys.modules")


def test_training_needs_no_jupyter_and_loads_in_three_seconds():
    """Processor time, since other programs may be running; the median of three."""
    code = (
        "import ict_lib.training, sys, time; seconds = time.process_time(); "
        "assert not {'matplotlib', 'IPython', 'ipywidgets', 'papermill'} & set(sys.modules); print(seconds)"
    )
    assert median(float(python(code)) for _ in range(3)) < 3


# Errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stpes": 1}, "unknown parameter 'stpes': did you mean 'steps'"),
        ({"dropout": 0.1}, "unknown parameter 'dropout'"),
        ({"seed": 0}, "unknown parameter 'seed': did you mean 'seeds'"),
        ({"folder": "x"}, "unknown parameter 'folder'"),
        ({1: 2}, "unknown parameter 1"),
        ({"recipe": {"drpout": 0.1}}, "unknown field of Recipe 'drpout': did you mean 'dropout'"),
        ({"recipe": {"dropout": 2}}, "dropout is 2: 0 <= dropout < 1"),
        ({"recipe": ["dropout"]}, "recipe is .*a dict of fields"),
        ({"preset": "ict"}, "preset is 'ict'"),
        ({"preset": "ICT_DEP"}, "did you mean 'ICT_DEEP'"),
        ({"preset": ["ICT"]}, "preset is"),
        ({"network": "unet"}, "did you mean 'small_unet'"),
        ({"data": "digit"}, "did you mean 'digits'"),
        ({"data": "cifar-10"}, "did you mean 'cifar10'"),
        ({"data": "imagenet"}, "did you mean 'imagenet64'"),
        ({"data": "mnist"}, "did you mean 'fashion_mnist'"),
        ({"network_options": [1]}, "network_options is .*dict is needed"),
        ({"network_options": {"widht": 8}}, "unknown option 'widht' of network 'mlp': did you mean 'width'"),
        ({"network_options": {"channels": 8}}, "unknown option 'channels' of network 'mlp'"),
        ({"network_options": {"width": "8"}}, "width is '8': a positive whole number"),
        ({"network_options": {"blocks": 0}}, "blocks is 0: a positive whole number"),
        ({"network_options": {"blocks": [1]}}, r"blocks is \[1\]: a positive whole number"),
        ({"network": "small_unet", "network_options": {"multipliers": []}}, "a list of positive whole numbers"),
        ({"network": "small_unet", "network_options": {"multipliers": [1, 0.5]}}, "a list of positive whole numbers"),
        ({"network": "ncsnp"}, "did you mean 'ncsnpp'"),
        ({"network": "adm", "network_options": {"adaptive_norm": 1}}, "adaptive_norm is 1: true or false"),
        ({"network": "adm", "network_options": {"adaptive_norm": "no"}}, "adaptive_norm is 'no': true or false"),
        ({"network": "adm", "network_options": {"embedding_scale": 0}}, "embedding_scale is 0: a positive number"),
        ({"network": "adm", "network_options": {"embedding_scale": True}}, "embedding_scale is True: a positive"),
        ({"network": "adm", "network_options": {"embedding_scale": float("nan")}}, "embedding_scale is nan"),
        ({"network": "adm", "network_options": {"embedding_scale": float("inf")}}, "embedding_scale is inf"),
        ({"network": "adm", "network_options": {"fourier_scale": 16.0}}, "unknown option 'fourier_scale'"),
        ({"conditional": "yes"}, "conditional is 'yes', a str: bool"),
        ({"steps": 0}, "steps is 0: steps > 0"),
        ({"steps": 1e3}, "steps is 1000.0, a float: int"),
        ({"batch_size": -1}, "batch_size > 0"),
        ({"batch_size": True}, "batch_size is True, a bool"),
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf: a finite number"),
        ({"ema_decay": 1.0}, "0 <= ema_decay < 1"),
        ({"ema_decay": -0.1}, "0 <= ema_decay < 1"),
        ({"log_every": 0}, "log_every > 0"),
        ({"checkpoint_every": 0}, "checkpoint_every > 0"),
        ({"device": "gpu"}, "device is 'gpu': auto, cpu, cuda"),
        ({"device": "cuda:x"}, "device is 'cuda:x'"),
        ({"seeds": []}, "seeds is .*a list of different whole numbers"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"seeds": [-1]}, "different whole numbers"),
        ({"seeds": [True]}, "different whole numbers"),
        ({"seeds": 3}, "seeds is 3, a int: list"),
        ({"name": "Digits"}, "name is 'Digits'"),
        ({"name": "../up"}, r"name is '../up'"),
        ({"name": "a//b"}, "name is 'a//b'"),
        ({"num_samples": 1}, "num_samples > 1"),
        ({"sigma_mid": 80.0}, "sigma_mid < 80.0"),
        ({"sigma_mid": 0.001}, "0.002 <= sigma_mid"),
        ({"evaluate_every": 0}, "evaluate_every > 0"),
        ({"notebook": None}, "notebook is None"),
    ],
)
def test_a_mistake_is_refused_with_a_hint(change, said):
    with pytest.raises(ValueError, match=said):
        run_from(change)


def test_yamls_1e_4_is_text_and_the_message_says_so():
    with pytest.raises(ValueError, match=re.escape("write 1.0e-4")):
        run_from(yaml.safe_load("learning_rate: 1e-4"))
    assert run_from(yaml.safe_load("learning_rate: 1.0e-4")).config.learning_rate == 1e-4


def test_a_seed_below_zero_is_refused():
    with pytest.raises(ValueError, match="seed is -1"):
        RunConfig(seed=-1)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "mps", "xpu:1"])
def test_devices(device):
    assert RunConfig(device=device).device == device


def test_an_unknown_run_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "ict.yaml").write_text("")
    assert find_run("digits/ict", tmp_path).name == "ict.yaml"
    with pytest.raises(ValueError, match="unknown run 'digits/itc': did you mean 'digits/ict'"):
        find_run("digits/itc", tmp_path)
    with pytest.raises(ValueError, match="unknown run"):
        find_run("../pyproject", tmp_path)


def test_every_field_of_a_training_can_be_set_but_what_the_run_decides():
    assert {f.name for f in fields(RunConfig)} - set(PARAMETERS) == {"seed", "measuring", "folder"}
