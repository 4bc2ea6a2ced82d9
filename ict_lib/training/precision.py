"""In which numbers a network computes; weights, averages, scalings and the loss are 32-bit in every precision."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Let matrix products and convolutions of 32-bit numbers round their factors to 19 bits (TF32), or not at all.

    Backward passes stand inside too. Without this, CUDA's convolutions would round even in ``fp32``: torch allows it
    unless it is told otherwise. The setting belongs to the process; it is put back.

    Source: own.

    Args:
        precision: ``tf32`` rounds, all others do not.
    """
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        for (
            place
        ) in places:  # not by the newer fp32_precision: compilation asks by the older names, and refuses a mixture
            place.allow_tf32 = precision == "tf32"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def passing(precision: str, device: torch.device) -> AbstractContextManager:
    """Let a network's forward pass compute in 16-bit numbers where torch holds that safe, or in 32-bit numbers.

    Source: own.

    Args:
        precision: ``bf16`` or ``fp16`` for 16-bit numbers; all others leave the 32-bit ones.
        device: where the network is.

    Returns:
        A context.
    """
    return torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Make the scaler that keeps small gradients above the smallest number of fp16; it does nothing in the others.

    It skips a step whose gradient overflowed, halves its scale, and doubles it after 2,000 good steps.

    Source: [mixed precision] arXiv:1710.03740.

    Args:
        precision: of the run.
        device: where the gradients are.

    Returns:
        The scaler.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
