"""The measurements of speed, their record and their command: `ict_lib.scale.bench` and `record`."""

import json
import os
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
import torch

from ict_lib.__main__ import main as door
from ict_lib.commands import case_names
from ict_lib.config import Run
from ict_lib.recipe import ICT
from ict_lib.scale import record
from ict_lib.scale.bench import (
    PRECISIONS,
    about,
    ceilings,
    chosen,
    cpu_cases,
    gpu_cases,
    isolated,
    line,
    loading,
    measured,
    processes,
    trainings,
)
from ict_lib.scale.bench import training as train_and_time

SMALL = {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention_resolutions": [4]}
NCSNPP = Run(network="ncsnpp", network_options=SMALL, batch_size=4, log_every=2)
ADM = Run(network="adm", network_options={**SMALL, "head_channels": 8, "dropout_resolution": 4}, conditional=True)
ADM = replace(ADM, batch_size=4, log_every=2)
HEAD = {"device": "NVIDIA H100 80GB HBM3", "processor": "a", "cores": 2, "versions": {"torch": "1"}}
HEAD |= {"commit": "c", "code": "1", "date": "2026-01-01"}


def quick_measure(value):
    return {"value": value}


def full_measure():
    raise torch.OutOfMemoryError("CUDA out of memory")


def wrong_measure():
    raise KeyError("a mistake")


def killed_measure():
    os.kill(os.getpid(), signal.SIGKILL)


def endless_measure():
    time.sleep(600)


# --- value from the paper ---


def test_the_cases_of_a_gpu_are_the_papers_networks_with_its_share_of_the_papers_batch():
    """Their operations are those of `test_scale_cost`."""
    for name, data, batch in (("ncsnpp", "cifar10", 1024 // 4), ("adm", "imagenet64", 4096 // 64)):
        run = gpu_cases()[f"{name}/fp32"].keywords["run"]
        assert (run.network, run.data, run.batch_size) == (name, data, batch)
        assert (run.network_options, run.recipe, run.conditional) == ({}, ICT, name == "adm")


def test_every_network_in_every_precision_compiled_and_not():
    cases = gpu_cases()
    for network in ("ncsnpp", "adm"):
        for precision in ("fp32", "tf32", "bf16", "fp16"):
            for compiled in (False, True):
                run = cases[f"{network}/{precision}" + "/compile" * compiled].keywords["run"]
                assert (run.network, run.precision, run.compile, run.device) == (network, precision, compiled, "cuda")


def test_a_records_file_is_named_after_the_device():
    assert record.path_of(HEAD).name == "nvidia-h100-80gb-hbm3.json"
    cpu = {**HEAD, "device": "CPU, 2 threads", "processor": "AMD EPYC(tm)"}
    assert record.path_of(cpu).name == "amd-epyc-tm-cpu-2-threads.json"


# --- invariant ---


def test_a_record_is_on_the_disk_after_each_case_and_keeps_what_was_measured_before(tmp_path):
    path, cases = tmp_path / "new" / "x.json", {n: partial(quick_measure, value=n) for n in ("a", "b")}
    for name, found in measured(cases, path, HEAD, limit=60):
        kept = json.loads(path.read_text())["cases"][name]
        assert kept["value"] == found["value"] == name
        assert kept["commit"] == "c"
    before = json.loads(path.read_text())
    changed = {**HEAD, "commit": "d", "code": "2"}
    late = dict(measured({"a": partial(quick_measure, value=5)}, path, changed, limit=0))
    assert late == {"a": {"failed": "out of time"}}
    assert json.loads(path.read_text()) == before
    assert record.begin(path, {**HEAD, "commit": "d"})["cases"] == before["cases"]
    assert record.begin(path, {**HEAD, "versions": {"torch": "2"}})["cases"] == {}


def test_the_next_call_goes_on_with_what_the_record_lacks(tmp_path):
    """So that a whole that takes longer than a call comes to its end, whatever a case does."""
    path = tmp_path / "x.json"
    cases = {"a": partial(quick_measure, value=1), "b": endless_measure, "c": partial(quick_measure, value=3)}
    cases = {name: partial(case) for name, case in cases.items()}
    isolated(cases["a"], limit=60)  # what all are copied from is loaded once, which takes a busy machine seconds
    first = dict(measured(cases, path, HEAD, limit=60, each=5))
    assert (first["a"]["value"], first["b"]["failed"], first["c"]["value"]) == (1, "took more than 5 s", 3)
    wrong = {name: partial(wrong_measure) for name in cases}
    again = dict(measured(wrong, path, HEAD, limit=60))
    assert (again["a"]["value"], again["b"]["failed"], again["c"]["value"]) == (1, "took more than 5 s", 3)
    changed = dict(measured(wrong, path, {**HEAD, "code": "2"}, limit=60))
    assert {one["failed"] for one in changed.values()} == {"KeyError: 'a mistake'"}


def test_what_the_whole_limit_cut_off_is_left_to_the_next_call(tmp_path):
    path = tmp_path / "x.json"
    assert dict(measured({"a": partial(endless_measure)}, path, HEAD, limit=1)) == {"a": {"failed": "out of time"}}
    assert dict(measured({"a": partial(quick_measure, value=1)}, path, HEAD, limit=60))["a"]["value"] == 1


def test_the_records_of_the_project_can_be_read():
    for found in record.read_all():
        assert {"device", "processor", "cores", "versions", "commit", "date", "cases"} <= found.keys()
        assert record.rows(found) or set(found["cases"]) == {"traffic"}, "nothing was trained"


# --- independent slow reference ---


def test_a_row_compares_with_the_ceiling_of_its_precision():
    case = {"network": "adm", "precision": "bf16", "compile": False, "batch_size": 8, "ratio": 1.1}
    case |= {"images_per_second": 100.0, "flops_per_image": 2e12, "peak_memory_bytes": 3e9}
    failed = {"network": "adm", "precision": "fp32", "compile": True, "batch_size": 8, "failed": "out of memory"}
    cases = {"ceiling": {"flops": {"bf16": 8e14, "fp32": 5e13}}, "adm/bf16": case, "adm/fp32": failed, "loading": {}}
    first, second = record.rows({"cases": cases})
    assert first["share of ceiling"] == 0.25
    assert (first["peak memory, GB"], first["step / bare passes"], first["failed"]) == (3.0, 1.1, None)
    assert (second["share of ceiling"], second["compiled"], second["failed"]) == (None, True, "out of memory")


# --- shapes: the cases of a GPU, small and on a CPU ---


def check_all(device, networks, compiled=False):
    cases = {"ceiling": partial(ceilings, device=device, precisions=PRECISIONS, size=32)}
    cases |= {n: partial(case, seconds=0) for n, case in trainings(networks, device, compiled).items()}
    rows = record.rows(json.loads(json.dumps({"cases": {name: about(case) | case() for name, case in cases.items()}})))
    assert len(rows) == len(networks)
    for row in rows:
        values = {k: v for k, v in row.items() if not (k == "failed" or (compiled and k.startswith("samples")))}
        assert all(value is not None for value in values.values()), row
        assert row["images/s"] > 0
        assert row["share of ceiling"] > 0


def test_the_cases_of_a_gpu_run_on_a_cpu():
    check_all("cpu", [(NCSNPP, 6, "fp32"), (NCSNPP, 6, "tf32"), (ADM, 6, "bf16"), (ADM, 6, "fp16")])


@pytest.mark.slow
def test_the_compiled_cases_of_a_gpu_run_on_a_cpu():
    small = Run(network_options={"width": 16, "blocks": 1}, batch_size=4, log_every=2)  # the U-Nets take minutes
    check_all("cpu", [(small, 0, "bf16")], compiled=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_process_of_its_own_finds_the_gpu():
    found = isolated(partial(ceilings, device="cuda", precisions=["fp32"], size=256), 120)
    assert found["flops"]["fp32"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_cases_of_a_gpu_run_on_a_gpu():
    networks = [(run, 6, precision) for run in (NCSNPP, ADM) for precision in PRECISIONS]
    check_all("cuda", networks)
    check_all("cuda", networks, compiled=True)
    assert loading("cuda", num=300, batch=256, seconds=0)["images_per_second"] > 0


@pytest.mark.slow
def test_two_processes_against_one():
    small = Run(network_options={"width": 16, "blocks": 1}, batch_size=8, micro_batch=4, device="cpu")
    found = processes(replace(small, steps=6, log_every=2), turns=1)
    rates = [found["images_per_second_1_process"], found["images_per_second_2_processes"]]
    assert found["speedup"] == rates[1] / rates[0] > 0


def test_the_cases_of_a_cpu_are_few_and_known():
    assert {"ceiling", "processes", "loading", "ncsnpp/fp32", "small_unet/fp32/compile"} <= set(cpu_cases())


def test_images_are_loaded_at_some_rate():
    assert loading("cpu", num=8, batch=4, seconds=0)["images_per_second"] > 0


def test_a_line_says_what_was_measured_or_why_not():
    assert line("mlp", {"flops": {"fp32": 1.0}, "turns": 3, "ratio": 1.25}).split(None, 1)[1] == "ratio 1.25, fp32 1"
    assert line("mlp", {"failed": "out of memory"}).endswith(" out of memory")


def test_training_that_samples_nothing_says_nothing_of_it():
    found = train_and_time(NCSNPP, drawn=0, seconds=0)
    assert not any(key.startswith("samples") for key in found)
    assert found["peak_memory_bytes"] > 1e7


# --- errors ---


def test_a_case_that_fails_ends_itself_alone():
    def left(measure, limit=60.0):
        return isolated(measure, limit)["failed"]

    assert isolated(partial(quick_measure, value=3), 60.0)["value"] == 3
    assert left(full_measure) == "OutOfMemoryError: CUDA out of memory"
    assert "killed, as the system does who takes the last memory" in left(killed_measure)
    assert left(wrong_measure) == "KeyError: 'a mistake'"
    assert left(endless_measure, limit=0.3) == "out of time"


def test_a_case_that_is_not_there_is_refused(capsys, monkeypatch):
    cases = cpu_cases()
    assert list(chosen(cases, ["ceiling", "ncs"])) == ["ceiling", "ncsnpp/fp32"]
    assert chosen(cases, []) == cases
    assert door(["bench", "cpu", "nonsense", "--limit", "5"]) == 2
    assert "refused: case is 'nonsense': a part of one of ceiling, processes" in capsys.readouterr().err
    monkeypatch.setattr("ict_lib.run.needs.cuda_devices", lambda: 0)
    assert door(["bench", "gpu"]) == 2
    assert "auto or cpu, as it takes 1 CUDA devices and 0 are here" in capsys.readouterr().err


def test_the_cases_known_without_torch_are_those_there_are():
    assert set(case_names("cpu")) == set(cpu_cases())
    assert set(case_names("gpu")) == set(gpu_cases())
