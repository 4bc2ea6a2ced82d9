"""How far a training is: a progress bar for terminal and notebook alike, and the newest images."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING

from IPython.display import Image, display
from torch import Tensor
from tqdm import tqdm

from ict_lib.display.plots import grid, save_grid
from ict_lib.training import Metrics, Training

if TYPE_CHECKING:
    from ict_lib.display.tensorboard import TensorBoardLog


def progress(training: Training) -> Iterator[Metrics]:
    """Pass a training's metrics on while a bar shows its steps, N, loss, images per second and the time left.

    All of it comes from the metrics, so that it is the same for one process and for many. Plain text, not a widget: a
    rendered page needs no widget manager for it.

    Source: own.

    Args:
        training: from :func:`ict_lib.training.train` or :func:`ict_lib.training.launch`.

    Yields:
        The training's metrics, unchanged.
    """
    config, before = training.config, training.last
    shape = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}"
    with tqdm(
        total=config.steps, initial=training.step, desc=f"seed {config.seed}", mininterval=1, bar_format=shape
    ) as bar:
        for metrics in training:
            bar.update(metrics.step - bar.n)
            rate = images_per_second(before, metrics)
            left = (config.steps - metrics.step) * config.batch_size / rate
            shown = {"N": metrics.num_scales, "loss": f"{metrics.loss:.3g}", "images/s": f"{rate:.0f}"}
            bar.set_postfix(shown, left=tqdm.format_interval(left), refresh=False)
            yield metrics
            before = metrics


def images_per_second(before: Metrics | None, now: Metrics) -> float:
    """Return how fast a training was between two records, evaluation left out.

    Source: own.

    Args:
        before: the earlier record, or None for the training's start.
        now: the later record.
    """
    images, seconds = (before.images_seen, before.seconds) if before else (0, 0.0)
    return (now.images_seen - images) / max(now.seconds - seconds, 1e-9)


class Newest:
    """A place on the page where the newest images of a training are, and always only these.

    Source: own.
    """

    def __init__(self):
        self._place = None

    def show(self, images: Tensor, step: int, *boards: "TensorBoardLog") -> None:
        """Show a grid of images instead of the one before, and hand it on.

        Args:
            images: shape ``[num, 1 or 3, height, width]``, in [-1, 1].
            step: of the training.
            boards: that keep each of them.
        """
        for board in boards:
            board.picture("samples", grid(images), step)
        picture = io.BytesIO()
        save_grid(picture, images, columns=20, zoom=2 if images.shape[-1] < 64 else 1)
        shown = Image(picture.getvalue())
        if self._place is None:
            self._place = display(shown, display_id=True)
        else:
            self._place.update(shown)
