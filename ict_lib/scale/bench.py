"""Measure this machine: ``make bench`` on a CPU, ``make bench-gpu`` at the paper's size on a CUDA device."""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from ict_lib.config import Run
from ict_lib.data import stand_in
from ict_lib.sampling import sample
from ict_lib.scale import record
from ict_lib.scale.cost import count_passes, without_memory
from ict_lib.scale.speed import overhead, prepared, product_rate, repeated, traffic
from ict_lib.training import launch
from ict_lib.training.loop import Training
from ict_lib.training.model import pick_device, threads_for
from ict_lib.training.precision import multiplying, passing
from ict_lib.training.surroundings import peak_memory

# Networks, and images that are drawn at a time. Batches are the share of one GPU: of the paper's 1024 among 4, of its
# 4096 among 64; two steps are timed together.
PAPER = (
    (Run(data="cifar10", network="ncsnpp", batch_size=256, log_every=2), 1024),
    (Run(data="imagenet64", network="adm", batch_size=64, conditional=True, log_every=2), 256),
)
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
LATE = "out of time"
EACH = 240.0  # seconds for one case; the largest network takes two minutes to compile
SAID = ("network", "precision", "compile", "batch_size")
SIGMAS = {"1_step": (80.0,), "2_steps": (80.0, 0.821)}
Cases = dict[str, partial]  # name, such as ncsnpp/bf16/compile -> a function of this module with its arguments


def gpu_cases() -> Cases:
    """Lay out the cases of a GPU: what is quick first, what is compiled last; in each precision, compiled and not."""
    plain = [(run, drawn, precision) for run, drawn in PAPER for precision in PRECISIONS]
    mixed_first = [(run, 0, precision) for precision in ("bf16", "tf32", "fp16", "fp32") for run, _ in PAPER]
    return {
        "ceiling": partial(ceilings, device="cuda", precisions=PRECISIONS, size=8192),
        **trainings(plain, "cuda"),
        "loading": partial(loading, device="cuda", num=20_000),
        **trainings(mixed_first, "cuda", compiled=True),
    }


def cpu_cases() -> Cases:
    """Lay out the cases of a CPU: small networks, two processes, and the cost of a step of the paper's NCSN++."""
    mlp, unet = Run(log_every=1), Run(network="small_unet", log_every=1)
    return {
        "ceiling": partial(ceilings, device="cpu", precisions=("fp32", "bf16"), size=1024),
        **trainings([(mlp, 1024, "fp32"), (unet, 256, "fp32")], "cpu"),
        "processes": partial(processes, run=replace(unet, micro_batch=128, steps=12, log_every=2, device="cpu")),
        "loading": partial(loading, device="cpu", num=4096),
        "traffic": partial(traffic, run=replace(PAPER[0][0], device="cpu")),
        **trainings([(mlp, 1024, "bf16"), (replace(PAPER[0][0], batch_size=4, log_every=1), 0, "fp32")], "cpu"),
        # last: the second takes minutes to compile on a busy machine
        **trainings([(mlp, 0, "fp32"), (unet, 0, "fp32")], "cpu", compiled=True),
    }


def trainings(networks: Sequence[tuple[Run, int, str]], device: str, compiled: bool = False) -> Cases:
    """Lay out trainings, each of a run, images that are drawn, and a precision; sampling is not compiled."""
    return {
        f"{run.network}/{precision}" + "/compile" * compiled: partial(
            training, run=replace(run, precision=precision, compile=compiled, device=device), drawn=drawn
        )
        for run, drawn, precision in networks
    }


def chosen(cases: Cases, words: list[str]) -> Cases:
    """Choose the cases whose name holds one of the words, such as ``["ceiling", "adm/bf16"]``; no word chooses all."""
    return {name: case for name, case in cases.items() if not words or any(word in name for word in words)}


def about(case: partial) -> dict[str, Any]:
    """Say what a record says of a case besides what is measured: of a run, what tells it from the others."""
    said = dict(case.keywords)
    run = said.pop("run", None)
    return said if run is None else {name: getattr(run, name) for name in SAID}


def ceilings(device: str, precisions: Sequence[str], size: int) -> dict[str, dict[str, float]]:
    """Measure how fast the device multiplies matrices: precision -> operations a second."""
    return {"flops": {precision: product_rate(precision, pick_device(device), size) for precision in precisions}}


def training(run: Run, drawn: int = 0, seconds: float = 6.0) -> dict[str, float]:
    """Measure whole training steps on images in memory, then sampling from the averaged weights.

    Beside what :func:`ict_lib.scale.speed.overhead` gives there are ``flops_per_image`` of a step,
    ``peak_memory_bytes`` of training, and ``samples_per_second_1_step`` and ``_2_steps``, if images are drawn.
    """
    with without_memory():
        found = {"flops_per_image": count_passes(run).step}
    trained = prepared(run)
    found |= overhead(trained, seconds)
    found["peak_memory_bytes"] = peak_memory()
    for steps, sigmas in SIGMAS.items() if drawn else ():
        found[f"samples_per_second_{steps}"] = drawn / statistics.median(_sampling(trained, drawn, sigmas, seconds))
    return found


