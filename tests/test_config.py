"""A run: `ict_lib.config`; and what the library may load: neither torch here, nor Jupyter in training."""

import inspect
import json
import os
import re
import subprocess
import sys
import typing
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from ict_lib.config import MARKS, Run, check_processes, check_settings, identity, read_run, run_from
from ict_lib.networks.options import NETWORK_OPTIONS
from ict_lib.recipe import CT, ICT, PRESETS

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "runs").rglob("*.yaml"))
ALL = {
    "name": "digits/a-1",
    "notebook": "book/reproduce.ipynb",
    "preset": "CT",
    "recipe": {"dropout": 0.1, "s1": 20},
    "data": "cifar10",
    "network": "small_unet",
    "network_options": {"channels": 16, "multipliers": [1, 2]},
    "conditional": True,
    "seeds": [3, 1],
    "steps": 12,
    "batch_size": 12,
    "micro_batch": 3,
    "learning_rate": 1,
    "ema_decay": 0.5,
    "precision": "bf16",
    "compile": True,
    "device": "cuda:1",
    "processes": 2,
    "log_every": 2,
    "checkpoint_every": 5,
    "milestone_every": 4,
    "evaluate_every": 7,
    "measure_every": 6,
    "num_samples": 10,
    "sigma_mid": 0.5,
    "tensorboard": True,
    "mistake": "no-c-in",
    "sources": {"steps": "A", "recipe.s1": "own shorter than the paper's"},
    "variants": {"ict": {"preset": "ICT"}},
}
# Another value of each field that does not decide the weights; all others do.
HARMLESS = {
    "name": "b",
    "notebook": "book/introduction.ipynb",
    "seeds": [5],
    "compile": False,
    "device": "cpu",
    "processes": 4,
    "log_every": 3,
    "checkpoint_every": 6,
    "milestone_every": None,
    "evaluate_every": 8,
    "measure_every": None,
    "num_samples": 20,
    "sigma_mid": 0.6,
    "tensorboard": False,
    "sources": {},
    "variants": {},
}
DECISIVE = {
    "preset": "ICT",
    "recipe": {"dropout": 0.2, "s1": 20},
    "data": "imagenet64",
    "network": "ncsnpp",
    "network_options": {"channels": 8},
    "conditional": False,
    "steps": 13,
    "batch_size": 24,
    "micro_batch": 6,
    "learning_rate": 2,
    "ema_decay": 0.6,
    "precision": "fp16",
    "mistake": "no-c-noise",
}


NO_RUNS = {  # what stands in a file that is no run file
    "list": b"- run",
    "flat": b"steps: 6",
    "empty": b"",
    "words": b"digits as usual",
    "beside": b"run: {}\nsteps: 3",
    "bad": b"run: {",
    "twice": b"run: {steps: 3, steps: 4}",
    "tag": b"run: !!python/object/apply:os.system [exit]",
    "number": b"run: !!int a",
    "deep": b"run: " + b"[" * 2000,
    "binary": bytes(range(256)),
}


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Value: what a file says is what the run has


def test_every_field_arrives():
    assert set(ALL) == {field.name for field in fields(Run)}
    run = run_from(ALL)
    assert all(getattr(run, name) == value for name, value in ALL.items() if name != "recipe")
    assert asdict(run.recipe) == {**asdict(CT), "dropout": 0.1, "s1": 20}


def test_nothing_given_is_ict_on_the_digits():
    assert run_from({}) == run_from({"recipe": None}) == Run()
    assert (Run().recipe, Run().data, Run().seeds) == (ICT, "digits", [0])


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_taken_whole(preset):
    assert run_from({"preset": preset}).recipe == PRESETS[preset]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_run_files_are_right_and_named_after_their_paths(path):
    name = path.relative_to(ROOT / "runs").with_suffix("").as_posix()
    run = run_from(read_run(name, [], ROOT))
    assert run.name == name
    assert (ROOT / run.notebook).is_file()
    assert run == run_from(read_run(str(path), [], ROOT))


# Invariant


