"""Processes that share work: one that is alone, and one among many, with what they exchange."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, distributed


class Alone:
    """One process that works by itself: nothing is to be exchanged. :class:`Group` is the same for many."""

    rank = 0  # number of this process
    processes = 1  # how many work together
    asked = 0  # the signal by which this process was asked to stop, or 0

    def agreed(self) -> bool:
        """Tell whether it was."""
        return self.asked > 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes, in place."""

    def extremes(self, low: float, high: float) -> tuple[float, float]:
        """Return the lowest and the highest over all processes."""
        return low, high

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which are of one shape and type, in the order of the ranks."""
        return [tensor]


class LostContact(RuntimeError):  # noqa: N818
    """Another process has gone: the cause lies there, and this one can only be restarted."""


class Group(Alone):
    """This process among those that train together.

    One explicit all-reduce a step adds up the gradients, as one flat tensor; there is no ``DistributedDataParallel``
    around the student. The teacher *is* the student (section 3.2), so a wrapper would have to let one of two forward
    passes through unseen; with several shards a process must not exchange gradients after each; and the sum of shards
    is so the same for any number of processes. What is given up is DDP's overlap of exchange and backward pass: of
    CIFAR-10's network 226 MB of gradient, 1 ms at 450 GB/s.

    Raises:
        LostContact: from every exchange, if another process has gone.
    """

    def __init__(self):
        self.rank = distributed.get_rank()
        self.processes = distributed.get_world_size()
        self.device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")
        self._asked = torch.zeros(1)

    def agreed(self) -> bool:
        """Tell whether, at the last sum, a process was asked to stop; all processes say the same."""
        return bool(self._asked)  # on CUDA this waits for the step, as the next one's batch does

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, in place; all get the very same bits.

        One more number says whether one of them was asked to stop.
        """
        asked = tensors[0].new_full((1,), self.asked > 0)
        flat = torch.cat([asked, *(tensor.flatten() for tensor in tensors)])
        self._exchange(distributed.all_reduce, flat)
        self._asked, *parts = flat.split([1, *(tensor.numel() for tensor in tensors)])
        torch._foreach_copy_(list(tensors), [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])

    def extremes(self, low: float, high: float) -> tuple[float, float]:
        """Return the lowest and the highest over all processes."""
        both = torch.tensor([-low, high], dtype=torch.float64, device=self.device)
        self._exchange(distributed.all_reduce, both, distributed.ReduceOp.MAX)
        return -float(both[0]), float(both[1])

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which are of one shape and type, in the order of the ranks."""
        tensor = tensor.to(self.device).contiguous()
        all_of_them = [torch.empty_like(tensor) for _ in range(self.processes)]
        self._exchange(distributed.all_gather, all_of_them, tensor)
        return all_of_them

    def _exchange(self, call: Callable[..., object], *what: object) -> None:
        """Exchange, and tell the loss of another process from an error of this one."""
        try:
            call(*what)
        except RuntimeError as error:
            raise LostContact(f"rank {self.rank} lost contact: {error}") from error
