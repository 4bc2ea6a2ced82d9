"""Batches of a data set: each shard is drawn once, and read while the one before is in use."""

from collections.abc import Iterator
from itertools import islice

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
        chosen, generator = self._draw(step, self.group.rank)
        while True:
            for shard in range(self.group.rank, self.run.num_shards, self.group.processes):
                x = self.data.batch(chosen, self.device, generator)
                label = self.data.labels[chosen.to(self.device)] if self.run.conditional else None
                current = Shard(x, label, generator, 1 / self.run.num_shards)
                after = shard + self.group.processes
                following = (step, after) if after < self.run.num_shards else (step + 1, self.group.rank)
                chosen, generator = self._draw(*following)
                self.data.prefetch(chosen)
                yield current
            step += 1

    def _draw(self, step: int, shard: int) -> tuple[Tensor, torch.Generator]:
        """Choose the samples of a shard, ``[shard]``, and make the source of its other random numbers."""
        generator = stream(self.seed, step, shard)
        return torch.randint(len(self.data), (self.run.shard_size,), generator=generator), generator
