"""How much arithmetic a network asks for, and how much a device can do: the ceiling that speeds are compared with."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.bench.timing import repeated
from ict_lib.data import DATASETS
from ict_lib.run_config import RunConfig
from ict_lib.training.model import build_model
from ict_lib.training.precision import HALF, multiplying

PASSES = 4  # teacher forward, student forward, and a backward pass that costs two forward ones


def forward_flops(config: RunConfig) -> int:
    """Count the floating-point operations of one forward pass of one image; nothing is computed.

    Products and convolutions count, a multiplication and an addition as two; what is done element by element does not.

    Source: own.

    Args:
        config: names the network, its options and the data.

    Returns:
        Operations an image.
    """
    form = DATASETS[config.data]
    with torch.device("meta"), torch.no_grad():
        model = build_model(config, form.shape, form.num_classes)
        label = torch.zeros(1, dtype=torch.int64) if config.conditional else None
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *form.shape), torch.ones(1), label)
    return counter.get_total_flops()


def product_rate(precision: str, device: torch.device, size: int, seconds: float = 1.0) -> float:
    """Measure the fastest product of two square matrices of random numbers: the ceiling of what a network can reach.

    Source: own.

    Args:
        precision: of the factors, as in :mod:`ict_lib.training.precision`.
        device: that computes.
        size: rows and columns.
        seconds: after which no further repeat begins; the best of three or more counts.

    Returns:
        Floating-point operations a second.
    """
    generator = torch.Generator(device).manual_seed(0)
    shape, dtype = (2, size, size), HALF.get(precision, torch.float32)
    a, b = torch.randn(shape, generator=generator, device=device).to(dtype)
    result = torch.empty_like(a)
    with multiplying(precision):
        torch.mm(a, b, out=result)
        (times,) = repeated([lambda: torch.mm(a, b, out=result)], device, seconds, most=100)
    return 2 * size**3 / min(times)
