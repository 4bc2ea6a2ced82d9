"""How fast this machine trains: a real training on random bytes, for about a minute."""

from dataclasses import replace
from math import inf
from statistics import median
from typing import NamedTuple

from ict_lib.bench.timing import seconds_of
from ict_lib.data import DATASETS
from ict_lib.data.stand_in import stand_in
from ict_lib.run.manifest import device_name
from ict_lib.run_config import RunConfig
from ict_lib.training.loop import Training
from ict_lib.training.model import pick_device

MINUTE = 60.0
LONGEST = 60.0  # seconds that a step may take
MOST_STEPS = 200
IMAGES = 4096  # of the stand-in, at most


class Speed(NamedTuple):
    """What was measured.

    Attributes:
        images_per_second: of one device.
        batch: images a step.
        steps: that were timed, after the first.
        device: its name.
        precision: of the network's passes.
        compiled: whether the passes were.
        peak_memory: bytes of the CUDA device; None on others.
    """

    images_per_second: float
    batch: int
    steps: int
    device: str
    precision: str
    compiled: bool
    peak_memory: int | None


def measure_speed(config: RunConfig, seconds: float = MINUTE) -> Speed:
    """Train on one device with one micro-batch a step; the first step warms up and is not timed.

    A CPU computes in fp32, compiles nothing, and takes fewer images a step if three steps of a micro-batch would take
    longer than ``seconds``: a large network is not trained there.

    Source: own.

    Args:
        config: of a training; nothing is written to its folder.
        seconds: to train for, about; two steps are timed in any case.

    Returns:
        The speed, by the median of the steps.

    Raises:
        TimeoutError: if a step takes longer than a minute, but for the first where it is compiled.
        RuntimeError: if the device's memory is too small, or something that the training needs is missing.
    """
    device, batch = pick_device(config.device), config.batch_size // config.num_shards
    if device.type == "cpu":
        config = replace(config, precision="fp32", compile=False)
        training = _that_fits(config, batch, seconds)
    else:
        training = _warm(config, batch, patience=inf)  # it compiles first
    times = [_seconds(training)]
    while len(times) < 2 or (sum(times) + max(times) < seconds and len(times) < MOST_STEPS):
        times.append(_seconds(training))
    batch, peak = training.config.batch_size, training.last.peak_memory_bytes if device.type == "cuda" else None
    done = (batch, len(times), device_name(device), config.precision, config.compile, peak)
    return Speed(batch / median(times), *done)


def fitting(most: int, tried: int, took: float, seconds: float) -> int:
    """Choose so many images that three steps surely take no longer than ``seconds``.

    Source: own.

    Args:
        most: images that are wanted.
        tried: images of a step that was tried.
        took: its seconds; a step of more images takes no more for each.
        seconds: for all three steps.

    Returns:
        Images a step, at least one.
    """
    return max(1, min(most, int(tried * seconds / (3 * took))))


def _that_fits(config: RunConfig, most: int, seconds: float) -> Training:
    """Try steps of 1, 8, 64, ... images, as far as time allows."""
    tried = 1
    while True:
        trial = _warm(config, tried)
        fits = fitting(most, tried, _seconds(trial), seconds)
        if fits == most or fits <= 8 * tried:
            return trial if fits == tried else _warm(config, fits)
        tried *= 8


def _warm(config: RunConfig, batch: int, patience: float = LONGEST) -> Training:
    """Prepare a training of the same network that writes nothing, on a stand-in for its data, and take one step."""
    own = {"batch_size": batch, "micro_batch": None, "folder": None, "measuring": None}
    config = replace(config, **own, steps=10**6, log_every=1)  # the cost of a step depends on neither
    training = Training(config, data=stand_in(config.data, min(IMAGES, DATASETS[config.data].num)))
    _seconds(training, patience)
    return training


def _seconds(training: Training, patience: float = LONGEST) -> float:
    """Time one step, and stop if it took too long."""
    took = seconds_of(lambda: next(training), training.device)
    if took > patience:
        raise TimeoutError(f"a step of {training.config.batch_size} images took {took:.0f} s: stopped")
    return took
