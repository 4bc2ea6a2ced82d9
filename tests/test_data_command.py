"""The command ``python -m ict_lib data``: `ict_lib.data.command`."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ict_lib.__main__ import main
from ict_lib.data import DATASETS, imagenet64


@pytest.fixture
def photographs(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "source" / name).mkdir(parents=True)
        Image.fromarray(np.full((70, 80, 3), ord(name), np.uint8)).save(tmp_path / "source" / name / "1.png")
    return tmp_path / "source"


def test_it_packs_compares_and_says_where(photographs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(DATASETS, "imagenet64", replace(DATASETS["imagenet64"], num_classes=2))
    target = str(tmp_path / "data")
    assert main(["data", "imagenet64", target, "--source", str(photographs)]) == 0
    said = capsys.readouterr()
    assert "2 images of imagenet64 (the whole set has 1,281,167), checked." in said.out
    assert f"To train on them: export ICT_DATA={target}" in said.out
    assert "2/2" in said.err
    assert imagenet64.load(target).pixels[:, 0, 0, 0].tolist() == [97, 98]
    assert main(["data", "imagenet64", target]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cifar"], "unknown data set 'cifar': did you mean 'cifar10'?"),
        (["imagenet64", "here"], "here/imagenet64 --source SOURCE"),
        (["digits", "--source", "here"], "source is 'here': none, since digits is not packed from one, is needed"),
        (["imagenet64", "--source", "none"], "source is 'none': a folder is needed"),
    ],
)
def test_what_is_refused_is_said_with_the_command(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert "refused: " in error
    assert message.replace("here/imagenet64", f"{tmp_path / 'here'}") in error
