"""A batch in shards: the pieces that processes share out, each with randomness of its own."""

from typing import NamedTuple

import torch
from torch import Tensor

from ict_lib.run_config import RunConfig


class Shard(NamedTuple):
    """A piece of a batch: ``chosen``, indices of its samples, shape ``[micro_batch]``, and its own ``generator``."""

    chosen: Tensor
    generator: torch.Generator


def draw_shards(num: int, config: RunConfig, generator: torch.Generator) -> list[Shard]:
    """Draw a whole batch and cut it into shards; every process draws the same.

    The noise levels, the noise and the dropout mask of a shard depend on the seed of the run, the step and the number
    of the shard, whatever process works on it. Which samples are in the batch does not even depend on ``micro_batch``.

    Source: own.

    Args:
        num: samples of the data set.
        config: of the run; ``batch_size`` and ``micro_batch`` count.
        generator: of the run, on the CPU; its state is the same in every process.

    Returns:
        ``batch_size / micro_batch`` shards.
    """
    chosen = torch.randint(num, (config.batch_size,), generator=generator)  # [batch]
    parts = chosen.split(config.batch_size // config.num_shards)
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=generator)))
    seeds = torch.randint(2**62, (len(parts),), generator=own).tolist()  # [num_shards]
    return [Shard(part, torch.Generator().manual_seed(seed)) for part, seed in zip(parts, seeds, strict=True)]


def check_processes(config: RunConfig, processes: int) -> None:
    """Refuse a number of processes that would not get equally many shards.

    Source: own.

    Args:
        config: of the run.
        processes: of all nodes together.

    Raises:
        ValueError: with the ``micro_batch`` that would fit.
    """
    if processes < 1:
        raise ValueError(f"processes is {processes}: processes >= 1 is needed")
    if config.num_shards % processes == 0:
        return
    size, shards = config.batch_size, config.num_shards
    fit = next((m for m in range(size // shards, 0, -1) if size % m == 0 and size // m % processes == 0), None)
    advice = f"micro_batch={fit} would fit" if fit else f"batch_size must be a multiple of {processes}"
    raise ValueError(f"{shards} shards cannot be shared by {processes} processes: {advice}")