def _sampling(trained: Training, drawn: int, sigmas: tuple[float, ...], seconds: float) -> list[float]:
    """Time the drawing of some images, in the training's precision."""
    run, device = trained.run, trained.device
    label = torch.arange(drawn, device=device) % trained.data.num_classes if run.conditional else None

    def draw() -> None:
        with multiplying(run.precision), passing(run.precision, device), threads_for(run, device):
            sample(trained.average, drawn, trained.data.shape, sigmas, label=label, batch_size=run.batch_size)

    draw()
    return repeated([draw], device, seconds / 2, least=2)[0]


def loading(device: str, num: int, batch: int = 256, seconds: float = 5.0) -> dict[str, float]:
    """Measure how fast images of ImageNet's form come from a mapped file, each batch announced a batch before.

    The file has just been written, so the operating system holds it in memory; a disk may be slower.
    """
    place, generator, made = pick_device(device), torch.Generator().manual_seed(0), stand_in("imagenet64", num)
    with TemporaryDirectory() as folder:
        np.save(f"{folder}/pixels.npy", made.pixels.numpy())
        pixels = torch.from_numpy(np.load(f"{folder}/pixels.npy", mmap_mode="c"))
        data = replace(made, pixels=pixels, stored="a stand-in").to(place)
        following = torch.randint(num, (batch,), generator=generator)

        def load() -> None:
            nonlocal following
            now, following = following, torch.randint(num, (batch,), generator=generator)
            data.batch(now, place, generator)
            data.prefetch(following)

        load()
        (times,) = repeated([load], place, seconds, most=1000)
    return {"images_per_second": batch / statistics.median(times)}


def processes(run: Run, turns: int = 3) -> dict[str, float]:
    """Compare training by two processes with training by one, each of one thread, in turns.

    Start and end of the processes are left out: what counts is the time between the first line of metrics and the last.
    """
    torch.set_num_threads(1)
    one, two = zip(*([_launched_rate(run, number) for number in (1, 2)] for _ in range(turns)), strict=True)
    return {
        "images_per_second_1_process": statistics.median(one),
        "images_per_second_2_processes": statistics.median(two),
        "speedup": statistics.median(b / a for a, b in zip(one, two, strict=True)),
    }


def _launched_rate(run: Run, number: int) -> float:
    """Train with some processes from beginning to end; return images a second after the first line of metrics."""
    with TemporaryDirectory() as folder:
        first, *_, last = launch(run, folder=Path(folder), processes=number)
    return (last.images_seen - first.images_seen) / (last.seconds - first.seconds)


def isolated(measure: Callable[[], dict[str, Any]], limit: float) -> dict[str, Any]:
    """Measure in a process of its own: its memory is its own, and running out of memory or of time ends only itself.

    The processes are copies of one that has imported everything and used no device yet, so they start at once. What
    comes back is what a function of a module gives within ``limit`` seconds, or ``failed``, the reason.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, context) as pool:
        try:
            return pool.submit(measure).result(max(0.0, limit))
        except TimeoutError:
            failed = LATE
        except BrokenProcessPool:
            failed = "killed, as the system does who takes the last memory"
        except Exception as error:  # whatever happens to one case, the others shall be measured
            failed = f"{type(error).__name__}: {error}"[:300]
        for process in multiprocessing.active_children():
            process.kill()
    return {"failed": failed}


def measured(
    cases: Cases, path: Path, head: dict[str, Any], limit: float, each: float = EACH
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Measure cases one after another, write the record after each, and yield the name and the result.

    What the record has of the same code is not measured again. Those that ``limit``, in seconds for all, cuts off are
    left to the next call; one that takes longer than ``each`` has failed.
    """
    made, started = record.begin(path, head), time.monotonic()
    for name, case in cases.items():
        before = made["cases"].get(name, {})
        if before.get("code") == head["code"]:
            yield name, before
            continue
        left = limit - (time.monotonic() - started)
        found = isolated(case, min(left, each))
        if found.get("failed") == LATE and each < left:
            found = {"failed": f"took more than {each:.0f} s"}
        if found.get("failed") != LATE:
            record.add(path, made, name, about(case) | found)
        yield name, found


def line(name: str, found: dict[str, Any]) -> str:
    """Write a case as one line for a terminal."""
    flat = {**found, **found.get("flops", {})}
    numbers = [f"{key} {value:.4g}" for key, value in flat.items() if isinstance(value, float)]
    return f"{name:<22} " + (found.get("failed") or ", ".join(numbers))


def main(given: argparse.Namespace) -> int:
    """Measure, print a line a case, and return the exit code."""
    gpu = given.kind == "gpu"
    cases = chosen(gpu_cases() if gpu else cpu_cases(), given.cases)
    head = record.made_by(torch.device("cuda" if gpu else "cpu"))
    path = record.path_of(head)
    for name, found in measured(cases, path, head, given.limit):
        print(line(name, found), flush=True)
    print(f"written: {path}")
    return 0
