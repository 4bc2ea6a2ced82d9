"""The moving average of weights: for the model that is sampled, and for CT's teacher."""

import torch
from torch import nn


@torch.no_grad()
def ema_update(average: nn.Module, model: nn.Module, decay: float) -> None:
    r"""One step of an exponential moving average of weights, in place.

    .. math:: \theta^- \leftarrow \mu\, \theta^- + (1 - \mu)\, \theta

    Used for CT's teacher and for the averaged weights that are sampled. Buffers are copied.

    Source: [CT] arXiv:2303.01469.

    Args:
        average: the module that moves.
        model: the module that it follows, of the same architecture.
        decay: :math:`\mu`; 0 copies the model, 1 would never move.

    Raises:
        ValueError: if not ``0 <= decay < 1``.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay is {decay}: 0 <= decay < 1 is needed")
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
    for mine, theirs in zip(average.buffers(), model.buffers(), strict=True):
        mine.copy_(theirs)
