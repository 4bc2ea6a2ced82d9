"""ImageNet 64x64: packing a small stand-in from both kinds of source, being killed meanwhile, reading it back."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from ict_lib.data import DATASETS, fetch, imagenet64, imagenet64_sources, load_dataset
from ict_lib.data.imagenet64 import FILE, UNFINISHED, pack
from ict_lib.data.imagenet64_sources import adm_crop, source_of

CLASSES = ("n01440764", "n01443537", "n02119789")
PIXELS = 24 * 12288  # bytes; they end the file
SUMS = 5 * 32  # bytes before them


@pytest.fixture(scope="module", autouse=True)
def _short_stretches():
    """Five photographs instead of hundreds, and three classes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "imagenet64", replace(DATASETS["imagenet64"], num_classes=3))
        patch.setattr(imagenet64_sources, "STRETCH", 5)
        yield


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
    list(pack(photographs, root))
    return root


@pytest.fixture
def copy(data_root, tmp_path):
    """A packed file that may be damaged."""
    return Path(shutil.copy(data_root / FILE, tmp_path))


def content(root):
    assert [path.name for path in root.iterdir()] == [FILE]
    return (root / FILE).read_bytes()


def change(path, place, new):
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_SET if place >= 0 else os.SEEK_END)
        file.write(new)


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


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_of_grey_become_the_nearest_eight(tmp_path, suffix):
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16 + 7
    Image.fromarray(levels).save(tmp_path / f"grey.{suffix}")
    with Image.open(tmp_path / f"grey.{suffix}") as picture:
        found = adm_crop(picture)
    for channel in found:
        assert np.abs(channel - levels / 65535 * 255).max() <= 0.5
    for pixels in (np.float32(levels), np.int32(levels)):
        with pytest.raises(ValueError, match="have no known range"):
            adm_crop(Image.fromarray(pixels))


def test_classes_are_numbered_in_the_order_of_their_names(data_root):
    data = imagenet64.load(data_root)
    assert data.labels.tolist() == [0] * 9 + [1] * 8 + [2] * 7
    assert (len(data), data.shape, data.num_classes, data.name, data.flip) == (24, (3, 64, 64), 3, "imagenet64", True)
    with safe_open(data_root / FILE, "np") as file:  # as others would read it
        assert json.loads(file.metadata()["classes"]) == list(CLASSES)
        assert np.array_equal(file.get_tensor("pixels"), data.pixels)


# Invariant: neither threads nor interruptions change a byte


def test_packing_again_gives_the_same_bytes_without_a_random_draw(photographs, data_root, tmp_path):
    before = torch.get_rng_state()
    assert list(pack(photographs, tmp_path)) == [(done, 24) for done in (0, 5, 10, 15, 20, 24)]
    assert content(tmp_path) == content(data_root)
    assert torch.equal(torch.get_rng_state(), before)


SLOWLY = """
import sys, time
from dataclasses import replace
from pathlib import Path
from ict_lib.data import DATASETS, imagenet64_sources
from ict_lib.data.imagenet64 import pack

crop, imagenet64_sources.STRETCH = imagenet64_sources.adm_crop, 5
DATASETS["imagenet64"] = replace(DATASETS["imagenet64"], num_classes=3)

def slow(image):
    time.sleep(0.1 if image.size != (50, 51) else 100)
    return crop(image)

imagenet64_sources.adm_crop = slow
for done, _ in pack(*map(Path, sys.argv[1:])):
    print(done, flush=True)
"""


