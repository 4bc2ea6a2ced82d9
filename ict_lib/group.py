"""Processes that share work: one that is alone, and one among many, with what they exchange."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.utils._pytree import tree_flatten, tree_unflatten

STUCK = timedelta(minutes=15)  # after so long without its part of an exchange a process is given up
PATIENCE = timedelta(hours=3)  # with one that measures: the features of ImageNet, once


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
        """Return the tensors of all processes, which are of one shape and type, in rank 0; none in the others."""
        return [tensor]

    def share(self, state: Any) -> Any:
        """Return what rank 0 has: plain values, tensors, and dicts and lists of them."""
        return state

    def wait(self) -> None:
        """Wait until all processes are here, for hours if one of them measures."""


class LostContact(RuntimeError):  # noqa: N818
    """Another process has gone: the cause lies there, and this one can only be restarted."""


class Group(Alone):
    """This process among those that train together, which meet here.

    One explicit all-reduce a step adds up the gradients where they are; there is no ``DistributedDataParallel`` around
    the student. The teacher *is* the student (section 3.2), so a wrapper would have to let one of two forward passes
    through unseen; with several shards a process must not exchange gradients after each; and the sum of shards is so
    the same for any number of processes. What is given up is DDP's overlap of exchange and backward pass: of CIFAR-10's
    network 226 MB of gradient, 1 ms at 450 GB/s. A compiled backward pass hands over all gradients at its end, so that
    nothing is left to overlap with.

    Rank 0, which writes the files, is on SLURM's first machine, where they are read afterwards; torchrun counts the
    machines in the order of their names.

    Every exchange raises :class:`LostContact` if another process has gone, or did not come to it for ``STUCK``.
    """

    def __init__(self, backend: str):
        self.device = torch.device("cuda" if backend == "nccl" else "cpu")
        self._asked, self._first = torch.zeros(1), 0
        self._exchange(lambda: distributed.init_process_group(backend, timeout=STUCK))
        number, self.processes = distributed.get_rank(), distributed.get_world_size()
        self._patient = self._exchange(lambda: distributed.new_group(backend="gloo", timeout=PATIENCE))
        before_last = self.processes - number if os.environ.get("SLURM_NODEID", "0") == "0" else 0
        self._first = self.processes - int(self.extremes(0, before_last)[1] or self.processes)
        self.rank = (number - self._first) % self.processes

    def agreed(self) -> bool:
        """Tell whether, at the last sum, a process was asked to stop; all processes say the same."""
        return bool(self._asked)  # on CUDA this waits for the step, as the next one's batch does

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one type by their sums over all processes, in place; all get the very same bits.

        One more number says whether one of them was asked to stop.
        """
        self._asked = tensors[0].new_full((1,), self.asked > 0)
        everything = [self._asked, *tensors]
        self._exchange(lambda: distributed.group.WORLD.allreduce_coalesced(everything).wait())  # NCCL copies nothing

    def extremes(self, low: float, high: float) -> tuple[float, float]:
        """Return the lowest and the highest over all processes."""
        both = torch.tensor([-low, high], dtype=torch.float64, device=self.device)
        self._exchange(distributed.all_reduce, both, distributed.ReduceOp.MAX)
        return -float(both[0]), float(both[1])

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which are of one shape and type, in rank 0; none in the others."""
        tensor = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(tensor) for _ in range(self.processes)] if self.rank == 0 else []
        self._exchange(distributed.gather, tensor, parts or None, self._first)
        return parts[self._first :] + parts[: self._first]  # in the order of the ranks

    def share(self, state: Any) -> Any:
        """Return what rank 0 has, bit for bit: plain values, tensors, and dicts and lists of them.

        Tensors of more than one number arrive on the device of the exchange, of which they want their size.
        """
        leaves, form = tree_flatten(state)
        sent = [leaf.to("meta" if leaf.numel() > 1 else "cpu") if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        said = [sent, form]
        self._exchange(distributed.broadcast_object_list, said, self._first, self._patient)
        for number, leaf in enumerate(said[0]):
            if isinstance(leaf, Tensor) and leaf.is_meta:
                mine = leaves[number] if self.rank == 0 else torch.empty(leaf.shape, dtype=leaf.dtype)
                plain = mine.to(self.device).contiguous()
                self._exchange(distributed.broadcast, plain, self._first)
                said[0][number] = torch.empty_like(leaf, device=self.device).copy_(plain)  # laid out as in rank 0
        return tree_unflatten(*said)

    def wait(self) -> None:
        """Wait until all processes are here, for hours if one of them measures."""
        self._exchange(distributed.barrier, self._patient)

    def _exchange(self, call: Callable[..., Any], *what: object) -> Any:
        """Exchange, and tell the loss of another process from an error of this one."""
        try:
            return call(*what)
        except RuntimeError as error:
            raise LostContact(f"rank {os.environ.get('RANK')} lost contact: {error}") from error
