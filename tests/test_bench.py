"""The measurements of speed: `ict_lib.bench`. None of these tests says how fast anything is."""

import json
import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from ict_lib.bench import record
from ict_lib.bench.__main__ import line, main, run
from ict_lib.bench.arithmetic import forward_flops, product_rate
from ict_lib.bench.cases import Case, Network, chosen, cpu_cases, gpu_cases
from ict_lib.bench.isolation import isolated
from ict_lib.bench.measures import ceilings, packed_stand_in, processes, training
from ict_lib.bench.timing import bare_passes, overhead, repeated
from ict_lib.data.mapped import MappedPixels
from ict_lib.data.stand_in import stand_in
from ict_lib.run_config import RunConfig
from ict_lib.training.loop import Training

CPU = torch.device("cpu")
UNET = RunConfig(network="small_unet", network_options={"channels": 8, "blocks": 1}, batch_size=4, device="cpu")
UNET = replace(UNET, log_every=2)
TINY = {
    "ncsnpp": Network("digits", 4, 6, options={"channels": 8, "multipliers": [1, 2], "blocks": 1}, every=2),
    "adm": Network("digits", 4, 6, True, {"channels": 16, "multipliers": [1, 2], "blocks": 1, "head_channels": 8}),
}
TINY["ncsnpp"].options["attention_resolutions"] = TINY["adm"].options["attention_resolutions"] = [4]
TINY["adm"].options["dropout_resolution"] = 4
HEAD = {"device": "NVIDIA H100 80GB HBM3", "processor": "a", "cores": 2, "versions": {"torch": "1"}}
HEAD |= {"commit": "c", "date": "2026-01-01"}


def tiny_training(cls=Training, **changes):
    return cls(replace(UNET, **changes), data=stand_in("digits", 50))


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


class SlowSteps(Training):
    def _train_step(self):
        time.sleep(0.1)
        return super()._train_step()


# --- value from the paper ---


@pytest.mark.parametrize(("case", "gigaflops"), [("ncsnpp/fp32", 42.8), ("adm/fp32", 219)])
def test_the_cases_of_a_gpu_are_the_papers_networks(case, gigaflops):
    (found,) = [each for each in gpu_cases() if each.name == case]
    assert forward_flops(found.arguments["config"]) / 1e9 == pytest.approx(gigaflops, rel=0.02)


def test_every_network_in_every_precision_compiled_and_not():
    names = {case.name for case in gpu_cases()}
    for network in ("ncsnpp", "adm"):
        for precision in ("fp32", "tf32", "bf16", "fp16"):
            assert {f"{network}/{precision}", f"{network}/{precision}/compile"} <= names


def test_a_records_file_is_named_after_the_device():
    assert record.path_of(HEAD).name == "nvidia-h100-80gb-hbm3.json"
    cpu = {**HEAD, "device": "CPU, 2 threads", "processor": "AMD EPYC(tm)"}
    assert record.path_of(cpu).name == "amd-epyc-tm-cpu-2-threads.json"


# --- invariant ---


def test_works_take_turns_and_stop_in_time():
    order = []
    times = repeated([lambda: order.append("a"), lambda: order.append("b")], CPU, seconds=0, least=3)
    assert order == ["a", "b"] * 3
    assert [len(each) for each in times] == [3, 3]
    started = time.monotonic()
    (times,) = repeated([lambda: time.sleep(0.05)], CPU, seconds=0.2, most=1000)
    assert min(times) >= 0.05
    assert time.monotonic() - started < 5


def test_a_record_is_on_the_disk_after_each_case_and_keeps_what_was_measured_before(tmp_path):
    path, cases = tmp_path / "new" / "x.json", [Case(n, quick_measure, {"value": n}, {"k": 1}) for n in ("a", "b")]
    for name, found in run(cases, path, HEAD, limit=60):
        kept = json.loads(path.read_text())["cases"][name]
        assert kept["value"] == found["value"] == name
        assert (kept["k"], kept["commit"]) == (1, "c")
    before = json.loads(path.read_text())
    late = dict(run([Case("a", quick_measure, {"value": 5})], path, {**HEAD, "commit": "d"}, limit=0))
    assert late == {"a": {"failed": "out of time"}}
    assert json.loads(path.read_text()) == before
    assert record.begin(path, {**HEAD, "commit": "d"})["cases"] == before["cases"]
    assert record.begin(path, {**HEAD, "versions": {"torch": "2"}})["cases"] == {}


# --- independent slow reference ---


def test_operations_are_two_for_each_weight_of_the_layers():
    config = RunConfig(network_options={"width": 16, "blocks": 2})
    layers = [(64, 64), (64, 16), *2 * [(16, 16), (64, 16), (16, 16)], (16, 64)]
    assert forward_flops(config) == sum(2 * a * b for a, b in layers)


def test_the_bare_passes_are_one_of_the_teacher_and_one_of_the_student_for_each_shard_and_step():
    made = tiny_training(micro_batch=2)
    graded = []
    made.student.network.register_forward_hook(lambda _, args, out: graded.append((len(args[0]), out.requires_grad)))
    bare_passes(made)()
    assert graded == 4 * [(2, False), (2, True)]  # two steps of two shards


def test_what_a_step_does_besides_its_passes_is_seen():
    plain, slow = (overhead(tiny_training(cls), seconds=0, least=5) for cls in (Training, SlowSteps))
    assert slow["step_ms"] > 100
    assert slow["ratio"] > 2 * plain["ratio"]
    assert slow["images_per_second"] == pytest.approx(4e3 / slow["step_ms"])
    assert slow["ratio_low"] <= slow["ratio"] <= slow["ratio_high"]