def test_killed_and_started_again_it_goes_on_and_ends_with_the_same_file(photographs, data_root, tmp_path):
    (tmp_path / "slowly.py").write_text(SLOWLY)
    target, here = tmp_path / "t", {"PYTHONPATH": str(Path(imagenet64.__file__).parents[2])}
    source = shutil.copytree(photographs, tmp_path / "source")
    last = source / CLASSES[2] / f"{CLASSES[2]}_6.JPEG"
    Image.new("RGB", (50, 51)).save(last)  # never done
    words = [sys.executable, tmp_path / "slowly.py", source, target]
    started = subprocess.Popen(words, env=os.environ | here, stdout=subprocess.PIPE, text=True)
    while started.stdout.readline() != "15\n":
        assert started.poll() is None
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    started.stdout.close()
    with pytest.raises(FileNotFoundError, match=f"{FILE} is unfinished; this makes it or goes on"):
        imagenet64.load(target)
    shutil.copy(photographs / CLASSES[2] / last.name, last)
    done = [number for number, _ in pack(source, target)]
    assert 15 <= done[0] < 24  # what was there
    assert done[-1] == 24
    assert content(target) == content(data_root)


@pytest.mark.parametrize(
    ("damage", "kept"),
    [("nothing", 15), ("only the head", 0), ("cut", 10), ("pixels", 10), ("sum", 10), ("longer", 15)],
)
def test_what_an_interruption_can_leave_is_made_good(photographs, data_root, tmp_path, damage, kept):
    path = Path(shutil.copy(data_root / FILE, tmp_path / UNFINISHED))
    size = path.stat().st_size
    change(path, -PIXELS - SUMS + 3 * 32, bytes(2 * 32 + 15 * 12288))  # two stretches, and pixels of the first ones
    change(path, -PIXELS, (data_root / FILE).read_bytes()[-PIXELS:][: 15 * 12288])
    if damage == "only the head":
        os.truncate(path, size - PIXELS - SUMS)
    if damage == "cut":
        os.truncate(path, size - PIXELS + 14 * 12288)
    if damage == "longer":
        os.truncate(path, size + 100)
    if damage == "pixels":
        change(path, -PIXELS + 6 * 12288, bytes(100))
    if damage == "sum":
        change(path, -PIXELS - SUMS + 32, bytes(9))
    going = pack(photographs, tmp_path)
    assert next(going) == (kept, 24)
    list(going)
    assert content(tmp_path) == content(data_root)


# Independent slow reference


