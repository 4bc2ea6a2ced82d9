"""Measure what a training step costs beyond the bare passes of the network: ``make bench``."""

import statistics
import time
from collections.abc import Callable

import torch

from ict_lib.run_config import RunConfig
from ict_lib.training.loop import Training, train

CASES = {
    "small U-Net": RunConfig(network="small_unet", log_every=1),
    "MLP": RunConfig(network="mlp", log_every=1),
}


def bare_passes(training: Training) -> Callable[[], None]:
    """Build the passes that no training can do without: teacher forward, student forward and backward.

    Source: own.

    Args:
        training: its student, in training mode, is used; its state is not changed but for gradients.

    Returns:
        A function that does them once, on one fixed batch.
    """
    batch = training.config.batch_size
    x = training.data.batch(torch.arange(batch) % len(training.data), training.device)
    sigma = torch.linspace(0.002, 80, batch, device=training.device)

    def passes() -> None:
        with torch.no_grad():
            training.student(x, sigma)
        training.student(x, sigma).square().mean().backward()

    return passes


def overhead(config: RunConfig, pairs: int = 30, warm_up: int = 5) -> dict[str, float]:
    """Compare a whole training step with the bare passes, in turns within one process.

    A step is all of it: batch, noise levels, noise, both passes, loss, gradient, RAdam, moving average, metrics.

    Source: own.

    Args:
        config: what is trained; ``log_every=1`` makes one record one step.
        pairs: how many steps and passes are timed, alternating.
        warm_up: pairs before that.

    Returns:
        Medians: ``step_ms``, ``bare_ms`` and ``ratio`` (of each pair), and ``images_per_second``.
    """
    training = train(config)
    passes = bare_passes(training)
    times = [(_seconds(lambda: next(training), training), _seconds(passes, training)) for _ in range(warm_up + pairs)]
    steps, bares = zip(*times[warm_up:], strict=True)
    step = statistics.median(steps)
    return {
        "step_ms": 1e3 * step,
        "bare_ms": 1e3 * statistics.median(bares),
        "ratio": statistics.median(a / b for a, b in zip(steps, bares, strict=True)),
        "images_per_second": config.batch_size / step,
    }


def _seconds(work: Callable[[], object], training: Training) -> float:
    """Time one piece of work, to its end on the device."""
    started = time.perf_counter()
    work()
    if training.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Print one line a case."""
    print(f"{'network':<12} {'step':>9} {'bare':>9} {'ratio':>6} {'images/s':>9}   (medians of paired repeats)")
    for name, config in CASES.items():
        m = overhead(config)
        row = f"{m['step_ms']:>6.1f} ms {m['bare_ms']:>6.1f} ms {m['ratio']:>6.3f} {m['images_per_second']:>9.0f}"
        print(f"{name:<12} {row}")


if __name__ == "__main__":
    main()
