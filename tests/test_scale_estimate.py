"""What a run lacks on this machine: `ict_lib.scale.estimate`."""

import gzip
import hashlib
import shutil
import socket
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ict_lib.config import Run
from ict_lib.data import DATASETS
from ict_lib.recipe import CT, ICT
from ict_lib.scale.cost import Memory, Passes
from ict_lib.scale.estimate import Plan, fault, lacks_vgg16, missing

LPIPS = replace(CT, distance="lpips")


def plan(data="cifar10", recipe=ICT, devices=8, memory=10 * 10**9, disk=10**6, compile=False, flops=10**9):
    run = Run(data=data, recipe=recipe, processes=devices, compile=compile)
    sizes = Memory({"weights": memory}, {"backward pass": 0}), {"weights": disk, "data set": 10**18}
    return Plan(run, Passes(1, flops, 0, 1, 0, 1, 1), *sizes, {})


def devices_of(monkeypatch, memory, num=8):
    """Pretend to have CUDA devices."""
    named = SimpleNamespace(name="a device", total_memory=memory)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: named)


def of_topic(lines, topic):
    return [line for line in lines if line.startswith(topic)]


@pytest.fixture(autouse=True)
def nothing_there(tmp_path, monkeypatch):
    """A machine with no data, no weights, no network and no accelerator."""
    for variable, folder in (("ICT_CACHE", "cache"), ("ICT_DATA", "data"), ("TORCH_HOME", "torch")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    for variable in ("ICT_INCEPTION", "ICT_VGG16"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("something was downloaded"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("something was downloaded"))


# --- value: one line a thing, with the command ---


def test_the_digits_need_nothing(tmp_path):
    assert missing(plan("digits", devices=2, flops=10**6), tmp_path) == []


@pytest.mark.parametrize(
    ("data", "command"),
    [
        ("cifar10", "python -m ict_lib data cifar10"),
        ("imagenet64", "python -m ict_lib data imagenet64"),
        ("fashion_mnist", "python -m ict_lib data fashion_mnist"),
    ],
)
def test_the_command_that_makes_the_data_is_said(tmp_path, monkeypatch, data, command):
    entry = DATASETS[data]
    monkeypatch.setitem(DATASETS, data, replace(entry, files=tuple(places[:2] for places in entry.files)))
    line = of_topic(missing(plan(data), tmp_path), "data set")[0]
    assert command in line
    assert str(tmp_path / "data") in line


def test_inception_is_looked_for_and_vgg16_only_for_lpips(tmp_path):
    lines = missing(plan(), tmp_path)
    assert len(of_topic(lines, "Inception")) == 1
    assert "weights-inception-2015-12-05-6726825d.pth is missing" in of_topic(lines, "Inception")[0]
    assert "ICT_INCEPTION" in of_topic(lines, "Inception")[0]
    assert of_topic(lines, "VGG16") == []
    line = of_topic(missing(plan(recipe=LPIPS), tmp_path), "VGG16")[0]
    assert "vgg16-397923af.pth is missing" in line
    assert "ICT_VGG16" in line


def test_devices_are_counted(tmp_path, monkeypatch):
    assert "devices: this machine has 0 of the 8 CUDA devices" in missing(plan(), tmp_path)
    devices_of(monkeypatch, 24 * 10**9)
    assert of_topic(missing(plan(), tmp_path), "devices") == []


def test_who_asks_for_cpus_lacks_no_devices_and_no_memory_of_theirs(tmp_path, monkeypatch):
    asked = plan(memory=25 * 10**9)
    asked = replace(asked, run=replace(asked.run, device="cpu"))
    assert of_topic(missing(asked, tmp_path), "devices") == []
    devices_of(monkeypatch, 24 * 10**9)
    assert of_topic(missing(asked, tmp_path), "memory") == []


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "xpu"])
def test_a_device_that_is_not_here_is_missing(tmp_path, device):
    asked = plan("digits", devices=1)
    (line,) = of_topic(missing(replace(asked, run=replace(asked.run, device=device)), tmp_path), "device")
    assert f"device is '{device}'" in line


def test_a_device_that_is_too_small_is_named_once(tmp_path, monkeypatch):
    devices_of(monkeypatch, 24 * 10**9)
    assert of_topic(missing(plan(memory=23 * 10**9), tmp_path), "memory") == []
    small = of_topic(missing(plan(memory=25 * 10**9), tmp_path), "memory")
    assert small == ["memory: a device has 24 GB, and 25 GB are wanted; a smaller micro_batch wants less"]


def test_a_disk_that_is_too_small_is_said_for_a_folder_that_is_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=5 * 10**9))
    folder = tmp_path / "runs" / "a" / "run"
    assert of_topic(missing(plan(disk=4 * 10**9), folder), "disk") == []
    said = f"disk: {tmp_path} has 5 GB free, and 6 GB are needed"
    assert of_topic(missing(plan(disk=6 * 10**9), folder), "disk") == [said]


