"""Randomness as a function: what is drawn depends on seed, step and shard alone, so that no state is to be kept."""

import numpy as np
import torch

from ict_lib.checks import require


def stream(seed: int, step: int, shard: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Make the generator of one shard of one step; of a CPU's generator 32 bits count, of a GPU's 64.

    Args:
        seed: of the training, any whole number from 0 on.
        step: taken so far.
        shard: of the batch.
        device: that draws; other kinds of devices draw other numbers.

    Raises:
        ValueError: if one of the three is negative.
    """
    for name, value in {"seed": seed, "step": step, "shard": shard}.items():
        require(value >= 0, name, value, f"{name} >= 0")
    mixed = np.random.SeedSequence(seed, spawn_key=(step, shard))  # not a tuple: (2**32, 0, 0) would be (0, 1, 0)
    return torch.Generator(device).manual_seed(int(mixed.generate_state(1, np.uint64)[0]))
