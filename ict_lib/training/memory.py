"""How much memory a process has held."""

import resource
import sys

import torch


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes: of the CUDA device if one was used, else of the CPU.

    Source: own.
    """
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
