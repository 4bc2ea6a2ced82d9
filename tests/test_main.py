"""The one door: ``python -m ict_lib``, as a user types it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ict_lib.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]
# Words that each command refuses by itself, and what it says.
REFUSED = {
    "run": (["digits/itc"], "did you mean 'digits/ict'"),
    "plan": (["digits/ict", "stpes=3"], "did you mean 'steps'"),
    "rounding": (["digits/itc"], "digits/itc"),
    "live": (["digits/itc"], "`make run RUN=digits/itc` makes it"),
    "export": (["digits/itc", "folder"], "`make run RUN=digits/itc` makes it"),
    "data": (["digist"], "did you mean 'digits'"),
    "tensorboard": (["digits/itc"], "`make run RUN=digits/itc` makes it"),
}


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


@pytest.mark.parametrize("command", REFUSED)
def test_what_a_command_refuses_is_said_in_one_line(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words, said = REFUSED[command]
    assert main([command, *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.startswith("refused: ")
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "COMMAND"), (["rnu"], "'rnu' (choose from "), (["run"], "required: run"), (["run", "a", "--dyr"], "--dyr")],
)
def test_words_that_make_no_command_are_refused_with_the_usage(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    err = capsys.readouterr().err
    assert err.startswith("usage: python -m ict_lib ")
    assert said in err.splitlines()[-1]


def test_outside_of_the_project_a_line_says_what_to_do_before_anything_is_loaded(tmp_path):
    started, words = time.monotonic(), [sys.executable, "-m", "ict_lib", "run", "digits/ict"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert time.monotonic() - started < 5
    assert done.returncode == 2
    assert "change into its folder first" in done.stderr
    assert done.stderr.count("\n") == 1