def test_a_missing_compiler_is_named_where_passes_are_compiled(tmp_path, monkeypatch):
    there = plan("digits", devices=1, flops=10**6, compile=True)
    monkeypatch.setenv("CXX", sys.executable)  # stands for one
    assert of_topic(missing(there, tmp_path), "compiler") == []
    monkeypatch.setenv("CXX", "no-such-compiler")
    (line,) = of_topic(missing(there, tmp_path), "compiler")
    assert "no no-such-compiler" in line
    assert "apt-get install g++" in line
    assert of_topic(missing(plan("digits", devices=1), tmp_path), "compiler") == []
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = of_topic(missing(there, tmp_path), "compiler")
    assert "compile=true needs a C++ compiler, and there is no g++" in line
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    (line,) = of_topic(missing(there, tmp_path), "compiler")
    assert f"{tmp_path / 'Python.h'} (Debian: apt-get install python3-dev), or set compile=false" in line


def test_the_driver_is_looked_for_where_triton_links_with_it(tmp_path, monkeypatch):
    there = plan("digits", devices=1, flops=10**6, compile=True)
    there = replace(there, run=replace(there.run, device="cuda"))
    monkeypatch.setenv("CC", sys.executable)  # stands for a compiler
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="libc.so.6 => /lib/libc.so.6"))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/none:{tmp_path}")
    monkeypatch.delenv("TRITON_LIBCUDA_PATH", raising=False)
    (line,) = of_topic(missing(there, tmp_path), "compiler")
    assert "libcuda.so.1 in what ldconfig -p lists" in line
    (tmp_path / "libcuda.so.1").touch()
    assert of_topic(missing(there, tmp_path), "compiler") == []
    monkeypatch.delenv("LD_LIBRARY_PATH")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="libcuda.so.1 => /lib/libcuda.so.1"))
    assert of_topic(missing(there, tmp_path), "compiler") == []
    monkeypatch.setenv("TRITON_LIBCUDA_PATH", "/none")
    assert len(of_topic(missing(there, tmp_path), "compiler")) == 1


def test_a_folder_that_cannot_be_written_is_named_and_one_that_can_is_left_as_it_was(tmp_path, monkeypatch):
    assert of_topic(missing(plan(), tmp_path / "runs"), "folder") == []
    assert list(tmp_path.iterdir()) == []

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ict_lib.run.needs.hold", refuse)
    said = f"folder: {tmp_path} can neither be written nor locked: Permission denied"
    assert of_topic(missing(plan(), tmp_path / "runs"), "folder") == [said]


def test_several_processes_need_a_machine_that_answers_to_its_name(tmp_path, monkeypatch):
    assert of_topic(missing(plan(), tmp_path), "ports") == []
    monkeypatch.setattr(socket, "getfqdn", lambda: "no.such.machine.invalid")
    (line,) = of_topic(missing(plan(), tmp_path), "ports")
    assert line.startswith("ports: processes meet at no.such.machine.invalid, which does not answer (")
    assert of_topic(missing(plan(devices=1), tmp_path), "ports") == []


# --- invariant: what is there is not asked for ---


def test_files_that_are_there_are_not_missing(tmp_path, monkeypatch):
    """The published files are looked for by the hash in their names, so a file of that name must be the right one."""
    content = b"weights"
    name = f"weights-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).write_bytes(content)
    monkeypatch.setattr("ict_lib.evaluation.fidelity.INCEPTION", f"https://nowhere/{name}")
    monkeypatch.setattr("ict_lib.networks.lpips.VGG16", f"https://nowhere/{name}")
    lines = missing(plan(recipe=LPIPS), tmp_path)
    assert of_topic(lines, "Inception") == of_topic(lines, "VGG16") == []


# --- errors: a damaged file is named, and stops nothing ---


def test_a_damaged_file_is_said(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"no images"))
    line = of_topic(missing(plan("fashion_mnist"), tmp_path), "data set")[0]
    assert "is damaged" in line
    (tmp_path / "wrong.pth").write_bytes(b"no weights")
    monkeypatch.setenv("ICT_INCEPTION", str(tmp_path / "wrong.pth"))
    assert "is damaged" in of_topic(missing(plan(), tmp_path), "Inception")[0]


def test_a_fault_is_a_message_or_none():
    assert fault(lambda: 1) is None
    assert fault(lambda: Path("/none/there").read_text()) == "[Errno 2] No such file or directory: '/none/there'"
    with pytest.raises(ZeroDivisionError):
        fault(lambda: 1 / 0)
    assert lacks_vgg16(plan()) is None
    assert "vgg16" in lacks_vgg16(plan(recipe=LPIPS))
