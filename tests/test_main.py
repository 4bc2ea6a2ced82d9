"""The one door: ``python -m ict_lib``, as a user types it."""

import importlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ict_lib.__main__ import COMMANDS, main
from ict_lib.run import needs, notebook

ROOT = Path(__file__).resolve().parents[1]
# Words that a command refuses, and what it says.
REFUSED = [
    ("run digits/itc", "did you mean 'digits/ict'"),
    ("run digits/ict data=imagenet64", "imagenet64.safetensors is missing; this makes it: "),
    (
        "run digits/ict network=ncsnpp",
        "ncsnpp does not fit digits: attention_resolutions is [16]: of [8, 4, 2]",
    ),
    ("run digits/ict network=adm", "network adm does not fit digits"),
    ("run digits/ict data=ring network=small_unet", "network small_unet does not fit ring: shape is (2,)"),
    ("run digits/ict device=cuda", "auto or cpu, as it takes 1 CUDA devices and 0 are here"),
    ("run digits/ict device=cuda:3", "as it takes 4 CUDA devices and 0 are here"),
    ("run digits/ict device=cuda:0 processes=2", "for several processes auto, cpu or cuda, without a number"),
    ("run digits/ict recipe.distance=lpips", "data is 'digits': for LPIPS images of 16x16 pixels or more"),
    ("run digits/ict variants={a: {network: adm}}", "network adm does not fit digits"),
    ("run digits/ict notebook=/etc/passwd", "a notebook of the project, with a cell tagged parameters"),
    ("run digits/ict notebook=book/../runs/x.ipynb", "a notebook of the project"),
    ("run", "required: run"),
    ("run digits/ict --dyr", "unrecognized arguments: --dyr"),
    ("plan digits/ict stpes=3", "did you mean 'steps'"),
    ("plan digits/ict --devices 0", "processes is 0"),
    ("plan digits/ict --devices=-1", "processes is -1"),
    ("plan digits/ict --devices abc", "invalid int value: 'abc'"),
    ("plan digits/ict --devices 3", "cannot be shared by 3 processes"),
    ("plan digits/ict --images-per-second inf", "images-per-second is inf: a positive number"),
    ("plan digits/ict --images-per-second 0", "images-per-second is 0.0: a positive number"),
    ("plan digits/ict network=adm", "network adm does not fit digits"),
    ("bench tpu", "invalid choice: 'tpu'"),
    ("bench gpu", "0 are here"),
    ("bench cpu zzz", "case is 'zzz': a part of one of ceiling"),
    ("bench cpu --limit nan", "limit is nan: a positive number of seconds"),
    ("bench cpu --limit -1", "limit is -1.0: a positive number of seconds"),
    ("rounding digits/itc", "did you mean 'digits/ict'"),
    ("rounding digits/ict --samples 0", "samples is 0: 1 <= samples"),
    ("rounding digits/ict", "`make run RUN=digits/ict` makes them"),
    ("live digits/itc", "did you mean 'digits/ict'"),
    ("live digits/ict --seed 99", "seed is 99: one of the run's"),
    ("live digits/ict", "`make run RUN=digits/ict` makes them"),
    ("export digits/itc folder", "did you mean 'digits/ict'"),
    ("export digits/ict folder --seed 99", "seed is 99: one of the run's"),
    ("export cifar10/ict folder", "`make run RUN=cifar10/ict` makes it"),
    ("data digist", "did you mean 'digits'"),
    ("data digits --source .", "source is '.': none, since digits is not packed from one"),
    ("data imagenet64 x --source none", "source is 'none': a folder"),
    ("data imagenet64 none", "--source SOURCE"),
    ("data cifar10 pyproject.toml/x", "pyproject.toml is not"),
    ("tensorboard digits/itc", "did you mean 'digits/ict'"),
    ("tensorboard", "required: run"),
    ("rnu digits/ict", "invalid choice: 'rnu' (choose from "),
    ("", "required: COMMAND"),
]


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = [
        line.split()[0] for line in capsys.readouterr().out.split("COMMAND\n")[1].splitlines() if line[:4] == "    "
    ]
    assert set(listed) >= set(COMMANDS) == {"run", "plan", "bench", "rounding", "live", "export", "data", "tensorboard"}


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_of_its_own(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m ict_lib {command} ")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The project's runs and records without weights, on a machine without data, a network and an accelerator."""
    for name in ("pyproject.toml", "ict_lib", "book"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "runs", tmp_path / "runs", ignore=shutil.ignore_patterns("seed-*"))
    for name in ("ICT_DATA", "ICT_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / "cache"))
    monkeypatch.setattr(needs, "cuda_devices", lambda: 0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refuse(words, capsys, monkeypatch):
    """What is said of words that must be refused, before the module of their command is loaded."""
    real, before = importlib.import_module, set(Path().rglob("*"))
    only = {"ict_lib.run.notebook"}
    monkeypatch.setattr(importlib, "import_module", lambda name: real(name) if name in only else pytest.fail(name))
    monkeypatch.setattr(notebook, "execute_notebook", lambda *_: pytest.fail("started"))
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert err.startswith("refused: ")
    assert (out, err.count("\n")) == ("", 1)
    assert set(Path().rglob("*")) == before
    return err


@pytest.mark.parametrize(("line", "said"), REFUSED, ids=[line for line, _ in REFUSED])
def test_what_is_refused_is_said_in_one_line_and_nothing_is_started_or_left(line, said, project, capsys, monkeypatch):
    assert said in refuse(line.split(), capsys, monkeypatch)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run"], "Say which: make run RUN=digits/ict"),
        (["run", "DRY=1"], "Say which"),
        (["run", "RUN=digits/itc", "SET="], "did you mean 'digits/ict'"),
        (["run", "RUN=a b", "DRY=0"], "unknown run 'a b'"),
        (["run", "RUN=digits/ict", "SET=seeds=[0, 1] steps=0"], "steps is 0: "),
        (["run", "RUN=digits/ict", "SET=network_options={width:8,blocks:0}"], "unknown option 'width:8'"),
        (["run", "RUN=digits/ict", "SET=steps=3; echo 'started'"], "steps is \"3; echo 'started'\""),
        (["plan", "RUN=digits/ict", "GPUS=-1"], "processes is -1"),
        (["plan", "RUN=digits/ict", "GPUS=abc"], "invalid int value: 'abc'"),
        (["plan", "RUN=digits/ict", "SPEED=abc"], "invalid float value: 'abc'"),
        (["bench", "CASES=zzz"], "case is 'zzz'"),
        (["serve", "PORT=abc"], "PORT is 'abc'"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_make_passes_words_on_as_they_are_and_ends_with_what_was_refused(words, said):
    whole = ["make", "-o", ".venv/.ready", f"PYTHON={sys.executable}", *words]
    # `make test` may be what runs this: nothing of the outer make reaches the inner one
    user = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(whole, cwd=ROOT, env=user, capture_output=True, text=True, check=False)
    lines = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make: ")]
    assert (done.returncode, len(lines)) == (2, 1), lines
    assert said in lines[0]


def test_copies_of_weights_that_are_not_there_are_refused(project, capsys, monkeypatch):
    monkeypatch.setenv("ICT_INCEPTION", str(project / "none.pth"))
    assert "ICT_INCEPTION is" in refuse(["run", "digits/ict"], capsys, monkeypatch)


def test_a_missing_package_is_refused_with_the_command_that_installs_it(project, capsys, monkeypatch):
    monkeypatch.setattr(needs, "find_spec", lambda name: None)
    words = ["run", "digits/ict", "data=fashion_mnist", "network=small_unet", "recipe.distance=lpips"]
    assert f"{sys.executable} -m pip install lpips" in refuse(words, capsys, monkeypatch)


def test_a_disk_without_space_is_refused(project, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10**6))
    assert "has 1 MB free, and 100 MB are needed" in refuse(["run", "digits/ict"], capsys, monkeypatch)


def test_a_missing_compiler_is_refused(project, capsys, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "there is no no-such-compiler" in refuse(["run", "digits/ict", "compile=true"], capsys, monkeypatch)


@pytest.mark.parametrize("made", ["file", "link"])
def test_what_stands_in_the_place_of_the_results_is_named(made, project, capsys, monkeypatch):
    place = project / "runs" / "mine"
    place.touch() if made == "file" else place.symlink_to("nothing")
    said = refuse(["run", "digits/ict", "name=mine"], capsys, monkeypatch)
    assert f"{place}{' (a link to nothing)' * (made == 'link')}: no folder: remove it, or choose another name" in said


def test_another_run_of_the_same_name_is_refused_before_its_notebook(project, capsys, monkeypatch):
    (project / "runs" / "digits" / "ict" / "seed-1").mkdir()
    (project / "runs" / "digits" / "ict" / "seed-1" / "identity.json").write_text('{"steps": 7}')
    said = refuse(["run", "digits/ict"], capsys, monkeypatch)
    assert "steps: 7 -> 6000" in said
    assert "ANEW=1" in said


def test_the_commands_that_are_advised_can_be_typed(project, capsys, monkeypatch):
    """From a project whose Python nobody has activated: its path is said."""
    monkeypatch.setattr(sys, "executable", str(project / ".venv" / "bin" / "python"))
    said = refuse(["run", "digits/ict", "data=imagenet64"], capsys, monkeypatch)
    assert f"this makes it: .venv/bin/python -m ict_lib data imagenet64 {project / 'cache'} --source SOURCE" in said


def test_outside_of_the_project_a_line_says_what_to_do_before_anything_is_loaded(tmp_path):
    started, words = time.monotonic(), [sys.executable, "-m", "ict_lib", "run", "digits/ict"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 5
    assert done.returncode == 2
    assert "change into its folder first" in done.stderr
    assert done.stderr.count("\n") == 1
