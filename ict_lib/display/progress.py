"""How far a training is: a progress bar for terminal and notebook alike, and the newest samples."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from IPython import get_ipython
from IPython.display import DisplayHandle, Image
from tqdm import tqdm

from ict_lib.training.folder import LOOKS
from ict_lib.training.metrics import Metrics

if TYPE_CHECKING:
    from ict_lib.training.launch import Launched
    from ict_lib.training.loop import Training

BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}"


def progress(training: "Training | Launched") -> Iterator[Metrics]:
    """Pass a training's metrics on while a bar shows its steps, N, loss, images per second and the time left.

    In a notebook its newest samples are shown too, always in the same place. All of it comes from what a training
    leaves, so that it is the same for one process and for many. Plain text, not a widget: a rendered page needs no
    widget manager for it.
    """
    run, before, place, seen = training.run, training.last, DisplayHandle(), None
    looks = training.place / LOOKS if training.place and get_ipython() else None  # a terminal shows no pictures
    with tqdm(
        total=run.steps, initial=training.step, desc=f"seed {training.seed}", mininterval=1, bar_format=BAR
    ) as bar:
        for metrics in training:
            bar.update(metrics.step - bar.n)
            rate = images_per_second(before, metrics)
            left = (run.steps - metrics.step) * run.batch_size / rate
            shown = {"N": metrics.num_scales, "loss": f"{metrics.loss:.3g}", "images/s": f"{rate:.0f}"}
            bar.set_postfix(shown, left=tqdm.format_interval(left), refresh=False)
            newest = max(looks.glob("step-*.png"), default=None) if looks else None
            if newest and newest != seen:
                (place.update if seen else place.display)(Image(newest.read_bytes()))
                seen = newest
            yield metrics
            before = metrics


def images_per_second(before: Metrics | None, now: Metrics) -> float:
    """Return how fast a training was between two records, evaluation left out; None stands for its start."""
    images, seconds = (before.images_seen, before.seconds) if before else (0, 0.0)
    return (now.images_seen - images) / max(now.seconds - seconds, 1e-9)