def test_each_photograph_against_a_slow_box_and_its_own_file(photographs, data_root):
    data = imagenet64.load(data_root)
    files = [path for name in CLASSES for path in sorted((photographs / name).iterdir())]
    for row in (0, 8, 9, 23):
        with Image.open(files[row]) as picture:
            assert np.array_equal(data.pixels[row].numpy(), adm_crop(picture))
    picture = np.random.default_rng(1).integers(0, 256, (140, 129, 3), dtype=np.uint8)
    small = adm_crop(Image.fromarray(picture[:, :128]))
    for channel, y, x in ((0, 0, 0), (1, 63, 63), (2, 10, 40), (0, 33, 1)):
        # 140 / 2 = 70 rows, of which the 64 in the middle stay
        four = [[int(picture[2 * (y + 3) + i, 2 * x + j, channel]) for j in (0, 1)] for i in (0, 1)]
        rows = [(left + right + 1) // 2 for left, right in four]
        assert small[channel, y, x] == (rows[0] + rows[1] + 1) // 2


def write_archives(folder, num=11):
    """Two images each; ten comes after nine, not after one."""
    folder.mkdir()
    draw = np.random.default_rng(0)
    rows, numbers = draw.integers(0, 256, (2 * num, 12288), dtype=np.uint8), draw.integers(1, 8, 2 * num)
    for k in range(num):
        part = slice(2 * k, 2 * k + 2)
        np.savez(folder / f"train_data_batch_{k + 1}.npz", data=rows[part], labels=numbers[part], mean=rows.mean(0))
    return rows, numbers


def test_the_published_archives(tmp_path):
    rows, numbers = write_archives(tmp_path / "archives")
    (tmp_path / "archives" / "val_data.npz").write_bytes(b"something else")
    going = pack(tmp_path / "archives", tmp_path)
    assert [next(going), next(going)] == [(0, 22), (2, 22)]
    going.close()
    assert next(pack(tmp_path / "archives", tmp_path))[0] >= 2  # the threads may have written all, meanwhile
    assert list(pack(tmp_path / "archives", tmp_path))[-1] == (22, 22)
    data = imagenet64.load(tmp_path, verify=True)
    assert data.labels.tolist() == [number - 1 for number in numbers.tolist()]
    assert np.array_equal(data.pixels.reshape(22, -1).numpy(), rows)
    for row, channel, y, x in ((0, 0, 0, 0), (19, 1, 63, 2), (21, 2, 5, 60)):
        assert data.pixels[row, channel, y, x] == rows[row, 4096 * channel + 64 * y + x]


# Shapes, dtypes, speed


def test_from_photographs_to_a_batch(photographs, tmp_path, monkeypatch):
    found = list(fetch("imagenet64", tmp_path, photographs))
    assert found == [(0, 1_281_167), *((done, 24) for done in (0, 5, 10, 15, 20, 24, 24))]
    assert list(fetch("imagenet64", tmp_path))[-1] == (24, 24)  # compares every pixel
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    data = load_dataset("imagenet64")
    assert (data.pixels.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    assert data.batch(torch.tensor([3, 3, 1]), "cpu", torch.Generator().manual_seed(0)).shape == (3, 3, 64, 64)


@pytest.mark.parametrize("suffix", ["webp", "JPG", "bmp"])
def test_every_photograph_is_packed_whatever_its_kind_and_hidden_files_are_not(photographs, tmp_path, suffix):
    shutil.copytree(photographs, tmp_path / "source")
    folder = tmp_path / "source" / CLASSES[2]
    Image.new("RGB", (70, 70), (255, 0, 0)).save(folder / f"a.{suffix}")
    (folder / ".DS_Store").write_bytes(b"hidden")
    data_root = tmp_path / "data"
    list(fetch("imagenet64", data_root, tmp_path / "source"))
    data = imagenet64.load(data_root)
    assert data.labels.tolist() == [0] * 9 + [1] * 8 + [2] * 8
    red = data.pixels[17].float().mean((1, 2))  # "a" comes before "n"
    assert torch.allclose(red, torch.tensor([255.0, 0.0, 0.0]), atol=4)


def test_the_checksum_is_of_the_pixels_not_of_where_they_lie(data_root, copy):
    assert imagenet64.load(copy.parent).checksum() == imagenet64.load(data_root).checksum()
    change(copy, -PIXELS - SUMS, b"another")  # as of other pixels
    assert imagenet64.load(copy.parent).checksum() != imagenet64.load(data_root).checksum()


def test_reading_is_as_fast_as_from_memory(data_root):
    mapped = imagenet64.load(data_root)
    memory = replace(mapped, pixels=mapped.pixels.clone(), stored=None)
    indices = torch.randint(24, (256,), generator=torch.Generator().manual_seed(0))

    def seconds(data):
        started = time.perf_counter()
        data.batch(indices)
        return time.perf_counter() - started

    times = [[seconds(data) for data in (mapped, memory)] for _ in range(20)]
    assert min(time for time, _ in times) < 3 * min(time for _, time in times)


# Errors


@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "empty", "npy", "pickle", "tensors"])
def test_a_missing_torn_or_foreign_file_is_named_with_the_command(copy, damage):
    whole = copy.read_bytes()
    np.save(copy.parent / "npy.npy", np.zeros((24, 3, 64, 64), np.uint8))
    save_file({"pixels": torch.zeros(24, 3, 64, 64, dtype=torch.uint8)}, copy.parent / "other")
    made = {
        "cut": whole[:-1],
        "longer": whole + b"x",
        "empty": b"",
        "npy": (copy.parent / "npy.npy").read_bytes(),
        "pickle": pickle.dumps(Foreign(copy.parent / "executed")),
        "tensors": (copy.parent / "other").read_bytes(),
    }
    copy.unlink()
    if damage != "missing":
        copy.write_bytes(made[damage])
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        imagenet64.load(copy.parent)
    assert str(copy) in str(caught.value)
    assert f"python -m ict_lib data imagenet64 {copy.parent} --source SOURCE" in str(caught.value)
    assert not (copy.parent / "executed").exists()


