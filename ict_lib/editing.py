"""Zero-shot editing: what a trained consistency model does to given images without being trained for it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ict_lib.checks import require
from ict_lib.consistency import ConsistencyModel
from ict_lib.sampling import falling, without_dropout


@torch.no_grad()
def inpaint(
    model: ConsistencyModel,
    images: Tensor,
    known: Tensor,
    sigmas: Sequence[float],
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
) -> Tensor:
    r"""Fill in the unknown part of images: add noise, denoise, put the known part back, level by level.

    .. math:: x \leftarrow m \odot y; \qquad \text{for each } n: \quad
        x \leftarrow m \odot y + (1 - m) \odot f\bigl(x + s_n z_n, \sigma_n\bigr), \quad
        s_1 = \sigma_1, \; s_n = \sqrt{\sigma_n^2 - \sigma_{\min}^2}

    with y the images and m = 1 where they are known. The unknown part starts at 0 (mid-grey). The model runs in
    evaluation mode and is put back as it was.

    Source: [CT] arXiv:2303.01469, zero-shot image editing. The authors' released code also clips each answer of the
    model to [-1, 1] and starts the unknown part at -1; neither is done here.

    Args:
        model: of the weights to sample, usually the averaged ones.
        images: shape ``[batch, ...]``, data units; their unknown part does not matter.
        known: bool, of the images' shape, or one that expands to it.
        sigmas: noise levels, falling, from ``sigma_max``.
        generator: source of the noise; None takes torch's default of the images' device.
        label: class of each image, shape ``[batch]``, or None.

    Returns:
        Images of the same shape, equal to the given ones where these are known.

    Raises:
        ValueError: if ``known`` is not bool or does not expand to the images, or ``sigmas`` is empty, does not fall or
            goes below the model's ``sigma_min``.
    """
    levels = falling(sigmas, model.sigma_min)
    rule = f"bool, of the images' shape {list(images.shape)} or one that expands to it,"
    try:
        mask = known.expand_as(images)
    except RuntimeError:
        mask = None
    require(mask is not None and known.dtype == torch.bool, "known", [known.dtype, *known.shape], rule)
    source = images.device if generator is None else generator.device
    x = torch.zeros_like(images).where(~mask, images)
    with without_dropout(model):
        for n, sigma in enumerate(levels):
            spread = math.sqrt(sigma**2 - model.sigma_min**2) if n else sigma
            noise = torch.randn(images.shape, generator=generator, device=source).to(images)
            x = model(x + spread * noise, sigma, label).where(~mask, images)
    return x
