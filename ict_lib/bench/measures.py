"""What is measured: each function here is one kind of case, and gives plain values for the record."""

import statistics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from ict_lib.bench.arithmetic import PASSES, forward_flops, product_rate
from ict_lib.bench.timing import overhead, repeated
from ict_lib.data.dataset import Dataset
from ict_lib.data.packed import load_packed
from ict_lib.data.packing import Source, pack
from ict_lib.data.stand_in import stand_in
from ict_lib.run_config import RunConfig
from ict_lib.sampling import sample
from ict_lib.training import launch
from ict_lib.training.loop import Training
from ict_lib.training.memory import peak_memory
from ict_lib.training.model import pick_device
from ict_lib.training.precision import multiplying, passing

HELD = 4096  # images of a stand-in: more than a batch, less than a moment to make
SIGMAS = {"1_step": (80.0,), "2_steps": (80.0, 0.821)}


def ceilings(device: str, precisions: list[str], size: int) -> dict[str, dict[str, float]]:
    """Measure how fast the device multiplies matrices.

    Source: own.

    Args:
        device: name, as in a run's configuration.
        precisions: to measure.
        size: rows and columns of each factor.

    Returns:
        ``flops``: precision -> operations a second.
    """
    return {"flops": {precision: product_rate(precision, pick_device(device), size) for precision in precisions}}


def training(config: RunConfig, samples: int = 0, seconds: float = 10.0) -> dict[str, float]:
    """Measure whole training steps on images in memory, then sampling from the averaged weights.

    Source: own.

    Args:
        config: what is trained.
        samples: images that are drawn at a time; 0 measures no sampling.
        seconds: for the steps, and for each way to sample.

    Returns:
        What :func:`ict_lib.bench.timing.overhead` gives, ``flops_per_image`` of a step, ``peak_memory_bytes`` of
        training, and ``samples_per_second_1_step`` and ``_2_steps``. Sampling is not compiled.
    """
    trained = Training(config, data=stand_in(config.data, HELD))
    found = {"flops_per_image": PASSES * forward_flops(config), **overhead(trained, seconds)}
    found["peak_memory_bytes"] = peak_memory()
    for steps, sigmas in SIGMAS.items() if samples else ():
        found[f"samples_per_second_{steps}"] = samples / statistics.median(_sampling(trained, samples, sigmas, seconds))
    return found


def _sampling(trained: Training, samples: int, sigmas: tuple[float, ...], seconds: float) -> list[float]:
    """Time the drawing of some images, in the training's precision."""
    config, device = trained.config, trained.device
    label = torch.arange(samples, device=device) % trained.data.num_classes if config.conditional else None

    def draw() -> None:
        with multiplying(config.precision), passing(config.precision, device):
            sample(trained.average, samples, trained.data.shape, sigmas, label=label, batch_size=config.batch_size)

    draw()
    return repeated([draw], device, seconds / 2, least=2)[0]


def loading(form: str, num: int, batch: int, device: str, seconds: float = 5.0) -> dict[str, float]:
    """Measure how fast batches come from a mapped file, each announced while the one before is taken.

    The file has just been written, so the operating system holds it in memory; a disk may be slower.

    Source: own.

    Args:
        form: of the images, a name of :data:`ict_lib.data.DATASETS`.
        num: images in the file.
        batch: images at a time, mirrored at random where the form allows it.
        device: where they go.
        seconds: for the measurement.

    Returns:
        ``images_per_second``, the median over the batches.
    """
    place, generator = pick_device(device), torch.Generator().manual_seed(0)
    with TemporaryDirectory() as folder:
        data = packed_stand_in(form, num, Path(folder)).to(place)
        following = torch.randint(num, (batch,), generator=generator)

        def load() -> None:
            nonlocal following
            chosen, following = following, torch.randint(num, (batch,), generator=generator)
            data.batch(chosen, place, generator)
            data.prefetch(following)

        load()
        (times,) = repeated([load], place, seconds, most=1000)
    return {"images_per_second": batch / statistics.median(times)}


def packed_stand_in(form: str, num: int, folder: Path) -> Dataset:
    """Write a stand-in of a data set as a packed one, and open it.

    Source: own.

    Args:
        form: a name of :data:`ict_lib.data.DATASETS`.
        num: images.
        folder: that shall hold it.

    Returns:
        The data set, its pixels mapped from the file.
    """
    made = stand_in(form, num)
    classes = [str(number) for number in range(made.num_classes)]

    def read(start: int, stop: int) -> np.ndarray:
        return made.pixels[start:stop].numpy()

    for _ in pack(Source(made.name, made.shape, made.labels.numpy(), classes, [], read), folder):
        pass
    return load_packed(folder, made.name, made.flip, "make bench")


def processes(config: RunConfig, turns: int = 3) -> dict[str, float]:
    """Compare training by two processes with training by one, each of one thread, in turns.

    Start and end of the processes are left out: what counts is the time between the first record and the last.

    Source: own.

    Args:
        config: what is trained, in two shards or a multiple; without a folder.
        turns: trainings of each.

    Returns:
        ``images_per_second`` of one and of two, medians; ``speedup``, the median over the turns.
    """
    torch.set_num_threads(1)
    rates = [[_launched_rate(config, number) for number in (1, 2)] for _ in range(turns)]
    one, two = zip(*rates, strict=True)
    return {
        "images_per_second_1_process": statistics.median(one),
        "images_per_second_2_processes": statistics.median(two),
        "speedup": statistics.median(b / a for a, b in rates),
    }


def _launched_rate(config: RunConfig, number: int) -> float:
    """Train with some processes from beginning to end; return images a second after the first record."""
    with TemporaryDirectory() as folder:
        first, *_, last = launch(replace(config, folder=folder), number, max_restarts=0)
    return (last.images_seen - first.images_seen) / (last.seconds - first.seconds)