@pytest.mark.parametrize(("place", "images"), [(-PIXELS, "0 to 4"), (-1, "20 to 23"), (-PIXELS + 7 * 12288, "5 to 9")])
def test_one_changed_byte_is_found_where_all_are_compared(copy, place, images):
    change(copy, place, bytes([copy.read_bytes()[place] ^ 1]))
    assert len(imagenet64.load(copy.parent)) == 24  # each of many processes: not again
    with pytest.raises(ValueError, match=f"images {images} differ from their checksum"):
        imagenet64.load(copy.parent, verify=True)
    with pytest.raises(ValueError, match=f"images {images} differ from their checksum"):
        list(fetch("imagenet64", copy.parent))


def test_changed_labels_and_other_versions_are_found(copy):
    whole = copy.read_bytes()
    for changed in (
        whole.replace(b"ict-packed-1", b"ict-packed-9"),
        whole.replace(b"format", b"fromat"),
        whole[: -PIXELS - SUMS - 8] + b"\1" + whole[-PIXELS - SUMS - 7 :],  # the last label
        whole[: -PIXELS - SUMS - 25 * 8] + b"\x19" + whole[-PIXELS - SUMS - 25 * 8 + 1 :],  # the last stretch
    ):
        copy.write_bytes(changed)
        assert changed != whole
        with pytest.raises(ValueError, match=f"{FILE} is damaged or not of version ict-packed-1"):
            imagenet64.load(copy.parent)


def test_nothing_there_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{FILE} is missing; this makes it"):
        imagenet64.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "text", "empty"])
