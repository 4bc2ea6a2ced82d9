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

from ict_lib.data import cifar10, load_dataset
from ict_lib.data.plain_pickle import read_plain_pickle
from tests.conftest import QuietHandler

NUM = 20  # images a file


def arrays(number):
    """Rows of 1,024 red, 1,024 green, 1,024 blue numbers, as published."""
    draw = np.random.default_rng(number)
    return draw.integers(0, 256, (NUM, 3072), dtype=np.uint8), draw.integers(0, 10, NUM).tolist()


def as_python_2(content):
    """The pickle as Python 2 wrote it: old names of NumPy's modules, keys and data as its byte strings."""
    data, labels = content
    raw = data.tobytes()
    head = b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"(K\x01K" + bytes([len(data)]) + b"M\x00\x0c\x86"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    text = b"T" + len(raw).to_bytes(4, "little") + raw
    return head + shape + kind + text + b"tbU\x06labels](" + b"".join(b"K" + bytes([n]) for n in labels) + b"eu."


def write(root):
    """Five batches, and their checksums."""
    folder = root / cifar10.SUBFOLDER
    folder.mkdir(parents=True)
    sums = {}
    for number, name in enumerate(cifar10.BATCHES):
        data, labels = arrays(number)
        whole = {"data": data, "labels": labels, "batch_label": "made"}
        content = as_python_2((data, labels)) if number < 2 else pickle.dumps(whole, protocol=number)
        (folder / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    return sums


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "BATCHES", write(tmp_path))
    monkeypatch.setenv("ICT_DATA", str(tmp_path))
    return tmp_path


# Value from the source


def test_the_published_checksums_are_torchvisions():
    datasets = pytest.importorskip("torchvision.datasets")
    assert [list(pair) for pair in cifar10.BATCHES.items()] == [list(pair) for pair in datasets.CIFAR10.train_list]
    assert datasets.CIFAR10.base_folder == cifar10.SUBFOLDER
    assert (datasets.CIFAR10.url, datasets.CIFAR10.tgz_md5) == (cifar10.URL, cifar10.ARCHIVE_MD5)


def test_every_image_and_label(root):
    data = load_dataset("cifar10")
    assert (len(data), data.shape, data.num_classes, data.name, data.flip) == (100, (3, 32, 32), 10, "cifar10", True)
    assert data.labels.tolist() == [label for number in range(5) for label in arrays(number)[1]]


# Invariant


def test_loading_again_gives_the_same_without_a_random_draw(root):
    before = torch.get_rng_state()
    first, again = cifar10.load(), cifar10.load(root)
    assert first.checksum() == again.checksum()
    assert torch.equal(torch.get_rng_state(), before)


def test_where_it_looks(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ICT_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        cifar10.load()
    assert len(cifar10.load(root)) == 100


# Independent slow reference


def test_each_pixel_against_the_rows(root):
    data = cifar10.load()
    for number, row in ((0, 0), (1, 7), (4, 19)):
        numbers = arrays(number)[0][row].tolist()
        for channel, y, x in ((0, 0, 0), (1, 0, 31), (2, 31, 30), (0, 17, 5)):
            assert data.pixels[NUM * number + row, channel, y, x] == numbers[1024 * channel + 32 * y + x]


def test_torchvision_reads_the_same(root, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [list(pair) for pair in cifar10.BATCHES.items()])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [])
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    theirs = datasets.CIFAR10(root)
    data = cifar10.load()
    assert np.array_equal(data.pixels.permute(0, 2, 3, 1).numpy(), theirs.data)
    assert data.labels.tolist() == theirs.targets


# Shapes and dtypes; what is loaded