@pytest.mark.parametrize("given", [{}, ALL, {"preset": "ICT_DEEP"}], ids=["none", "all", "preset"])
def test_a_run_comes_back_from_json_and_yaml(given):
    run = run_from(given)
    assert run_from(json.loads(json.dumps(run.to_dict()))) == run
    assert run_from(yaml.safe_load(yaml.safe_dump(run.to_dict()))) == run


def test_tuples_are_lists_as_in_a_file():
    run = run_from({"network": "small_unet", "network_options": {"multipliers": (1, 2)}})
    assert run.to_dict()["network_options"] == {"multipliers": [1, 2]}
    assert identity(run, 0) == json.loads(json.dumps(identity(run, 0)))


def test_what_decides_the_weights_decides_the_identity_and_nothing_else_does():
    same = identity(run_from(ALL), 3)
    assert HARMLESS.keys() | DECISIVE.keys() == ALL.keys()
    for name, value in HARMLESS.items():
        assert identity(run_from({**ALL, name: value}), 3) == same, name
    for name, value in DECISIVE.items():
        options = {"network_options": {}} if name == "network" else {}
        assert identity(run_from({**ALL, **options, name: value}), 3) != same, name
    assert identity(run_from(ALL), 1) != same


def test_the_number_of_processes_counts_only_where_it_decides_the_shards():
    one, two = (run_from({"batch_size": 12, "processes": n}) for n in (1, 2))
    assert (one.shard_size, two.shard_size, two.num_shards) == (12, 6, 2)
    assert identity(one, 0) != identity(two, 0)
    assert identity(two, 0) == identity(run_from({"batch_size": 12, "micro_batch": 6}), 0)


def test_changes_reach_the_run():
    changes = ["steps=7", "recipe.dropout=0.1", "seeds=[4]", "recipe.s1=20", "network_options.width=8"]
    values = read_run("digits/ict", [*changes, "sources.recipe.s1=own"], ROOT)
    assert (values["steps"], values["seeds"], values["recipe"]) == (7, [4], {"dropout": 0.1, "s1": 20})
    assert (values["network_options"], values["sources"]) == ({"width": 8}, {"recipe.s1": "own"})
    assert run_from(values).recipe.dropout == 0.1


@pytest.mark.parametrize(
    "words", [["seeds=[0,", "1]", "steps=7"], ["seeds=[0, 1] steps=7"], ["", " seeds=[0, 1]  steps=7 "]]
)
def test_a_value_may_hold_spaces_however_a_shell_has_split_it(words):
    values = read_run("digits/ict", [*words, "network_options={width:", "8,", "blocks: 2}"], ROOT)
    assert (values["seeds"], values["steps"], values["network_options"]) == ([0, 1], 7, {"width": 8, "blocks": 2})


# Independent slow reference: the networks and the shares themselves


def test_the_options_known_without_torch_are_those_that_the_networks_take():
    from ict_lib.networks.build import NETWORKS

    of_the_recipe = {"shape", "fourier_scale", "dropout", "num_classes"}
    for name, network in NETWORKS.items():
        taken = {key: p.default for key, p in inspect.signature(network).parameters.items() if key not in of_the_recipe}
        assert {key: list(value) if type(value) is tuple else value for key, value in taken.items()} == (
            NETWORK_OPTIONS[name]
        )
    assert set(typing.get_args(Run.__annotations__["network"])) == set(NETWORKS) == set(NETWORK_OPTIONS)


def test_the_data_sets_known_without_torch_are_those_there_are():
    from ict_lib.data import DATASETS

    assert set(typing.get_args(Run.__annotations__["data"])) == set(DATASETS)


