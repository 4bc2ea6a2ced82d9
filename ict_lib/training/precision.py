"""In which numbers a training computes; weights, gradients, averages and the loss always have 32 bits."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

import torch

NEWER = (  # where torch is told how to multiply on a GPU, and on a CPU
    *(torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn),
    *(torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv),
)
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Let products and convolutions of 32-bit numbers round their factors to 19 bits (in ``tf32``), or not at all.

    Backward passes stand inside too. Without this, CUDA's convolutions would round even in ``fp32``: torch allows it
    unless it is told otherwise. And as shapes hardly change, cuDNN tries its kernels on each once. The settings belong
    to the process; they are put back.
    """
    rounds, tries = precision == "tf32", torch.backends.cudnn.benchmark
    before = _older_settings(), [place.fp32_precision for place in NEWER]
    try:
        torch.backends.cudnn.benchmark = True
        # By both: the newer names alone decide, but compilation asks by the older ones, and refuses a contradiction.
        _set(("high" if rounds else "highest", rounds), 3 * ["tf32" if rounds else "ieee"] + 2 * ["ieee"])
        yield
    finally:
        _set(*before)
        torch.backends.cudnn.benchmark = tries


def _older_settings() -> tuple[str, bool]:
    """Read how products and convolutions are set by the older names; torch's defaults if they contradict the newer."""
    with suppress(RuntimeError):
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    return "highest", True


def _set(older: tuple[str, bool], newer: list[str]) -> None:
    torch.set_float32_matmul_precision(older[0])
    torch.backends.cudnn.allow_tf32 = older[1]
    for place, value in zip(NEWER, newer, strict=True):
        place.fp32_precision = value


def passing(precision: str, device: torch.device) -> AbstractContextManager:
    """Let a forward pass compute in 16-bit numbers (in ``bf16`` and ``fp16``) where torch holds that safe."""
    return torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Make the scaler that keeps small gradients above the smallest number of fp16; it does nothing in the others.

    It skips a step whose gradient overflowed, halves its scale, and doubles it after 2,000 good steps.

    Source: [mixed precision] arXiv:1710.03740.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
