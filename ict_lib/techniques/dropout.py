"""Improvement: dropout, with the same mask in student and teacher."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def shared_mask(seed: int, device: torch.device) -> Iterator[None]:
    """Let every dropout inside depend on the seed alone, and leave the caller's random state as it was.

    Student and teacher each run inside ``shared_mask`` with one seed, so that the same units are dropped in both: they
    then differ in noise level only. The random state is set on the device that the dropout runs on. Setting the CPU's
    alone, as public code does, gives student and teacher different masks on a GPU.

    Source: [iCT] arXiv:2310.14189 section 3.1.

    Args:
        seed: any 63-bit number.
        device: where the network runs.
    """
    accelerator = None if device.type == "cpu" else torch.get_device_module(device)
    with torch.random.fork_rng(
        devices=[device.index or 0] if accelerator else [], device_type=device.type if accelerator else "cuda"
    ):
        torch.default_generator.manual_seed(seed)
        if accelerator:
            with getattr(accelerator, "device", nullcontext)(device):
                accelerator.manual_seed(seed)
        yield