def test_a_row_compares_with_the_ceiling_of_its_precision():
    training_case = {"network": "adm", "precision": "bf16", "compile": False, "batch_size": 8, "ratio": 1.1}
    training_case |= {"images_per_second": 100.0, "flops_per_image": 2e12, "peak_memory_bytes": 3e9}
    failed = {"network": "adm", "precision": "fp32", "compile": True, "batch_size": 8, "failed": "out of memory"}
    cases = {"ceiling": {"flops": {"bf16": 8e14, "fp32": 5e13}}, "a": training_case, "b": failed, "loading": {}}
    first, second = record.rows({"cases": cases})
    assert first["share of ceiling"] == 0.25
    assert (first["peak memory, GB"], first["step / bare passes"], first["failed"]) == (3.0, 1.1, None)
    assert (second["share of ceiling"], second["failed"]) == (None, "out of memory")


def test_the_file_that_is_loaded_from_holds_the_stand_in(tmp_path):
    made = packed_stand_in("fashion_mnist", 30, tmp_path)
    assert isinstance(made.pixels, MappedPixels)
    assert torch.equal(made.images, stand_in("fashion_mnist", 30).images)
    assert torch.equal(made.labels, stand_in("fashion_mnist", 30).labels)


# --- shapes: the cases of a GPU, small and on a CPU ---


def check_all(cases):
    found = {"cases": {case.name: case.about | case.measure(**case.arguments) for case in cases}}
    rows = record.rows(json.loads(json.dumps(found)))
    assert len(rows) == sum("/" in case.name for case in cases)
    for row in rows:
        values = {k: v for k, v in row.items() if not (k == "failed" or (row["compiled"] and k.startswith("samples")))}
        assert all(value is not None for value in values.values()), row
        assert row["images/s"] > 0
    assert found["cases"].get("loading", {"images_per_second": 1})["images_per_second"] > 0
    return rows


def short(cases):
    return [
        replace(case, arguments={**case.arguments, "seconds": 0}) if case.name != "ceiling" else case for case in cases
    ]


def test_the_cases_of_a_gpu_run_on_a_cpu():
    cases = short(gpu_cases(TINY, "cpu", size=32, images=300))
    rows = check_all([case for case in cases if not case.name.endswith("compile")])
    assert {row["precision"] for row in rows} == {"fp32", "tf32", "bf16", "fp16"}
    assert all(row["share of ceiling"] > 0 for row in rows)


@pytest.mark.slow
def test_the_compiled_cases_of_a_gpu_run_on_a_cpu():
    small = {"mlp": Network("digits", 4, options={"width": 16, "blocks": 1}, every=2)}  # the U-Nets take minutes
    (row,) = check_all(short(chosen(gpu_cases(small, "cpu", size=32), ["ceiling", "bf16/compile"])))
    assert row["compiled"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_process_of_its_own_finds_the_gpu():
    found = isolated(ceilings, {"device": "cuda", "precisions": ["fp32"], "size": 256}, 120)
    assert found["flops"]["fp32"] > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_cases_of_a_gpu_run_on_a_gpu():
    check_all(short(gpu_cases(TINY, "cuda", size=512, images=300)))


@pytest.mark.slow
def test_two_processes_against_one():
    options = {"width": 16, "blocks": 1}
    found = processes(
        RunConfig(network_options=options, batch_size=8, micro_batch=4, steps=6, log_every=2, device="cpu"), turns=1
    )
    rates = [found["images_per_second_1_process"], found["images_per_second_2_processes"]]
    assert found["speedup"] == rates[1] / rates[0] > 0


def test_the_cases_of_a_cpu_are_few_and_known():
    names = [case.name for case in cpu_cases()]
    assert len(set(names)) == len(names)
    assert {"ceiling", "processes", "loading", "ncsnpp/fp32", "small_unet/fp32/compile"} <= set(names)


def test_matrices_multiply_at_some_rate():
    assert product_rate("bf16", CPU, 32, seconds=0) > 0


def test_a_line_says_what_was_measured_or_why_not():
    assert line("mlp", {"flops": {"fp32": 1.0}, "turns": 3, "ratio": 1.25}).split(None, 1)[1] == "ratio 1.25, fp32 1"
    assert line("mlp", {"failed": "out of memory"}).endswith(" out of memory")


def test_training_that_samples_nothing_says_nothing_of_it():
    found = training(UNET, samples=0, seconds=0)
    assert not any(key.startswith("samples") for key in found)
    assert found["peak_memory_bytes"] > 1e7


# --- errors ---


def test_a_case_that_fails_ends_itself_alone():
    def left(measure, limit=60.0):
        return isolated(measure, {}, limit)["failed"]

    assert isolated(quick_measure, {"value": 3}, 60.0)["value"] == 3
    assert left(full_measure) == left(killed_measure) == "out of memory"
    assert left(wrong_measure) == "KeyError: 'a mistake'"
    assert left(endless_measure, limit=0.3) == "out of time"


def test_a_case_that_is_not_there_is_refused(capsys, monkeypatch):
    cases = cpu_cases()
    assert [case.name for case in chosen(cases, ["ceiling", "ncs"])] == ["ceiling", "ncsnpp/fp32"]
    assert chosen(cases, []) == cases
    with pytest.raises(ValueError, match="case is 'nonsense'"):
        chosen(cases, ["nonsense"])
    assert main(["cpu", "nonsense", "--limit", "5"]) == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu"]) == 2
    assert "no CUDA device" in capsys.readouterr().err
