"""Improvement: dropout, with the same mask in student and teacher."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ict_lib.checks import require


class Place(NamedTuple):
    """Where a layer stands in a pass."""

    given: torch.Size  # shape of a sample that the network was given
    turn: int  # how many layers of dropout come before it
    size: torch.Size  # shape of its mask, but for the batch


class Dropout(nn.Dropout):
    r"""Set units to zero and scale up the others; inside of :func:`shared_mask` by the mask that is handed over.

    .. math:: y = \frac{m\, h}{1 - p}, \qquad m_j \sim \mathrm{Bernoulli}(1 - p)
    """

    mask: Tensor | None = None  # [batch, *size], true for units that stay; None lets torch draw one
    scale = 1.0  # 1 / (1 - p), in 32 bits
    place: Place | None = None  # None if it is not known yet

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[batch, *size]`` to the same."""
        return super().forward(h) if self.mask is None else h * self.mask * self.scale


@contextmanager
def shared_mask(
    generator: torch.Generator | None, x: Tensor, label: Tensor | None, *models: nn.Module
) -> Iterator[None]:
    """Let the models drop the same units in all passes inside: masks are drawn before, and handed to all.

    So student and teacher differ in noise level only, on any device, compiled or not. Public code sets the CPU's random
    state before each of the two passes instead, which gives them different masks on a GPU.

    Source: [iCT] arXiv:2310.14189 section 3.1.

    Args:
        generator: draws the masks, on the device of ``x``; None takes that device's default.
        x: samples as the models will see them, shape ``[batch, ...]``.
        label: class of each, shape ``[batch]``, or None.
        models: of one architecture, ``model(x, sigma, label)``.

    Raises:
        ValueError: if a model has dropout of another kind than :class:`Dropout`, or not all are in training mode.
    """
    layers = [layers_of(model) for model in dict.fromkeys(models)]
    counts = [len(each) for each in layers]
    require(len(set(counts)) <= 1, "layers with dropout", counts, "as many in each model: all train, or all in eval,")
    alike = list(zip(*layers, strict=True))  # each layer, in all models
    if {layers[0].place and layers[0].place.given for layers in alike} - {x.shape[1:]}:
        find_places(models[0], x, label)
    for layers in sorted(alike, key=lambda layers: layers[0].place.turn):
        mask = _draw(layers[0], x, generator)
        for layer in layers:
            layer.mask, layer.scale = mask, float(np.float32(1) / np.float32(1 - layer.p))
    try:
        yield
    finally:
        for layer in chain(*alike):
            layer.mask = None


def _draw(layer: Dropout, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw a layer's mask for a batch, laid out as CUDA convolutes fastest."""
    shape = (len(x), *layer.place.size)
    last = torch.channels_last if x.is_cuda and len(shape) == 4 else torch.contiguous_format
    mask = torch.empty(shape, dtype=torch.bool, device=x.device, memory_format=last)
    return mask.bernoulli_(1 - layer.p, generator=generator)


def layers_of(model: nn.Module) -> list[Dropout]:
    """Return the layers that drop, as they were built; a ValueError if one of them draws its own mask."""
    found = [layer for layer in model.modules() if isinstance(layer, nn.modules.dropout._DropoutNd)]
    found = [layer for layer in found if layer.training and layer.p > 0]
    strange = [type(layer) for layer in found if not isinstance(layer, Dropout)]
    require(not strange, "dropout", strange[:1], "ict_lib.techniques.dropout.Dropout, whose mask can be shared,")
    return found


@torch.no_grad()
def find_places(model: nn.Module, x: Tensor, label: Tensor | None = None) -> None:
    """Find out in which turn the layers of dropout come, and what they are given, by a pass of one sample."""
    layers, seen = layers_of(model), []
    hooks = [layer.register_forward_pre_hook(lambda layer, given: seen.append((layer, given[0]))) for layer in layers]
    for layer in layers:
        layer.mask = x.new_ones((), dtype=torch.bool)
    model(x[:1], x.new_ones(()), label if label is None else label[:1])
    for hook, layer in zip(hooks, layers, strict=True):
        hook.remove()
        layer.mask = None
    for turn, (layer, h) in enumerate(seen):
        layer.place = Place(x.shape[1:], turn, h.shape[1:])
