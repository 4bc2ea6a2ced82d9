"""A progress bar around a training, for terminal and notebook alike."""

from collections.abc import Iterator

from tqdm import tqdm

from ict_lib.training import Metrics, Training


def progress(training: Training) -> Iterator[Metrics]:
    """Pass a training's metrics on while a bar shows its steps, N and loss.

    Plain text, not a widget: a rendered page needs no widget manager for it.

    Source: own.

    Args:
        training: from :func:`ict_lib.training.train` or :func:`ict_lib.training.launch`.

    Yields:
        The training's metrics, unchanged.
    """
    config = training.config
    with tqdm(total=config.steps, initial=training.step, desc=f"seed {config.seed}", unit="step", mininterval=1) as bar:
        for metrics in training:
            bar.update(metrics.step - bar.n)
            bar.set_postfix(N=metrics.num_scales, loss=f"{metrics.loss:.3g}", refresh=False)
            yield metrics
