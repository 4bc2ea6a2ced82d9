"""Times of repeated work, to its end on the device; and what a training step costs beyond the bare passes."""

import statistics
import time
from collections.abc import Callable

import torch

from ict_lib.training.loop import Training
from ict_lib.training.precision import multiplying, passing


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Time one piece of work, to its end on the device.

    Source: own.

    Args:
        work: called once.
        device: that it uses.

    Returns:
        Seconds.
    """
    started = time.perf_counter()
    work()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - started


def repeated(
    works: list[Callable[[], object]], device: torch.device, seconds: float, least: int = 3, most: int = 30
) -> list[list[float]]:
    """Time several pieces of work in turns, so that what else the machine does falls on all of them alike.

    Source: own.

    Args:
        works: each called once a turn, in order.
        device: that they use.
        seconds: after which no further turn begins.
        least: turns, however long they take.
        most: turns.

    Returns:
        For each piece of work its times, one a turn, in seconds.
    """
    turns: list[list[float]] = []
    started = time.perf_counter()
    while len(turns) < least or (len(turns) < most and time.perf_counter() - started < seconds):
        turns.append([seconds_of(work, device) for work in works])
    return [list(times) for times in zip(*turns, strict=True)]


def bare_passes(training: Training) -> Callable[[], None]:
    """Build the passes that no training can do without: teacher forward, student forward and backward.

    Source: own.

    Args:
        training: its student, in training mode, is used; its state is not changed but for gradients.

    Returns:
        A function that does them for ``log_every`` steps, on one fixed batch, in the training's precision.
    """
    config, student, device = training.config, training.student, training.device
    chosen = torch.arange(config.batch_size) % len(training.data)
    shards = chosen.split(config.batch_size // config.num_shards)
    images = [training.data.batch(shard, device) for shard in shards]
    labels = [training.data.labels[shard.to(device)] if config.conditional else None for shard in shards]
    sigma = torch.linspace(0.002, 80, len(shards[0]), device=device)

    def passes() -> None:
        for _ in range(config.log_every):
            training.optimizer.zero_grad()
            for x, label in zip(images, labels, strict=True):
                with multiplying(config.precision):
                    with passing(config.precision, device):
                        with torch.no_grad():
                            student(x, sigma, label)
                        output = student(x, sigma, label)
                    output.square().mean().backward()

    return passes


def overhead(training: Training, seconds: float = 10.0, least: int = 3, most: int = 30) -> dict[str, float]:
    """Compare whole training steps with the bare passes, in turns within one process.

    A step is all of it: batch, noise levels, noise, both passes, loss, gradient, RAdam, moving average, metrics. What
    is timed is ``log_every`` steps, one record, against as many passes.

    Source: own.

    Args:
        training: goes on while it is measured.
        seconds: after which no further turn begins.
        least: turns, however long they take.
        most: turns.

    Returns:
        Medians: ``step_ms``, ``bare_ms``, ``ratio`` (of each turn, with its quartiles ``ratio_low`` and
        ``ratio_high``) and ``images_per_second``; ``turns``; and ``first_seconds``, of the first record, in which a
        compiled network is compiled.
    """
    passes, every = bare_passes(training), training.config.log_every
    works = [lambda: next(training), passes]
    first = seconds_of(works[0], training.device)
    seconds_of(works[1], training.device)
    steps, bares = repeated(works, training.device, seconds, least, most)
    ratios = [step / bare for step, bare in zip(steps, bares, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else 3 * ratios
    step = statistics.median(steps) / every
    return {
        "step_ms": 1e3 * step,
        "bare_ms": 1e3 * statistics.median(bares) / every,
        "ratio": middle,
        "ratio_low": low,
        "ratio_high": high,
        "images_per_second": training.config.batch_size / step,
        "turns": len(ratios),
        "first_seconds": first,
    }
