"""Fashion-MNIST: files in the published format, made here; and Debian's real ones where they are installed."""

import gzip
import hashlib
import struct
import threading
import warnings
from dataclasses import replace
from functools import partial
from http.server import HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import FashionMNIST

from ict_lib.data import DATASETS, fetch, load_dataset, small
from tests.conftest import QuietHandler

NUM = 30
ENTRY = DATASETS["fashion_mnist"]
IMAGES, LABELS = (Path(places[0]).name for places in ENTRY.files)
REAL = all(Path(places[-1]).is_file() for places in ENTRY.files)  # Debian's
TEST_PART = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def arrays():
    draw = np.random.default_rng(0)
    return draw.integers(0, 256, (NUM, 28, 28), dtype=np.uint8), draw.integers(0, 10, NUM, dtype=np.uint8)


def contents():
    """The two idx files: magic number, lengths, numbers; all big-endian."""
    images, labels = arrays()
    return {
        IMAGES: struct.pack(">IIII", 2051, NUM, 28, 28) + images.tobytes(),
        LABELS: struct.pack(">II", 2049, NUM) + labels.tobytes(),
    }


def write(folder, compressed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents().items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)


@pytest.fixture(autouse=True)
def _published_is_what_is_made(monkeypatch, tmp_path):
    files = tuple((*own, str(tmp_path / "debian" / Path(debian).name)) for *own, debian in ENTRY.files)
    monkeypatch.setitem(DATASETS, "fashion_mnist", replace(ENTRY, files=files))
    monkeypatch.setattr(small, "FASHION_MNIST", [hashlib.md5(content).hexdigest() for content in contents().values()])
    monkeypatch.setenv("ICT_DATA", str(tmp_path))


@pytest.fixture
def raw(tmp_path):
    return tmp_path / "FashionMNIST" / "raw"


# Value from the source


@pytest.mark.skipif(not REAL, reason="Debian's files are not here: apt-get install dataset-fashion-mnist")
def test_the_real_files_where_debian_has_them(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    data = load_dataset("fashion_mnist")
    assert data.labels.bincount().tolist() == [6000] * 10
    assert data.labels[:4].tolist() == [9, 0, 0, 3]  # an ankle boot first
    assert (data.shape, data.pixels[0].max().item()) == ((1, 32, 32), 255)
    assert data.pixels[:, 0, 2:30, 2:30].double().mean().item() == pytest.approx(0.2860 * 255, abs=0.00005 * 255)
    assert list(fetch("fashion_mnist", tmp_path)) == [(0, 60_000), (60_000, 60_000)]  # nothing is fetched


def test_every_label(raw):
    write(raw)
    data = load_dataset("fashion_mnist")
    assert (len(data), data.shape, data.num_classes, data.flip) == (NUM, (1, 32, 32), 10, False)
    assert data.labels.tolist() == arrays()[1].tolist()


# Invariant


def test_the_margin_is_background(raw):
    write(raw)
    pixels = load_dataset("fashion_mnist").pixels.clone()
    pixels[:, :, 2:30, 2:30] = 0
    assert pixels.max() == 0
    assert load_dataset("fashion_mnist").images.min() == -1


def test_all_places_and_forms_give_the_same(raw, tmp_path):
    write(tmp_path / "debian")
    sums = [load_dataset("fashion_mnist").checksum()]
    write(raw)
    sums.append(load_dataset("fashion_mnist").checksum())
    write(raw, compressed=False)
    sums.append(DATASETS["fashion_mnist"].load(tmp_path).checksum())
    assert len(set(sums)) == 1


# Independent slow reference


def test_each_pixel_against_the_bytes(raw):
    write(raw)
    data, content = load_dataset("fashion_mnist"), contents()[IMAGES]
    for image, y, x in ((0, 0, 0), (7, 27, 3), (29, 14, 27)):
        assert data.pixels[image, 0, y + 2, x + 2] == content[16 + 784 * image + 28 * y + x]


def test_torchvision_reads_the_same(raw, tmp_path):
    write(raw, compressed=False)
    for name in TEST_PART:
        (raw / name).touch()  # it looks for the test part, too
    theirs = FashionMNIST(tmp_path)
    data = load_dataset("fashion_mnist")
    assert torch.equal(data.pixels[:, 0, 2:30, 2:30], theirs.data)
    assert torch.equal(data.labels, theirs.targets)


# Shapes and dtypes


def test_types(raw):
    write(raw)
    data = load_dataset("fashion_mnist")
    assert (data.pixels.dtype, data.labels.dtype, data.name) == (torch.uint8, torch.int64, "fashion_mnist")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_dataset("fashion_mnist").pixels[0] = 1  # memory of its own


# Errors


def test_a_missing_file_is_named_with_the_commands(raw, tmp_path):
    write(raw)
    (raw / f"{LABELS}.gz").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("fashion_mnist")
    message = str(caught.value)
    assert str(raw / LABELS) in message
    assert f"python -m ict_lib data fashion_mnist {tmp_path}" in message
    assert "apt-get install dataset-fashion-mnist" in message


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "text", "uncompressed"])
def test_a_damaged_file_is_named_with_the_commands(raw, damage):
    write(raw, compressed=damage != "uncompressed")
    path = raw / (IMAGES + (".gz" if damage != "uncompressed" else ""))
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:-9], "empty": b"", "text": b"<html>"}.get(damage, changed))
    with pytest.raises(ValueError, match=rf"{path.name} is damaged.*python -m ict_lib data fashion_mnist"):
        load_dataset("fashion_mnist")


def test_it_is_fetched_from_a_server_on_this_machine(tmp_path, monkeypatch):
    served = tmp_path / "served"
    write(served)
    for name in TEST_PART:
        (served / f"{name}.gz").write_bytes(gzip.compress(b"test part", mtime=0))
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in sorted(served.iterdir())]
    monkeypatch.setattr(FashionMNIST, "resources", sums)
    with HTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{running.server_port}/"])
        with pytest.raises(FileNotFoundError):
            DATASETS["fashion_mnist"].load(tmp_path / "data")
        monkeypatch.setattr(FashionMNIST, "_load_data", lambda self: (None, None))  # of the test part that is none
        assert list(fetch("fashion_mnist", tmp_path / "data"))[-1] == (NUM, NUM)
        running.shutdown()
    assert list(fetch("fashion_mnist", tmp_path / "data"))[-1] == (NUM, NUM)  # all there: asks for nothing
    (tmp_path / "data" / "FashionMNIST" / "raw" / IMAGES).unlink()
    (tmp_path / "data" / "FashionMNIST" / "raw" / f"{IMAGES}.gz").write_bytes(b"")
    with pytest.raises(OSError, match="fashion_mnist cannot be downloaded"):
        list(fetch("fashion_mnist", tmp_path / "data"))


def test_a_cut_file_that_torchvision_takes_for_there_is_named_with_what_helps(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    raw.mkdir(parents=True, exist_ok=True)
    for name in (*TEST_PART, LABELS, IMAGES):
        (raw / name).write_bytes(b"\0\0\x08\x01\0\0\0\x09")
    with pytest.raises(OSError, match=rf"{IMAGES} is damaged or cut short: .* Remove it, then"):
        list(fetch("fashion_mnist", tmp_path))
