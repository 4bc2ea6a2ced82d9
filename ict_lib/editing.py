"""Zero-shot editing: what a trained consistency model does to given images without being trained for it.

Models, levels, generators and labels are as in :func:`edit`, which refuses wrong levels with a ValueError, as
functions that say a shape do with another.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ict_lib.checks import require, whole
from ict_lib.consistency import ConsistencyModel
from ict_lib.sampling import chain, falling, require_label, without_dropout


@torch.no_grad()
def edit(
    model: ConsistencyModel,
    start: Tensor,
    keep: Callable[[Tensor], Tensor],
    sigmas: Sequence[float],
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
) -> Tensor:
    r"""Make images that agree with a measurement: add noise, denoise, put back what was measured, level by level.

    .. math:: \text{for each } n: \quad x \leftarrow P\bigl(f(x + s_n z_n, \sigma_n)\bigr), \quad
        s_1 = \sigma_1, \; s_n = \sqrt{\sigma_n^2 - \sigma_{\min}^2}

    where P replaces the measured part of an image by the measurement and leaves the rest. The model runs in evaluation
    mode and is put back as it was.

    Source: [CT] arXiv:2303.01469, zero-shot image editing. The authors' released code also clips each answer of the
    model to [-1, 1]; that is not done here.

    Args:
        model: of the weights to sample, usually the averaged ones.
        start: images to begin with, shape ``[batch, ...]``, data units; at the first level noise covers them.
        keep: P, of images of that shape.
        sigmas: noise levels, falling, from ``sigma_max``.
        generator: source of the noise; None takes torch's default of the images' device.
        label: class of each image, shape ``[batch]``, or None.

    Returns:
        Images of the shape of ``start``.

    Raises:
        ValueError: if ``sigmas`` is empty, does not fall or goes below the model's ``sigma_min``.
    """
    levels = falling(sigmas, model.sigma_min)
    with without_dropout(model):
        return chain(model, start, levels, generator, label, keep=keep)


def inpaint(
    model: ConsistencyModel,
    images: Tensor,
    known: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
) -> Tensor:
    r"""Fill in the unknown part of images ``[batch, ...]``, which starts at 0 (mid-grey): :func:`edit` with a mask.

    .. math:: P(x) = m \odot y + (1 - m) \odot x

    with y the images, whose unknown part does not matter, and m = 1 where they are known: ``known`` is bool and of
    their shape, or of one that expands to it. There the result is equal to them. (The released code starts the unknown
    part at -1.)

    Source: [CT] arXiv:2303.01469, zero-shot image editing.
    """
    rule = f"bool, of the images' shape {list(images.shape)} or one that expands to it,"
    try:
        mask = known.expand_as(images)
    except RuntimeError:
        mask = None
    require(mask is not None and known.dtype == torch.bool, "known", [known.dtype, *known.shape], rule)
    start = torch.zeros_like(images).where(~mask, images)
    return edit(model, start, lambda x: x.where(~mask, images), sigmas, generator, label)


def super_resolve(
    model: ConsistencyModel,
    small: Tensor,
    factor: int,
    sigmas: Sequence[float],
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
) -> Tensor:
    """Draw large images whose means over squares of ``factor`` by ``factor`` pixels are the given small ones.

    .. math:: P(x) = x - U A x + U y

    with ``factor`` 2 or more, A the means, y the small images, ``[batch, channel, height, width]``, and U what repeats
    each pixel.

    Source: [CT] arXiv:2303.01469, zero-shot image editing (there as an orthogonal change of coordinates and a mask,
    which is the same map).
    """
    require(whole(factor, 2), "factor", factor, "2 or more")
    require(small.ndim == 4, "small", list(small.shape), "[batch, channel, height, width]")

    def enlarged(x: Tensor) -> Tensor:
        return x.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)

    def keep(x: Tensor) -> Tensor:
        return x + enlarged(small - F.avg_pool2d(x, factor))

    return edit(model, enlarged(small), keep, sigmas, generator, label)


def colourise(
    model: ConsistencyModel,
    grey: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
) -> Tensor:
    """Draw images of three channels, ``[batch, 3, ...]``, whose mean over them is ``grey``, ``[batch, 1, ...]``.

    Source: [CT] arXiv:2303.01469, zero-shot image editing; the released code keeps weighted means (luma).
    """
    require(grey.ndim >= 2 and grey.shape[1] == 1, "grey", list(grey.shape), "[batch, 1, ...]")
    start = grey.repeat_interleave(3, dim=1)
    return edit(model, start, lambda x: x + (grey - x.mean(dim=1, keepdim=True)), sigmas, generator, label)


def redraw(
    model: ConsistencyModel,
    images: Tensor,
    sigma: float,
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
) -> Tensor:
    """Cover images with noise of one level and let the model answer: strokes become a picture of the data.

    The higher the level, the less of the images is left. Nearly the second step of sampling.

    Source: [CT] arXiv:2303.01469 (stroke-guided editing), after SDEdit, arXiv:2108.01073.
    """
    return edit(model, images, lambda x: x, (sigma,), generator, label)


@torch.no_grad()
def denoise(model: ConsistencyModel, noisy: Tensor, sigma: float, label: Tensor | None = None) -> Tensor:
    """Answer to images that carry noise of a known level: one possible clean image each, not their mean.

    Source: [CT] arXiv:2303.01469.
    """
    (level,) = falling([sigma], model.sigma_min)
    require_label(model, label)
    with without_dropout(model):
        return model(noisy, level, label)


@torch.no_grad()
def interpolate(
    model: ConsistencyModel,
    first: Tensor,
    second: Tensor,
    num: int,
    sigma: float = 80.0,
    label: Tensor | None = None,
) -> Tensor:
    r"""Walk from one noise to another along a great circle, and answer at each step: images ``[num, *shape]``.

    .. math:: z_t = \cos(t \pi / 2)\, z_0 + \sin(t \pi / 2)\, z_1, \qquad t \in [0, 1]

    Each z_t is standard normal, as both ends, of the shape of one sample, are; halfway along a straight line the
    variance would be one half. The two ends are among the ``num`` images, 2 or more; sigma is usually
    ``sigma_max``. Labels are ``[num]``.

    Source: [CT] arXiv:2303.01469, interpolation between samples, there with the angle between both.
    """
    require(whole(num, 2), "num", num, "2 or more")
    require(first.shape == second.shape, "shapes", [list(first.shape), list(second.shape)], "the same twice")
    angle = torch.linspace(0, math.pi / 2, num).to(first).view(-1, *[1] * first.ndim)
    return denoise(model, sigma * (angle.cos() * first + angle.sin() * second), sigma, label)