def test_processes_share_a_batch_exactly_where_each_gets_as_many_shards():
    for part in (1, 2, 3, 4, 6, 12):
        for processes in range(1, 14):
            run = run_from({"batch_size": 12, "micro_batch": part})
            try:
                check_processes(run, processes)
                accepted = True
            except ValueError:
                accepted = False
            assert accepted == ((12 // part) % processes == 0), (part, processes)


# What is loaded


def test_checking_a_run_needs_no_torch():
    python("import ict_lib.commands, ict_lib.run.notebook, sys; assert not {'torch', 'numpy'} & set(sys.modules)")


@pytest.mark.slow
def test_training_needs_no_jupyter_and_loads_half_a_second_after_torch():
    """Processor time, since other programs may be running; the fastest of three."""
    end = "; print(time.process_time())"
    unwanted = "{'matplotlib', 'IPython', 'ipywidgets', 'papermill', 'torchvision'}"
    ours = f"import ict_lib.training, sys, time; assert not {unwanted} & set(sys.modules)" + end
    bare = min(float(python("import torch, time" + end)) for _ in range(3))
    assert min(float(python(ours)) for _ in range(3)) < bare + 0.5


# Errors


UNET, ADM = {"network": "small_unet"}, {"network": "adm"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stpes": 1}, "unknown parameter 'stpes': did you mean 'steps'"),
        ({"dropout": 0.1}, "unknown parameter 'dropout'"),
        ({"seed": 0}, "unknown parameter 'seed': did you mean 'seeds'"),
        ({"folder": "x"}, "unknown parameter 'folder'"),
        ({1: 2}, "unknown parameter 1"),
        (["steps"], "run is .*a dict of fields"),
        ({"recipe": {"drpout": 0.1}}, "unknown field of Recipe 'drpout': did you mean 'dropout'"),
        ({"recipe": {"dropout": 2}}, "dropout is 2.0: 0 <= dropout < 1"),
        ({"recipe": {"distance": "pseudohuber"}}, "'pseudo_huber'"),
        ({"recipe": ["dropout"]}, "recipe is .*a dict of fields"),
        ({"preset": "ict"}, "unknown preset 'ict'"),
        ({"preset": "ICT_DEP"}, "did you mean 'ICT_DEEP'"),
        ({"preset": ["ICT"]}, "unknown preset"),
        ({"network": "unet"}, "did you mean 'small_unet'"),
        ({"network": "ncsnp"}, "did you mean 'ncsnpp'"),
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
        ({**UNET, "network_options": {"multipliers": []}}, "a list of positive whole numbers"),
        ({**UNET, "network_options": {"multipliers": [1, 0.5]}}, "a list of positive whole numbers"),
        ({**ADM, "network_options": {"adaptive_norm": 1}}, "adaptive_norm is 1: true or false"),
        ({**ADM, "network_options": {"adaptive_norm": "no"}}, "adaptive_norm is 'no': true or false"),
        ({**ADM, "network_options": {"embedding_scale": 0}}, "embedding_scale is 0: a positive number"),
        ({**ADM, "network_options": {"embedding_scale": True}}, "embedding_scale is True: a positive"),
        ({**ADM, "network_options": {"embedding_scale": float("nan")}}, "embedding_scale is nan"),
        ({**ADM, "network_options": {"embedding_scale": float("inf")}}, "embedding_scale is inf"),
        ({**ADM, "network_options": {"fourier_scale": 16.0}}, "unknown option 'fourier_scale'"),
        ({"conditional": "yes"}, "conditional is 'yes', a str: bool"),
        ({"steps": 0}, "steps is 0: 1 <= steps <= 1,000,000,000"),
        ({"steps": 1e3}, "steps is 1000.0, a float: int"),
        ({"batch_size": -1}, "1 <= batch_size <= 1,000,000"),
        ({"batch_size": True}, "batch_size is True, a bool"),
        ({"micro_batch": 0}, "1 <= micro_batch <="),
        ({"micro_batch": 100}, "micro_batch is 100: a positive divisor of batch_size = 256"),
        ({"micro_batch": 128, "processes": 4}, "cannot be shared by 4 processes: micro_batch=64 would fit"),
        ({"batch_size": 10, "processes": 4}, "cannot be shared by 4 processes: batch_size must be a multiple of 4"),
        ({"processes": 0}, "processes is 0: 1 <= processes <= 10,000"),
        ({"learning_rate": 0.0}, "1e-09 <= learning_rate <= 10.0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf: a finite number"),
        ({"ema_decay": 1.0}, "0 <= ema_decay < 1"),
        ({"ema_decay": -0.1}, "0 <= ema_decay < 1"),
        ({"log_every": 0}, "1 <= log_every <= "),
        ({"checkpoint_every": 0}, "1 <= checkpoint_every <= "),
        ({"milestone_every": 0}, "1 <= milestone_every <= "),
        ({"evaluate_every": 0}, "1 <= evaluate_every <= "),
        ({"measure_every": 0}, "1 <= measure_every <= "),
        ({"device": "gpu"}, "device is 'gpu': auto, cpu, cuda"),
        ({"device": "cuda:x"}, "device is 'cuda:x'"),
        ({"precision": "fp8"}, "precision is 'fp8': did you mean 'fp32'"),
        ({"seeds": []}, "seeds is .*a list of different whole numbers"),
        ({"seeds": [0, 0]}, "different whole numbers"),
        ({"seeds": [-1]}, "different whole numbers"),
        ({"seeds": [True]}, "different whole numbers"),
        ({"seeds": 3}, "seeds is 3, a int: list"),
        ({"name": "Digits"}, "name is 'Digits'"),
        ({"name": "../up"}, r"name is '../up'"),
        ({"name": "a//b"}, "name is 'a//b'"),
        ({"name": "a" * 101}, "100 a part and 200 in all"),
        ({"name": "/".join(["ab"] * 70)}, "100 a part and 200 in all"),
        ({"name": "bench"}, "not bench"),
        ({"name": "bench/x"}, "not bench"),
        ({"seeds": [2**63]}, "0 <= seed < 2\\^63"),
        ({"steps": 10**10}, "steps is 10000000000: 1 <= steps <= 1,000,000,000"),
        ({"batch_size": 10**7}, "1 <= batch_size <= 1,000,000"),
        ({"learning_rate": 1e-30}, "1e-09 <= learning_rate <= 10.0"),
        ({"learning_rate": 1e3}, "1e-09 <= learning_rate <= 10.0"),
        ({"processes": 10**5}, "1 <= processes <= 10,000"),
        ({"num_samples": 10**8}, "10 <= num_samples <= 10,000,000"),
        ({"log_every": 10**10}, "1 <= log_every <= 1,000,000,000"),
        ({"device": "cuda:99999"}, "device is 'cuda:99999'"),
        ({"network_options": {"width": 10**9}}, "width is 1000000000: a positive whole number, 65,536 at most"),
        ({"network_options": {"blocks": 10**6}}, "blocks is 1000000: a positive whole number, 1,000 at most"),
        ({**UNET, "network_options": {"multipliers": [10**6]}}, "whole numbers, 1,000 at most"),
        ({**ADM, "network_options": {"embedding_scale": 1e30}}, "a positive number, 1,000,000 at most"),
        ({"variants": {"a": {"variants": {}}}}, "what variant a changes is .'variants'.: neither name, notebook nor"),
        ({"variants": {"a": {"name": "b"}}}, "neither name, notebook nor variants"),
        ({"num_samples": 9}, "10 <= num_samples <= 10,000,000"),
        ({"sigma_mid": 80.0}, "sigma_mid < 80.0"),
        ({"sigma_mid": 0.001}, "0.002 <= sigma_mid"),
        ({"recipe": {"sigma_max": 0.5}}, "sigma_mid is 0.821: 0.002 <= sigma_mid < 0.5"),
        ({"notebook": None}, "notebook is None"),
        ({"sources": {"steps": "X"}}, f"the source of steps is 'X': one of {', '.join(MARKS)}"),
        ({"sources": {"steps": 3}}, "the source of steps is 3"),
    ],
)
def test_a_mistake_is_refused_with_a_hint(change, said):
    with pytest.raises(ValueError, match=said):
        run_from(change)


def test_sigma_mid_is_free_within_the_runs_own_levels():
    assert run_from({"sigma_mid": 90.0, "recipe": {"sigma_max": 100.0}}).sigma_mid == 90
    assert run_from({"sigma_mid": 0.2, "recipe": {"sigma_max": 0.5}}).sigma_mid == 0.2


def test_a_name_may_begin_as_another_word_or_as_a_number_does(tmp_path):
    assert run_from({"name": "benchmark/bench"}).name == "benchmark/bench"
    (tmp_path / "own.yaml").write_text("run: {name: 2e4-small, learning_rate: 1e-4, variants: {1e-4-lr: {}}}")
    run = run_from(read_run(str(tmp_path / "own.yaml"), ["name=3e4-large"], tmp_path))
    assert (run.name, run.learning_rate, list(run.variants)) == ("3e4-large", 1e-4, ["1e-4-lr"])


def test_yamls_1e_4_is_text_and_the_message_says_so():
    with pytest.raises(ValueError, match=re.escape("write 0.0001")):
        run_from(yaml.safe_load("learning_rate: 1e-4"))
    assert run_from(yaml.safe_load("learning_rate: 1.0e-4")).learning_rate == 1e-4


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "mps", "xpu:1"])
def test_devices(device):
    assert run_from({"device": device}).device == device


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("digits/itc", [], "unknown run 'digits/itc': did you mean 'digits/ict'"),
        ("../pyproject", [], "unknown run"),
        ("digits/ict", ["steps"], "a change is 'steps': name=value is needed"),
        ("digits/ict", ["steps.a=1"], "steps is 6000: a mapping, to change a in it, is needed"),
        ("digits/ict", ["seeds=[0"], r"^seeds=\[0 is no YAML: .*$"),
        ("list.yaml", [], "run in list.yaml is None: a mapping of fields, as in runs/digits/ict.yaml"),
        ("flat.yaml", [], "run in flat.yaml is None: a mapping of fields"),
        ("empty.yaml", [], "run in empty.yaml is None: a mapping of fields"),
        ("words.yaml", [], "run in words.yaml is None: a mapping of fields"),
        ("beside.yaml", [], r"what is beside run in beside.yaml is \['steps'\]: nothing"),
        ("bad.yaml", [], r"^bad.yaml is no YAML: .*$"),
        ("twice.yaml", [], "^twice.yaml is no YAML: steps stands twice, at line 1, column 6"),
        ("tag.yaml", [], "^tag.yaml is no YAML: .*python/object/apply:os.system"),
        ("number.yaml", [], "^number.yaml is no YAML: invalid literal"),
        ("deep.yaml", [], "^deep.yaml is no YAML: maximum recursion depth"),
        ("binary.yaml", [], "^binary.yaml is no text in UTF-8$"),
    ],
)
def test_a_run_file_or_change_that_is_none_is_refused_in_one_line(tmp_path, monkeypatch, name, changes, said):
    monkeypatch.chdir(tmp_path)
    for file, content in NO_RUNS.items():
        (tmp_path / f"{file}.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_run(name, changes, ROOT)


def test_a_manifest_can_be_run_again():
    run = run_from(read_run(str(ROOT / "runs" / "digits" / "ict" / "manifest.json"), [], ROOT))
    assert identity(run, 0) == identity(run_from(read_run("digits/ict", [], ROOT)), 0)


@pytest.mark.parametrize("kind", ["none", "folder", "link", "loop", "pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / "run.yaml"
    make = {"folder": path.mkdir, "link": lambda: path.symlink_to("nothing"), "loop": lambda: path.symlink_to(path)}
    {**make, "pipe": lambda: os.mkfifo(path), "none": lambda: None}[kind]()
    with pytest.raises(FileNotFoundError, match=re.escape(f"no file: '{path}'")):
        read_run(str(path), [], ROOT)


def test_a_field_beside_the_one_parameter_is_refused_and_other_names_are_not():
    assert run_from({"steps": 3}, beside=["run", "In", "exit"]).steps == 3
    with pytest.raises(ValueError, match=r"a parameter beside run is 'steps': none: `-y 'run: \{steps: \.\.\.\}'`"):
        run_from({}, beside={"run": {}, "steps": 3})


def test_other_settings_in_a_folder_are_refused_with_the_way_out(tmp_path):
    before = identity(run_from({"micro_batch": 64}), 0)
    check_settings(tmp_path, before)
    (tmp_path / "identity.json").write_text(json.dumps(before))
    check_settings(tmp_path, before)
    with pytest.raises(
        ValueError, match=r"steps: 6000 -> 7.*delete that folder, or start all of the run anew \(ANEW=1"
    ):
        check_settings(tmp_path, identity(run_from({"micro_batch": 64, "steps": 7}), 0))
    with pytest.raises(ValueError, match="micro_batch=64 keeps the shards"):
        check_settings(tmp_path, identity(run_from({"processes": 2}), 0))