def test_a_broken_photograph_is_named_and_can_be_replaced(photographs, data_root, tmp_path, damage):
    folder = tmp_path / "source"
    shutil.copytree(photographs, folder)
    broken = folder / CLASSES[1] / f"{CLASSES[1]}_3.JPEG"
    whole = broken.read_bytes()
    broken.write_bytes({"cut": whole[: len(whole) // 2], "text": b"<html>", "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"^{broken} cannot be read: [^\n]*$"):
        list(pack(folder, tmp_path / "t"))
    broken.write_bytes(whole)
    assert list(pack(folder, tmp_path / "t"))[-1] == (24, 24)
    assert content(tmp_path / "t") == content(data_root)


def test_what_is_packed_already_is_not_packed_again(photographs, data_root):
    """As when the check of a finished file was stopped: the same command goes on with the check."""
    before = (data_root / FILE).stat().st_mtime_ns
    assert list(pack(photographs, data_root)) == [(24, 24)]
    assert (data_root / FILE).stat().st_mtime_ns == before


def test_what_cannot_be_packed_is_refused(photographs, data_root, tmp_path, monkeypatch):
    other = shutil.copytree(photographs, tmp_path / "other")
    (other / CLASSES[0] / f"{CLASSES[0]}_1.JPEG").unlink()
    with pytest.raises(ValueError, match=f"{data_root / FILE} is there already"):
        list(pack(other, data_root))
    write_archives(tmp_path / "archives")
    next(pack(tmp_path / "archives", tmp_path / "t"))
    with pytest.raises(ValueError, match=f"{UNFINISHED} is the beginning of another data set"):
        list(pack(photographs, tmp_path / "t"))
    renamed = shutil.copytree(photographs, tmp_path / "renamed")
    next(pack(renamed, tmp_path / "u"))
    (renamed / CLASSES[0] / f"{CLASSES[0]}_1.JPEG").rename(renamed / CLASSES[0] / "other.JPEG")
    with pytest.raises(ValueError, match="the beginning of another data set"):
        list(pack(renamed, tmp_path / "u"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1e5))
    with pytest.raises(OSError, match=r"0\.0 GB free"):
        list(pack(photographs, tmp_path / "full"))


def test_wrong_folders_of_photographs_are_refused(tmp_path, photographs):
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        source_of(tmp_path / "none")
    with pytest.raises(ValueError, match=r"a folder of photographs for each class, or train_data_batch_1\.npz"):
        source_of(tmp_path)
    shutil.copytree(photographs, tmp_path / "s")
    (tmp_path / "s" / "n1").mkdir()
    with pytest.raises(ValueError, match="no valid file for the classes n1"):
        source_of(tmp_path / "s")
    (tmp_path / "s" / "n1" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"n1/notes\.txt is not one of \.jpg"):
        list(fetch("imagenet64", tmp_path, tmp_path / "s"))
    (tmp_path / "s" / "n1" / "notes.txt").rename(tmp_path / "s" / "n1" / "image.gif")
    with pytest.raises(ValueError, match=r"n1/image\.gif is not one of \.jpg"):
        source_of(tmp_path / "s")
    (tmp_path / "s" / "n1" / "image.gif").rename(tmp_path / "s" / "image.webp")
    (tmp_path / "s" / "n1").rmdir()
    with pytest.raises(ValueError, match=r"image\.webp is in no class"):
        source_of(tmp_path / "s")


def test_the_folder_above_train_is_refused_before_anything_is_written(tmp_path, photographs):
    for part in ("train", "val"):
        shutil.copytree(photographs / CLASSES[0], tmp_path / "s" / part / "n1")
    with pytest.raises(ValueError, match=r"classes in .* is 2: 3, a folder of photographs each, as in the folder"):
        list(fetch("imagenet64", tmp_path / "data", tmp_path / "s"))
    assert not (tmp_path / "data").exists()


def test_a_packed_file_of_other_classes_is_refused(data_root, monkeypatch):
    monkeypatch.setitem(DATASETS, "imagenet64", replace(DATASETS["imagenet64"], num_classes=4))
    with pytest.raises(ValueError, match="num_classes of imagenet64 is 3: 4, as networks and plans have"):
        list(fetch("imagenet64", data_root))


class Foreign:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("labels", [0, 1], r"in 1 \.\. 1000, got 0 to 1"),
        ("labels", [1, 10**6], r"in 1 \.\. 1000, got 1 to 1000000"),
        ("labels", [1.0, 1.9], "whole numbers .* got float64"),
        ("labels", [[1], [2]], r"got int64 \[2, 1\]"),
        ("labels", [], "whole numbers"),
        ("labels", [1, 2, 3], r"must hold uint8 \(3, 12288\) as data, got uint8 \(2, 12288\)"),
        ("data", np.zeros((2, 3072), np.uint8), r"must hold uint8 \(2, 12288\)"),
        ("data", np.zeros((2, 12288)), "must hold uint8 .* got float64"),
        ("data", "foreign", "damaged, or no archive"),
        ("labels", "foreign", "damaged, or no archive"),
        ("labels", "missing", "damaged, or no archive"),
    ],
)
def test_wrong_archives_are_refused_by_name_and_nothing_is_unpickled(tmp_path, key, value, message):
    write_archives(tmp_path / "archives", 2)
    path = tmp_path / "archives" / "train_data_batch_2.npz"
    with np.load(path) as arrays:
        parts = dict(arrays)
    foreign = [Foreign(tmp_path / "executed")] * 2
    parts[key] = np.array(foreign, dtype=object) if isinstance(value, str) else np.array(value)
    if isinstance(value, str) and value == "missing":
        del parts[key]
    np.savez(path, **parts)
    with pytest.raises(ValueError, match=message) as caught:
        list(fetch("imagenet64", tmp_path / "data", tmp_path / "archives"))
    assert str(path) in str(caught.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"PK\3\4cut", b"\x93NUMPY", pickle.dumps(Foreign("executed"))])
def test_damaged_archives_and_pickles_are_refused(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write_archives(tmp_path / "archives", 3)
    path = tmp_path / "archives" / "train_data_batch_3.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is damaged"):
        source_of(path.parent)
    (path.parent / "train_data_batch_2.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"train_data_batch_2\.npz is missing beside"):
        source_of(path.parent)
    for rest in path.parent.iterdir():
        rest.rename(rest.with_suffix(""))  # the other form in which they are published
    with pytest.raises(ValueError, match=r"must hold .* train_data_batch_1\.npz and so on"):
        source_of(path.parent)
    assert not (tmp_path / "executed").exists()
