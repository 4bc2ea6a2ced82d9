"""Data sets, by name. `toy` is apart: its mixtures are drawn, not loaded."""

from collections.abc import Callable
from difflib import get_close_matches

from ict_lib.data import digits
from ict_lib.data.dataset import Dataset

DATASETS: dict[str, Callable[[], Dataset]] = {"digits": digits.load}


def load_dataset(name: str) -> Dataset:
    """Load a data set by its name.

    Source: own.

    Args:
        name: a key of `DATASETS`.

    Returns:
        The images, in [-1, 1], and their labels.

    Raises:
        ValueError: if there is no data set of that name; the message names the nearest one.
    """
    if name not in DATASETS:
        nearest = get_close_matches(str(name), DATASETS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no data set {name!r}, did you mean {nearest!r}? Known: {', '.join(sorted(DATASETS))}")
    return DATASETS[name]()
