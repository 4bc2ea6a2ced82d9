"""ImageNet 64x64: packing a small stand-in from both kinds of source, being killed meanwhile, reading it back."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ict_lib.data import imagenet64, load_dataset, packing
from ict_lib.data.imagenet64_sources import adm_crop, plan_for
from ict_lib.data.packed import HEADER, LABELS, PIXELS
from ict_lib.data.packing import pack

CLASSES = ("n01440764", "n01443537", "n02119789")
FILES = (PIXELS, LABELS, HEADER)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three classes of 9, 8 and 7 photographs of many sizes; one grey, one with four inks."""
    root, draw = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        (root / name).mkdir()
        for k in range(9 - number):
            height, width = draw.integers(50, 300, 2)
            picture = Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
            mode = {(0, 0): "L", (1, 1): "CMYK"}.get((number, k), "RGB")
            picture.convert(mode).save(root / name / f"{name}_{k}.JPEG")
    return root


@pytest.fixture(scope="module")
def data_root(photographs, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    list(pack(plan_for(photographs, piece_size=5), root / "imagenet64"))
    return root


@pytest.fixture
def copy(data_root, tmp_path):
    """A packed set that may be damaged."""
    folder = tmp_path / "imagenet64"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes((data_root / "imagenet64" / name).read_bytes())
    return folder


def contents(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return [(folder / name).read_bytes() for name in FILES]


# Value from the source


def test_a_photograph_of_64_is_left_as_it_is_and_the_centre_is_cut():
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(adm_crop(Image.fromarray(picture)), picture.transpose(2, 0, 1))
    wide = np.zeros((64, 164, 3), np.uint8)
    wide[:, 50:114] = picture
    assert np.array_equal(adm_crop(Image.fromarray(wide)), picture.transpose(2, 0, 1))


def test_twice_the_size_is_the_mean_of_four_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    means = picture.reshape(64, 2, 64, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    error = adm_crop(Image.fromarray(picture)) - means  # Pillow rounds rows, then columns, each half up
    assert error.min() >= 0
    assert error.max() <= 1


def test_classes_are_numbered_in_the_order_of_their_names(data_root):
    data = imagenet64.load(data_root)
    assert data.labels.tolist() == [0] * 9 + [1] * 8 + [2] * 7
    assert (len(data), data.shape, data.num_classes, data.name, data.flip) == (24, (3, 64, 64), 3, "imagenet64", True)
    assert json.loads((data_root / "imagenet64" / HEADER).read_bytes())["classes"] == list(CLASSES)


# Invariant: neither processes nor interruptions change a byte


def test_two_workers_equal_one(photographs, data_root, tmp_path):
    done = list(pack(plan_for(photographs, piece_size=5), tmp_path / "two", workers=2))
    assert sum(done) == 24
    assert contents(tmp_path / "two") == contents(data_root / "imagenet64")


SLOWLY = """
import sys, time
from pathlib import Path
from ict_lib.data import packing
from ict_lib.data.imagenet64_sources import plan_for
whole = packing._make
def slow(*arguments):
    time.sleep(0.2)
    return whole(*arguments)
packing._make = slow
list(packing.pack(plan_for(Path(sys.argv[1]), piece_size=5), Path(sys.argv[2])))
"""


def test_killed_and_started_again_it_ends_with_the_same_files(photographs, data_root, tmp_path):
    target = tmp_path / "killed"
    started = subprocess.Popen([sys.executable, "-c", SLOWLY, str(photographs), str(target)])
    progress, deadline = target / packing.PROGRESS, time.monotonic() + 60
    while (not progress.exists() or progress.read_bytes().count(b"\n") < 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    with pytest.raises(FileNotFoundError, match="unfinished; this makes it or goes on"):
        imagenet64.load_packed(target, "x", False, "command")
    done = list(pack(plan_for(photographs, piece_size=5), target))
    assert 10 <= done[0] < 24  # what was there
    assert sum(done) == 24
    assert contents(target) == contents(data_root / "imagenet64")


@pytest.mark.parametrize("damage", ["cut line", "changed pixels", "before the header"])
def test_what_an_interruption_can_leave_is_made_good(photographs, data_root, tmp_path, monkeypatch, damage):
    plan, target = plan_for(photographs, piece_size=5), tmp_path / "stopped"
    going = pack(plan, target)
    if damage == "before the header":
        monkeypatch.setattr(packing, "write_header", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(going)
        monkeypatch.undo()
        kept = 24
    else:
        for _ in range(4):
            next(going)
        going.close()
        kept = 10 if damage == "changed pixels" else 15
    if damage == "cut line":
        with (target / packing.PROGRESS).open("a") as file:
            file.write('[3, "abc')
    if damage == "changed pixels":
        with (target / packing.PARTIAL).open("r+b") as file:
            file.seek(128 + 6 * 12288)  # an image of the second piece
            file.write(bytes(100))
    assert next(iter(pack(plan, target))) == kept
    list(pack(plan, target))
    assert contents(target) == contents(data_root / "imagenet64")


STUCK = """
import os, sys, time
from pathlib import Path
from ict_lib.data import packing
from ict_lib.data.imagenet64_sources import plan_for

def stuck(*arguments):
    (Path(sys.argv[2]) / f"{os.getpid()}.pid").touch()
    time.sleep(60)

if __name__ == "__main__":
    packing._make = stuck
    list(packing.pack(plan_for(Path(sys.argv[1]), piece_size=5), Path(sys.argv[2]), workers=2))
"""


def test_workers_end_when_the_command_is_killed(photographs, tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK)
    here = os.environ | {"PYTHONPATH": str(Path(packing.__file__).parents[2])}
    started = subprocess.Popen([sys.executable, tmp_path / "stuck.py", photographs, tmp_path], env=here)
    deadline = time.monotonic() + 60
    while len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert all(map(_alive, pids))
    started.kill()
    started.wait()
    deadline = time.monotonic() + 10
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    assert not any(map(_alive, pids))


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Independent slow reference


def test_each_photograph_against_a_slow_box_and_its_own_file(photographs, data_root):
    data = imagenet64.load(data_root)
    files = [path for name in CLASSES for path in sorted((photographs / name).iterdir())]
    for row in (0, 8, 9, 23):
        with Image.open(files[row]) as picture:
            assert np.array_equal(data.pixels.tensor[row].numpy(), adm_crop(picture))
    picture = np.random.default_rng(1).integers(0, 256, (140, 129, 3), dtype=np.uint8)
    small = adm_crop(Image.fromarray(picture[:, :128]))
    for channel, y, x in ((0, 0, 0), (1, 63, 63), (2, 10, 40), (0, 33, 1)):
        # 140 / 2 = 70 rows, of which the 64 in the middle stay
        four = [[int(picture[2 * (y + 3) + i, 2 * x + j, channel]) for j in (0, 1)] for i in (0, 1)]
        rows = [(left + right + 1) // 2 for left, right in four]
        assert small[channel, y, x] == (rows[0] + rows[1] + 1) // 2


@pytest.mark.parametrize("form", ["npz", "pickle"])
def test_the_published_archives(tmp_path, form):
    draw, source = np.random.default_rng(0), tmp_path / "archives"
    source.mkdir()
    rows = draw.integers(0, 256, (22, 12288), dtype=np.uint8)
    numbers = draw.integers(1, 8, 22)
    for k in range(11):  # ten comes after nine, not after one
        part = {"data": rows[2 * k : 2 * k + 2], "labels": numbers[2 * k : 2 * k + 2], "mean": rows.mean(0)}
        if form == "npz":
            np.savez(source / f"train_data_batch_{k + 1}.npz", **part)
        else:
            part["labels"] = part["labels"].tolist()
            (source / f"train_data_batch_{k + 1}").write_bytes(pickle.dumps(part))
    (source / "val_data.npz").write_bytes(b"something else")
    list(pack(plan_for(source), tmp_path / "imagenet64"))
    data = imagenet64.load(tmp_path)
    assert data.labels.tolist() == [number - 1 for number in numbers.tolist()]
    for row, channel, y, x in ((0, 0, 0, 0), (19, 1, 63, 2), (21, 2, 5, 60)):
        assert data.pixels.tensor[row, channel, y, x] == rows[row, 4096 * channel + 64 * y + x]


# Shapes, dtypes, speed


def test_types_and_the_command(photographs, tmp_path, monkeypatch, capsys):
    imagenet64.main([str(photographs), str(tmp_path / "imagenet64")])
    assert "24 images of 3 classes" in capsys.readouterr().out
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    data = load_dataset("imagenet64")
    assert (data.pixels.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert data.batch(torch.tensor([3, 3, 1]), "cpu", torch.Generator().manual_seed(0)).shape == (3, 3, 64, 64)


def test_the_checksum_is_of_the_pixels_not_of_where_they_lie(data_root, copy):
    assert imagenet64.load(copy.parent).checksum() == imagenet64.load(data_root).checksum()


def test_reading_is_far_faster_than_training(data_root):
    pixels = imagenet64.load(data_root).pixels
    indices = torch.randint(24, (1024,), generator=torch.Generator().manual_seed(0))
    pixels[indices]
    started = time.perf_counter()
    for _ in range(5):
        pixels[indices]
    assert 5 * 1024 / (time.perf_counter() - started) > 8000  # about 160,000 on one idle core


# Errors


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "empty"])
def test_a_missing_or_cut_file_is_named_with_the_command(copy, file, damage):
    path = copy / file
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: 2 * len(whole) // 3], "empty": b""}.get(damage, whole))
    if damage == "missing":
        path.unlink()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        imagenet64.load(copy.parent)
    assert str(path) in str(caught.value)
    assert f"python -m ict_lib.data.imagenet64 SOURCE {copy}" in str(caught.value)


@pytest.mark.parametrize(("place", "images"), [(128, "0 to 4"), (-1, "20 to 23"), (128 + 7 * 12288, "5 to 9")])
def test_one_changed_byte_is_found(copy, place, images):
    content = bytearray((copy / PIXELS).read_bytes())
    content[place] ^= 1
    (copy / PIXELS).write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged in images {images}"):
        imagenet64.load(copy.parent)
    assert len(imagenet64.load(copy.parent, check=False)) == 24


def test_changed_labels_and_other_versions_are_found(copy):
    labels = np.load(copy / LABELS)
    labels[3] = 2
    np.save(copy / LABELS, labels)
    with pytest.raises(ValueError, match=LABELS):
        imagenet64.load(copy.parent)
    header = json.loads((copy / HEADER).read_bytes())
    (copy / HEADER).write_text(json.dumps(header | {"format": "ict-packed-9"}))
    with pytest.raises(ValueError, match="ict-packed-9, not ict-packed-1"):
        imagenet64.load(copy.parent)
    (copy / HEADER).write_text("[]")
    with pytest.raises(ValueError, match="damaged or of another version"):
        imagenet64.load(copy.parent)


def test_nothing_there_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"header\.json is missing, the data set is missing; this makes it"):
        imagenet64.load(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_photograph_is_named_and_can_be_replaced(photographs, tmp_path, workers):
    source = tmp_path / "source"
    for folder in photographs.iterdir():
        (source / folder.name).mkdir(parents=True)
        for path in folder.iterdir():
            (source / folder.name / path.name).write_bytes(path.read_bytes())
    broken = source / CLASSES[1] / f"{CLASSES[1]}_3.JPEG"
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{CLASSES[1]}_3.JPEG cannot be read"):
        list(pack(plan_for(source, piece_size=5), tmp_path / "t", workers))
    broken.write_bytes(whole)
    assert sum(pack(plan_for(source, piece_size=5), tmp_path / "t")) == 24


def test_what_cannot_be_packed_is_refused(photographs, data_root, tmp_path, monkeypatch):
    plan = plan_for(photographs, piece_size=5)
    with pytest.raises(ValueError, match="holds a finished data set"):
        list(pack(plan, data_root / "imagenet64"))
    with pytest.raises(ValueError, match="workers must be 1 or more"):
        list(pack(plan, tmp_path / "t", workers=0))
    next(pack(plan, tmp_path / "t"))
    with pytest.raises(ValueError, match="the beginning of another data set"):
        list(pack(plan_for(photographs, piece_size=6), tmp_path / "t"))
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 1e5})())
    with pytest.raises(OSError, match=r"0\.0 GB free"):
        list(pack(plan, tmp_path / "full"))


def test_wrong_sources_are_refused(tmp_path, photographs):
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        plan_for(tmp_path / "none")
    with pytest.raises(ValueError, match="must hold a folder of photographs for each class"):
        plan_for(tmp_path)
    (tmp_path / "n1").mkdir()
    with pytest.raises(ValueError, match="see 'n1'"):
        plan_for(tmp_path)
    archives = tmp_path / "archives"
    archives.mkdir()
    np.savez(archives / "train_data_batch_3.npz", data=np.zeros((1, 12288), np.uint8), labels=[1])
    with pytest.raises(ValueError, match="train_data_batch_1 is missing"):
        plan_for(archives)
    (archives / "train_data_batch_3.npz").rename(archives / "train_data_batch_1.npz")
    (archives / "train_data_batch_2").write_bytes(b"\x80\x04cut")
    with pytest.raises(ValueError, match="train_data_batch_2 is damaged"):
        plan_for(archives)
    np.savez(archives / "train_data_batch_2.npz", data=np.zeros((1, 12288), np.uint8), labels=[0])
    (archives / "train_data_batch_2").unlink()
    with pytest.raises(ValueError, match="must begin at 1"):
        plan_for(archives)
    with pytest.raises(SystemExit, match="must begin at 1"):
        imagenet64.main([str(archives), str(tmp_path / "t")])
