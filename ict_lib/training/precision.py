"""In which numbers a training computes; weights, gradients, averages and the loss always have 32 bits."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Let products and convolutions of 32-bit numbers round their factors to 19 bits (in ``tf32``), or not at all.

    Backward passes stand inside too. Without this, CUDA's convolutions would round even in ``fp32``: torch allows it
    unless it is told otherwise. The setting belongs to the process; it is put back.
    """
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    try:
        # Not by the newer fp32_precision: compilation asks by the older names, and refuses a mixture.
        for place in places:
            place.allow_tf32 = precision == "tf32"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.allow_tf32 = value


def passing(precision: str, device: torch.device) -> AbstractContextManager:
    """Let a forward pass compute in 16-bit numbers (in ``bf16`` and ``fp16``) where torch holds that safe."""
    return torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Make the scaler that keeps small gradients above the smallest number of fp16; it does nothing in the others.

    It skips a step whose gradient overflowed, halves its scale, and doubles it after 2,000 good steps.

    Source: [mixed precision] arXiv:1710.03740.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
