"""CIFAR-10: files in the published format, made here; nothing is downloaded but from this machine."""

import hashlib
import os
import pickle
import subprocess
import sys
import tarfile
import threading
from functools import partial
from http.server import HTTPServer

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from ict_lib.data import DATASETS, fetch, load_dataset
from tests.conftest import QuietHandler

NUM = 20  # images a file
BATCHES = [f"data_batch_{number + 1}" for number in range(5)]


def arrays(number):
    """Rows of 1,024 red, 1,024 green, 1,024 blue numbers, as published."""
    draw = np.random.default_rng(number)
    return draw.integers(0, 256, (NUM, 3072), dtype=np.uint8), draw.integers(0, 10, NUM).tolist()


def write(root):
    """Make all the files, and return the MD5 of each."""
    folder = root / CIFAR10.base_folder
    folder.mkdir(parents=True)
    sums = {}
    for number, name in enumerate([*BATCHES, "test_batch", "batches.meta"]):
        data, labels = arrays(number)
        content = pickle.dumps({"data": data, "labels": labels, "label_names": list("abcdefghij")}, protocol=2)
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    return sums


def publish(monkeypatch, sums):
    """Let torchvision take these files for the published ones."""
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in BATCHES])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})


@pytest.fixture
def root(tmp_path, monkeypatch):
    publish(monkeypatch, write(tmp_path))
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    return tmp_path


# Value from the source


def test_every_image_and_label(root):
    data = load_dataset("cifar10")
    assert (len(data), data.shape, data.num_classes, data.name, data.flip) == (100, (3, 32, 32), 10, "cifar10", True)
    assert data.labels.tolist() == [label for number in range(5) for label in arrays(number)[1]]


# Invariant


def test_loading_again_gives_the_same_without_a_random_draw(root):
    before = torch.get_rng_state()
    assert load_dataset("cifar10").checksum() == DATASETS["cifar10"].load(root).checksum()
    assert torch.equal(torch.get_rng_state(), before)


# Independent slow reference


def test_each_pixel_against_the_rows(root):
    data = load_dataset("cifar10")
    for number, row in ((0, 0), (1, 7), (4, 19)):
        numbers = arrays(number)[0][row].tolist()
        for channel, y, x in ((0, 0, 0), (1, 0, 31), (2, 31, 30), (0, 17, 5)):
            assert data.pixels[NUM * number + row, channel, y, x] == numbers[1024 * channel + 32 * y + x]


# Shapes and dtypes; what is loaded


def test_bytes_in_memory_floats_in_a_batch(root):
    data = load_dataset("cifar10")
    assert (data.pixels.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    batch = data.batch(torch.tensor([3, 99]), "cpu", torch.Generator().manual_seed(0))
    assert (batch.shape, batch.dtype) == ((2, 3, 32, 32), torch.float32)


def test_what_reads_the_data_is_imported_only_on_demand():
    code = "import sys, ict_lib.data; sys.exit(bool({'torchvision', 'sklearn', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Errors: missing, cut, changed, foreign


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_missing_file_is_named_with_the_command(root, name):
    path = root / CIFAR10.base_folder / name
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path} is missing; .*python.* -m ict_lib data cifar10 {root}"):
        load_dataset("cifar10")


class Foreign:
    """Runs a command where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "foreign"])
@pytest.mark.parametrize("name", ["data_batch_5", "batches.meta"])
def test_a_damaged_file_is_named_with_the_command_and_nothing_is_unpickled(root, name, damage):
    path = root / CIFAR10.base_folder / name
    whole = path.read_bytes()
    flipped = whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
    foreign = pickle.dumps(Foreign(root / "executed"))
    path.write_bytes({"cut": whole[:-1], "changed": flipped, "empty": b"", "foreign": foreign}[damage])
    with pytest.raises(ValueError, match=rf"{name} is damaged .*python -m ict_lib data cifar10"):
        load_dataset("cifar10")
    assert not (root / "executed").exists()


# Fetching, from a server on this machine


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves an archive in the published form; only its address and checksums differ."""
    served = tmp_path / "served"
    publish(monkeypatch, write(tmp_path / "made"))
    served.mkdir()
    with tarfile.open(served / "c.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "made" / CIFAR10.base_folder, CIFAR10.base_folder)
    with HTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{running.server_port}/c.tar.gz")
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((served / "c.tar.gz").read_bytes()).hexdigest())
        yield served
        running.shutdown()


def test_it_is_fetched_once_and_a_damaged_file_is_mended(server, tmp_path):
    target = tmp_path / "data"
    with pytest.raises(FileNotFoundError):
        DATASETS["cifar10"].load(target)
    assert not target.exists()  # nothing is fetched unasked
    assert list(fetch("cifar10", target)) == [(0, 50_000), (100, 100)]
    (target / CIFAR10.base_folder / "data_batch_2").write_bytes(b"")
    assert list(fetch("cifar10", target))[-1] == (100, 100)
    (server / "c.tar.gz").unlink()
    assert list(fetch("cifar10", target))[-1] == (100, 100)  # all there: asks for nothing


def test_what_cannot_be_fetched_is_one_error(server, tmp_path):
    (server / "c.tar.gz").write_bytes(b"<html>moved</html>")
    with pytest.raises(OSError, match=rf"cifar10 cannot be downloaded into {tmp_path}.*corrupted"):
        list(fetch("cifar10", tmp_path / "data"))
    (server / "c.tar.gz").unlink()
    with pytest.raises(OSError, match=r"cannot be downloaded .*404"):
        list(fetch("cifar10", tmp_path / "data"))
    with pytest.raises(ValueError, match="source is 'photographs': none, since cifar10 is not packed"):
        list(fetch("cifar10", tmp_path / "data", source="photographs"))
