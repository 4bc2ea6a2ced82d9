"""Data sets, by name. `toy` is apart: its mixtures are drawn, not loaded."""

from collections.abc import Callable
from difflib import get_close_matches

from ict_lib.data import digits
from ict_lib.data.dataset import Dataset


def _fashion_mnist() -> Dataset:
    from ict_lib.data import fashion_mnist  # here, because it is a command too, which must not be loaded twice

    return fashion_mnist.load()


def _cifar10() -> Dataset:
    from ict_lib.data import cifar10

    return cifar10.load()


def _imagenet64() -> Dataset:
    from ict_lib.data import imagenet64

    return imagenet64.load()


DATASETS: dict[str, Callable[[], Dataset]] = {
    "digits": digits.load,
    "fashion_mnist": _fashion_mnist,
    "cifar10": _cifar10,
    "imagenet64": _imagenet64,
}


def load_dataset(name: str) -> Dataset:
    """Load a data set by its name.

    Source: own.

    Args:
        name: a key of `DATASETS`.

    Returns:
        The images, in [-1, 1], and their labels.

    Raises:
        ValueError: if there is no data set of that name, with the nearest one; or if a file of it is damaged.
        FileNotFoundError: if a file of it is missing, with the command that makes it.
    """
    if name not in DATASETS:
        nearest = get_close_matches(str(name), DATASETS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no data set {name!r}, did you mean {nearest!r}? Known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]()
