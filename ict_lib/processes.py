"""Processes that share work: one that is alone, and what it has in common with one of many."""

from collections.abc import Sequence

from torch import Tensor


class Alone:
    """One process that works by itself: nothing is to be exchanged.

    :class:`ict_lib.training.group.Group` is the same for many.

    Source: own.

    Attributes:
        rank: number of this process.
        processes: how many work together.
    """

    rank = 0
    processes = 1

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in place."""

    def extremes(self, low: float, high: float) -> tuple[float, float]:
        """Return the lowest and the highest over all processes."""
        return low, high

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which are of one shape and type, in the order of the ranks."""
        return [tensor]
