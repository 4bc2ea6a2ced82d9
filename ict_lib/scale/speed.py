"""One timer, to the end of the work on the device: of products, of training steps and of the bare passes in them."""

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median, quantiles

import torch

from ict_lib.config import Run
from ict_lib.data import DATASETS, stand_in
from ict_lib.scale.cost import Traffic
from ict_lib.techniques.dropout import shared_mask
from ict_lib.training.loop import Training
from ict_lib.training.model import pick_device, threads_for
from ict_lib.training.precision import HALF, multiplying, passing
from ict_lib.training.surroundings import device_name, peak_memory

IMAGES = 4096  # of a stand-in, at most: more than a batch, less than a moment to make


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Time one piece of work, to its end on the device."""
    started = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - started


def repeated(
    works: list[Callable[[], object]], device: torch.device, seconds: float, least: int = 3, most: int = 30
) -> list[list[float]]:
    """Time several pieces of work in turns, so that what else the machine does falls on all of them alike.

    Each is called once a turn, in order. After the ``least`` turns, however long they take, no further one begins if
    there are the ``most``, or if one as long as the longest would pass ``seconds``. What comes out are the times of
    each piece of work, one a turn, in seconds.
    """
    turns: list[list[float]] = []
    while len(turns) < least or (len(turns) < most and sum(map(sum, turns)) + max(map(sum, turns)) < seconds):
        turns.append([seconds_of(work, device) for work in works])
    return [list(times) for times in zip(*turns, strict=True)]


def product_rate(precision: str, device: torch.device, size: int, seconds: float = 1.0) -> float:
    """Measure the fastest product of two square matrices of random numbers: the ceiling of what a network can reach.

    In floating-point operations a second, the best of three or more; ``size`` is that of a row.
    """
    generator = torch.Generator(device).manual_seed(0)
    shape, dtype = (2, size, size), HALF.get(precision, torch.float32)
    a, b = torch.randn(shape, generator=generator, device=device).to(dtype)
    result = torch.empty_like(a)
    with multiplying(precision):
        torch.mm(a, b, out=result)
        (times,) = repeated([lambda: torch.mm(a, b, out=result)], device, seconds, most=100)
    return 2 * size**3 / min(times)


def prepared(run: Run) -> Training:
    """Prepare a training that writes and evaluates nothing, on a stand-in for its data."""
    run = replace(run, steps=10**6)  # more than are timed; the cost of a step does not depend on it
    return Training(run, data=stand_in(run.data, min(IMAGES, DATASETS[run.data].num)))


def bare_passes(training: Training) -> Callable[[], None]:
    """Build the passes that no training can do without: teacher forward, student forward and backward.

    The function does them for ``log_every`` steps, on one fixed batch, in the training's precision; it changes nothing
    of the training but gradients.
    """
    run, student, device, shards = training.run, training.student, training.device, list(training.batches(0))
    sigma, masks = torch.linspace(0.002, 80, run.shard_size, device=device), torch.Generator(device)

    def passes() -> None:
        for _ in range(run.log_every):
            training.learner.optimizer.zero_grad()
            for x, label, *_ in shards:
                with multiplying(run.precision), shared_mask(masks, x, label, student):
                    with passing(run.precision, device):
                        with torch.no_grad():
                            student(x, sigma, label)
                        output = student(x, sigma, label)
                    output.square().mean().backward()

    return passes


def overhead(training: Training, seconds: float = 10.0, least: int = 3) -> dict[str, float]:
    """Compare whole training steps with the bare passes, in turns within one process.

    A step is all of it: batch, noise levels, noise, both passes, loss, gradient, RAdam, moving average, metrics. What
    is timed is ``log_every`` steps, one line of metrics, against as many passes; the training goes on meanwhile.

    Found are the medians ``step_ms``, ``bare_ms``, ``ratio`` (of each turn, with its quartiles ``ratio_low`` and
    ``ratio_high``) and ``images_per_second``; ``turns``; and ``first_seconds``, of the first line, in which a compiled
    network is compiled.
    """
    passes, every = bare_passes(training), training.run.log_every
    works = [training.__next__, passes]
    with threads_for(training.run, training.device):
        first, _ = (seconds_of(work, training.device) for work in works)
        steps, bares = repeated(works, training.device, seconds, least)
    ratios = [step / bare for step, bare in zip(steps, bares, strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
    return {
        "step_ms": 1e3 * median(steps) / every,
        "bare_ms": 1e3 * median(bares) / every,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "images_per_second": training.run.batch_size * every / median(steps),
        "turns": len(ratios),
        "first_seconds": first,
    }


def traffic(run: Run) -> dict[str, float]:
    """Count what torch does in one training step, one operation after another, where nothing is compiled.

    It is a step like all others, on this machine, with one shard: of one image, and of two. Found are ``operations``,
    whatever the number of images; the ``bytes_per_image`` that they read and write, and the ``bytes_per_step`` that
    come on top.
    """
    run, found = replace(run, micro_batch=None, processes=1, log_every=1), []
    for images in (1, 2):
        training = prepared(replace(run, batch_size=images))
        next(training)  # in which RAdam makes its moments
        with Traffic() as counted:
            next(training)
        found.append(counted)
    each = float(found[1].bytes - found[0].bytes)
    return {"operations": found[0].operations, "bytes_per_image": each, "bytes_per_step": found[0].bytes - each}


def measure_speed(run: Run, flops: int, seconds: float = 60.0) -> tuple[float, str]:
    """Train on one device with one shard a step, for about so many seconds; the first step warms up and is not timed.

    A CPU computes in fp32, compiles nothing, and takes so few images a step that three steps fit even if it reached a
    twentieth of its speed at products; two steps are timed in any case. ``flops`` are the operations of training on one
    image; nothing is written. Found are images a second, and how they were measured; ``RuntimeError`` if the device's
    memory is too small, or something that the training needs is missing.
    """
    device, batch = pick_device(run.device), run.shard_size
    if device.type == "cpu":
        run, rate = replace(run, precision="fp32", compile=False), product_rate("fp32", device, 512)
        batch = max(1, min(batch, int(seconds / 3 * rate / 20 / flops)))
    training = prepared(replace(run, batch_size=batch, micro_batch=None, processes=1, log_every=1))
    next(training)
    (times,) = repeated([training.__next__], device, seconds, least=2, most=200)
    held = f"; {peak_memory() / 1e9:.1f} GB held" if device.type == "cuda" else ""
    how = f"{len(times)} steps, batches of {batch}, {run.precision}{', compiled' * run.compile}{held}"
    return batch / median(times), f"measured on {device_name(device)}: {how}"
