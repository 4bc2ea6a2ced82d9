"""Batches of a data set: each shard is drawn once, and read while the one before is in use."""

from collections.abc import Iterator
from itertools import count, islice, pairwise

import torch
from torch import Tensor

from ict_lib.config import Run, check_processes
from ict_lib.data.dataset import Dataset
from ict_lib.group import Alone
from ict_lib.training.step import Shard
from ict_lib.training.streams import stream


class Batches:
    """The shards of one process, step after step.

    Which samples are in a shard, their mirroring, noise levels, noise and dropout mask depend on the seed, the step and
    the number of the shard, whatever process works on it.

    Raises:
        ValueError: if the processes cannot share a batch equally.
    """

    def __init__(self, data: Dataset, run: Run, seed: int, group: Alone, device: torch.device):
        check_processes(run, group.processes)
        self.data, self.run, self.seed, self.group, self.device = data, run, seed, group, device
        self._step, self._shards = -1, iter(())

    def __call__(self, step: int) -> Iterator[Shard]:
        """Return the shards of a step; asked for one step after another, none is drawn twice."""
        if step != self._step:
            self._shards = self._from(step)
        self._step = step + 1
        return islice(self._shards, self.run.num_shards // self.group.processes)

    def _from(self, step: int) -> Iterator[Shard]:
        """Go through this process's shards of a step and of all that follow."""
        numbers = range(self.group.rank, self.run.num_shards, self.group.processes)
        drawn = (self._draw(at, shard) for at in count(step) for shard in numbers)
        for (chosen, generator), (following, _) in pairwise(drawn):
            x = self.data.batch(chosen, self.device, generator)
            label = self.data.labels[chosen.to(self.device, non_blocking=True)] if self.run.conditional else None
            self.data.prefetch(following)
            yield Shard(x, label, generator, 1 / self.run.num_shards)

    def _draw(self, step: int, shard: int) -> tuple[Tensor, torch.Generator]:
        """Choose the samples of a shard, ``[shard]``, and make the source of its other random numbers.

        They are pinned for CUDA, so that nothing waits for their way there.
        """
        generator, pinned = stream(self.seed, step, shard), self.device.type == "cuda"
        size = (self.run.shard_size,)
        return torch.randint(len(self.data), size, generator=generator, pin_memory=pinned), generator
