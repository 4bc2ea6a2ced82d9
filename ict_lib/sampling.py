"""Sampling in one step, or in as many as there are noise levels."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from ict_lib.checks import require, whole
from ict_lib.consistency import ConsistencyModel


@torch.no_grad()
def sample(
    model: ConsistencyModel,
    num: int,
    shape: Sequence[int],
    sigmas: Sequence[float] = (80.0,),
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
    batch_size: int = 256,
) -> Tensor:
    r"""Draw samples: one network evaluation for each noise level.

    .. math:: x_0 = f(\sigma_1 z, \sigma_1); \qquad \text{then}\quad
        x = x_0 + \sqrt{\sigma_n^2 - \sigma_{\min}^2}\; z_n, \quad x_0 = f(x, \sigma_n)

    Samples of a shape, ``[num, *shape]``, on the device of the model, usually of the averaged weights; it runs in
    evaluation mode (no dropout) and is put back as it was.

    Noise levels fall from ``sigma_max``, none below the model's ``sigma_min``; ``(80.0, 0.821)`` is two steps. The
    noise comes from the generator, else from torch's default of the model's device, and does not depend on
    ``batch_size``. Labels are ``[num]``; a model that was trained with them needs them. Others are a ValueError.

    Source: [CT] arXiv:2303.01469, algorithm "multistep consistency sampling"; [iCT] arXiv:2310.14189 samples in one and
    two steps.
    """
    require(whole(num, 1), "num", num, "1 or more")
    require(whole(batch_size, 1), "batch_size", batch_size, "1 or more")
    levels = falling(sigmas, model.sigma_min)
    labelled = (num,) if label is None else tuple(label.shape)
    require(labelled == (num,), "the shape of label", labelled, f"one a sample, [num] = [{num}],")
    with without_dropout(model):
        nothing = torch.zeros((num, *shape), device=next(model.parameters()).device)
        return chain(model, nothing, levels, generator, label, batch_size)


def falling(sigmas: Sequence[float], sigma_min: float) -> list[float]:
    """Return noise levels as numbers; a ValueError unless there are some, falling, none of them below ``sigma_min``."""
    levels = [float(sigma) for sigma in sigmas]
    holds = levels and all(a > b for a, b in pairwise([math.inf, *levels])) and levels[-1] >= sigma_min
    require(holds, "sigmas", levels, f"falling levels, none below sigma_min = {sigma_min},")
    return levels


def require_label(model: ConsistencyModel, label: Tensor | None) -> None:
    """Refuse to leave labels out of a model that was trained with classes: it would answer to what it never saw."""
    classes = getattr(getattr(model, "network", None), "classes", None)
    require(
        label is not None or classes is None, "label", label, "a class for each sample, of this model with classes,"
    )


@contextmanager
def without_dropout(model: ConsistencyModel) -> Iterator[None]:
    """Put a model into evaluation mode, and every part of it back as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def chain(
    model: ConsistencyModel,
    x: Tensor,
    levels: Sequence[float],
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
    batch_size: int = 256,
    keep: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """Add noise, denoise and ``keep``, for each falling level; at the first noise covers what is there."""
    require_label(model, label)
    source = x.device if generator is None else generator.device
    for n, sigma in enumerate(levels):
        spread = math.sqrt(sigma**2 - model.sigma_min**2) if n else sigma
        x = x + spread * torch.randn(x.shape, generator=generator, device=source).to(x)
        parts = x.split(batch_size)
        labels = [None] * len(parts) if label is None else label.split(batch_size)
        x = keep(torch.cat([model(part, sigma, some) for part, some in zip(parts, labels, strict=True)]))
    return x
