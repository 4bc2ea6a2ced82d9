"""The training objective: a batch becomes a loss. Every technique is called here, by the name that a recipe gives."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ict_lib.checks import require
from ict_lib.grid import karras_sigmas
from ict_lib.recipe import Recipe
from ict_lib.techniques import curriculum, distance, dropout, noise_schedule, weighting

Perceptual = Callable[[Tensor, Tensor], Tensor]


class LossOutput(NamedTuple):
    """What one evaluation of the objective gives."""

    loss: Tensor  # mean over the batch, with gradient, a scalar
    per_sample: Tensor  # weighted distance of each sample, shape ``[batch]``, no gradient
    sigma_lo: Tensor  # noise level that the teacher saw, shape ``[batch]``
    sigma_hi: Tensor  # noise level that the student saw, shape ``[batch]``
    num_scales: int  # N at this step


class Levels(NamedTuple):
    """The pairs of levels at one N: ``lo``, ``hi``, ``weight`` and probability ``pmf``, each ``[num_scales - 1]``."""

    lo: Tensor
    hi: Tensor
    weight: Tensor
    pmf: Tensor


@functools.lru_cache(maxsize=32)
def levels(recipe: Recipe, num_scales: int, device: torch.device) -> Levels:
    """Lay out the pairs of noise levels with their weights and probabilities, once for each N and device.

    Source: [iCT] arXiv:2310.14189 sections 3.1 and 3.5.

    Args:
        recipe: names the weighting and the noise schedule, and lays the grid.
        num_scales: N.
        device: where the training runs.

    Returns:
        The pairs, computed in float64 and stored as float32.
    """
    sigmas = karras_sigmas(num_scales, recipe.sigma_min, recipe.sigma_max, recipe.rho)
    constants = (recipe.p_mean, recipe.p_std) if recipe.noise_schedule == "lognormal" else ()
    weight = weighting.CHOICES[recipe.weighting](sigmas)
    pmf = noise_schedule.CHOICES[recipe.noise_schedule](sigmas, *constants)
    return Levels(*(t.to(device, torch.float32) for t in (sigmas[:-1], sigmas[1:], weight, pmf)))


def distance_between(recipe: Recipe, x: Tensor, y: Tensor, perceptual: Perceptual | None = None) -> Tensor:
    """Apply the recipe's distance, with its constant or its network, to two batches.

    Source: [iCT] arXiv:2310.14189 section 3.3.

    Args:
        recipe: names the distance.
        x: the student's output, shape ``[batch, ...]``.
        y: the teacher's output, same shape.
        perceptual: for LPIPS alone, see :func:`ict_lib.techniques.distance.lpips`.

    Returns:
        Distances, shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or the distance is LPIPS and they are not those of images, or no network was
            handed in.
    """
    apart = distance.CHOICES[recipe.distance]
    if recipe.distance == "pseudo_huber":
        return apart(x, y, distance.huber_c(x[0].numel()) if recipe.huber_c is None else recipe.huber_c)
    if recipe.distance == "lpips":
        rule = "perceptual=, such as ict_lib.networks.lpips.perceptual,"
        require(perceptual is not None, "distance", recipe.distance, rule)
        return apart(x, y, perceptual)
    return apart(x, y)


def consistency_training_loss(
    student: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    recipe: Recipe,
    step: int,
    total_steps: int,
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
    perceptual: Perceptual | None = None,
) -> LossOutput:
    r"""Ask the student at the higher of two neighbouring noise levels to agree with the teacher at the lower one.

    .. math:: \mathcal L = \mathbb E_{x, i, z} \Bigl[ \lambda(\sigma_i)\,
        d\bigl(f_\theta(x + \sigma_{i+1} z, \sigma_{i+1}),\; f_{\theta^-}(x + \sigma_i z, \sigma_i)\bigr) \Bigr]

    Both see the same noise z and the same dropout mask. No gradient enters the teacher, which may be the student.
    One number drawn from ``generator`` seeds everything that is random here, on any device.

    Source: [iCT] arXiv:2310.14189 section 2 and 3.

    Args:
        student: ``student(x, sigma, label)``, in training mode.
        teacher: the same object for a teacher without EMA, otherwise a copy that follows it.
        x: clean samples, shape ``[batch, ...]``, data units.
        recipe: the design choices.
        step: training steps taken so far.
        total_steps: training steps in all.
        generator: source of randomness; None takes torch's default.
        label: class of each sample, shape ``[batch]``, or None.
        perceptual: for the distance LPIPS alone, see :func:`ict_lib.techniques.distance.lpips`.

    Returns:
        The loss and what it was made of.

    Raises:
        ValueError: if the step lies outside of training, an output has not the shape of ``x``, or the distance is LPIPS
            and no network was handed in.
    """
    num_scales = curriculum.num_scales_at(recipe, step, total_steps)  # 3.4: curriculum
    pairs = levels(recipe, num_scales, x.device)  # 3.1: weighting, 3.5: noise schedule
    draws, masks = _random_streams(generator, x.device)
    index = torch.multinomial(pairs.pmf, len(x), replacement=True, generator=draws)  # [batch]
    noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=draws)
    lo, hi = pairs.lo[index], pairs.hi[index]  # [batch]
    column = (-1,) + (1,) * (x.ndim - 1)

    # The teacher goes first, so that its memory is free again before the student keeps activations.
    with dropout.shared_mask(masks, x, label, student, teacher):  # 3.1: dropout, with one mask for both
        with torch.no_grad():  # 3.2: teacher, without gradient
            target = teacher(x + lo.view(column) * noise, lo, label)
        output = student(x + hi.view(column) * noise, hi, label)
    require(output.shape == x.shape, "the shape of the student's output", tuple(output.shape), f"{tuple(x.shape)}")

    apart = distance_between(recipe, output, target, perceptual)  # 3.3: distance, [batch]
    per_sample = pairs.weight[index] * apart
    return LossOutput(per_sample.mean(), per_sample.detach(), lo, hi, num_scales)


def _random_streams(generator: torch.Generator | None, device: torch.device) -> list[torch.Generator]:
    """Derive two generators on the device, one for the dropout masks alone, from one draw of the caller's."""
    source = torch.default_generator if generator is None else generator
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    return [torch.Generator(device).manual_seed(seed + i) for i in range(2)]