def test_bytes_in_memory_floats_in_a_batch(root):
    data = cifar10.load()
    assert (data.pixels.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
    batch = data.batch(torch.tensor([3, 99]), "cpu", torch.Generator().manual_seed(0))
    assert (batch.shape, batch.dtype) == ((2, 3, 32, 32), torch.float32)


def test_neither_torchvision_nor_pillow_is_needed():
    code = "import sys, ict_lib.data.cifar10; sys.exit(bool({'torchvision', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Errors: missing, cut, changed, foreign


def test_a_missing_file_is_named_with_the_command(root):
    path = root / cifar10.SUBFOLDER / "data_batch_3"
    path.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset("cifar10")
    assert str(path) in str(caught.value)
    assert f"python -m ict_lib.data.cifar10 {root}" in str(caught.value)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_named_with_the_command(root, damage):
    path = root / cifar10.SUBFOLDER / "data_batch_2"
    whole = path.read_bytes()
    flipped = whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
    path.write_bytes({"cut": whole[:-1], "changed": flipped, "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"data_batch_2 is damaged .*python -m ict_lib\.data\.cifar10"):
        load_dataset("cifar10")


class Foreign:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_that_wants_to_run_something_is_refused_even_with_the_right_checksum(root, monkeypatch, inside):
    foreign = Foreign()
    foreign.path = str(root / "executed")
    objects = np.array([foreign, foreign], dtype=object)
    path = root / cifar10.SUBFOLDER / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": objects if inside else foreign, "labels": [1]}))
    sums = cifar10.BATCHES | {"data_batch_1": hashlib.md5(path.read_bytes()).hexdigest()}
    monkeypatch.setattr(cifar10, "BATCHES", sums)
    with pytest.raises(ValueError, match=r"data_batch_1 is not a pickle of plain data: it asks for \w+\.mkdir"):
        cifar10.load()
    assert not (root / "executed").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol(tmp_path, protocol):
    content = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, np.int64(2)], b"raw": b"bytes"}
    (tmp_path / "p").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_plain_pickle(tmp_path / "p")
    assert np.array_equal(found["data"], content["data"])
    assert found["labels"] == [1, 2]
    assert "raw" in found
    (tmp_path / "p").write_bytes(pickle.dumps([1], protocol=protocol))
    with pytest.raises(ValueError, match="dictionary, got list"):
        read_plain_pickle(tmp_path / "p")


# The command that fetches, against a server on this machine


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves an archive in the published form; only its address and checksums differ."""
    served = tmp_path / "served"
    sums = write(tmp_path / "made")
    served.mkdir()
    with tarfile.open(served / "c.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "made" / cifar10.SUBFOLDER, cifar10.SUBFOLDER)
    with HTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(cifar10, "BATCHES", sums)
        monkeypatch.setattr(cifar10, "URL", f"http://127.0.0.1:{running.server_port}/c.tar.gz")
        monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5((served / "c.tar.gz").read_bytes()).hexdigest())
        yield served
        running.shutdown()


def test_the_command_fetches_once(server, tmp_path, capsys):
    target = tmp_path / "data"
    cifar10.main([str(target)])
    assert "100 images" in capsys.readouterr().out
    assert sorted(path.name for path in target.iterdir()) == [cifar10.SUBFOLDER]
    (server / "c.tar.gz").unlink()
    cifar10.main([str(target)])  # all there: asks for nothing
    assert len(cifar10.load(target, download=True)) == 100


def test_a_wrong_archive_leaves_nothing(server, tmp_path):
    (server / "c.tar.gz").write_bytes(b"<html>moved</html>")
    with pytest.raises(ValueError, match="gave 18 bytes with MD5"):
        cifar10.load(tmp_path / "data", download=True)
    assert list((tmp_path / "data").iterdir()) == []
    with pytest.raises(SystemExit, match="gave 18 bytes"):
        cifar10.main([str(tmp_path / "data")])
    with pytest.raises(SystemExit, match="usage"):
        cifar10.main(["--help"])


def test_nothing_is_fetched_unasked(server, tmp_path):
    with pytest.raises(FileNotFoundError):
        cifar10.load(tmp_path / "data")
    assert not (tmp_path / "data").exists()
