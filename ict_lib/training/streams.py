"""Randomness as a function: what is drawn depends on seed, step and shard alone, not on what was drawn before."""

import numpy as np
import torch

from ict_lib.checks import require

WEIGHTS = 2**31  # a number that no shard has: the stream of the initial weights


def stream(seed: int, step: int, shard: int = 0) -> torch.Generator:
    """Make the source of all random numbers of one shard of one step.

    The three numbers pass through numpy's ``SeedSequence``, so that neighbours share nothing. On a CPU torch looks at
    32 bits of what comes out.

    Raises:
        ValueError: if a number is negative.
    """
    for name, number in {"seed": seed, "step": step, "shard": shard}.items():
        require(number >= 0, name, number, f"{name} >= 0")
    mixed = np.random.SeedSequence(seed, spawn_key=(step, shard)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))
