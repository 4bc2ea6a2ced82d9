"""The training objective: a batch becomes a loss. Every technique is called here, by name."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ict_lib.grid import karras_sigmas
from ict_lib.networks.lpips import perceptual_network
from ict_lib.recipe import Recipe, num_scales_at
from ict_lib.techniques import distance, dropout, noise_schedule, weighting


class LossOutput(NamedTuple):
    """What one evaluation of the objective gives.

    Attributes:
        loss: mean over the batch, with gradient, a scalar.
        per_sample: weighted distance of each sample, shape ``[batch]``, no gradient.
        sigma_lo: noise level that the teacher saw, shape ``[batch]``.
        sigma_hi: noise level that the student saw, shape ``[batch]``.
        num_scales: N at this step.
    """

    loss: Tensor
    per_sample: Tensor
    sigma_lo: Tensor
    sigma_hi: Tensor
    num_scales: int


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
        recipe: names the grid, the weighting and the noise schedule.
        num_scales: N.
        device: where the training runs.

    Returns:
        The pairs, computed in float64 and stored as float32.
    """
    sigmas = karras_sigmas(num_scales, recipe.sigma_min, recipe.sigma_max, recipe.rho)
    weight = {"uniform": weighting.uniform, "inverse_gap": weighting.inverse_gap}[recipe.weighting](sigmas)
    if recipe.noise_schedule == "lognormal":
        pmf = noise_schedule.lognormal_pmf(sigmas, recipe.p_mean, recipe.p_std)
    else:
        pmf = noise_schedule.uniform_pmf(sigmas)
    return Levels(*(t.to(device, torch.float32) for t in (sigmas[:-1], sigmas[1:], weight, pmf)))


def distance_between(recipe: Recipe, x: Tensor, y: Tensor) -> Tensor:
    """Apply the recipe's distance to two batches.

    Source: [iCT] arXiv:2310.14189 section 3.3.

    Args:
        recipe: names the distance and its constant.
        x: the student's output, shape ``[batch, ...]``.
        y: the teacher's output, same shape.

    Returns:
        Distances, shape ``[batch]``.

    Raises:
        ValueError: if the shapes differ, or the distance is LPIPS and they are not those of images.
        RuntimeError: if LPIPS lacks its package or its weights; see
            :func:`~ict_lib.networks.lpips.perceptual_network` for what else it raises.
    """
    if recipe.distance == "pseudo_huber":
        c = distance.huber_c(x[0].numel()) if recipe.huber_c is None else recipe.huber_c
        return distance.pseudo_huber(x, y, c)
    if recipe.distance == "lpips":
        return distance.lpips(x, y, lambda x, y: perceptual_network(x.device)(x, y))  # built for images only
    return {"squared_l2": distance.squared_l2, "l1": distance.l1}[recipe.distance](x, y)


def check_distance(recipe: Recipe, shape: tuple[int, ...], device: torch.device) -> None:
    """Apply the recipe's distance once, so that what it lacks is known before a training starts.

    Source: own.

    Args:
        recipe: names the distance.
        shape: of one sample.
        device: where the training will run.

    Raises:
        ValueError: if samples of this shape have no such distance.
        RuntimeError: if LPIPS lacks its package or its weights; see
            :func:`~ict_lib.networks.lpips.perceptual_network` for what else it raises.
    """
    nothing = torch.zeros(1, *shape, device=device)
    distance_between(recipe, nothing, nothing)


def consistency_training_loss(
    student: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    recipe: Recipe,
    step: int,
    total_steps: int,
    generator: torch.Generator | None = None,
    label: Tensor | None = None,
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

    Returns:
        The loss and what it was made of.

    Raises:
        ValueError: if the step lies outside of training, or an output has not the shape of ``x``.
    """
    num_scales = num_scales_at(recipe, step, total_steps)
    pairs = levels(recipe, num_scales, x.device)
    draws, mask_seed = _random_streams(generator, x.device)
    index = torch.multinomial(pairs.pmf, len(x), replacement=True, generator=draws)  # [batch]
    noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=draws)
    lo, hi = (sigma[index] for sigma in (pairs.lo, pairs.hi))  # [batch]
    column = (-1,) + (1,) * (x.ndim - 1)

    with dropout.shared_mask(mask_seed, x.device), torch.no_grad():
        # first, so that its memory is free again before the student keeps activations
        target = teacher(x + lo.view(column) * noise, lo, label)
    with dropout.shared_mask(mask_seed, x.device):
        output = student(x + hi.view(column) * noise, hi, label)
    if output.shape != x.shape:
        raise ValueError(f"the student made {tuple(output.shape)} of {tuple(x.shape)}: equal shapes are needed")

    per_sample = pairs.weight[index] * distance_between(recipe, output, target)
    return LossOutput(per_sample.mean(), per_sample.detach(), lo, hi, num_scales)


def _random_streams(generator: torch.Generator | None, device: torch.device) -> tuple[torch.Generator, int]:
    """Derive a generator on the device, and a seed for the dropout mask, from one draw of the caller's generator."""
    source = torch.default_generator if generator is None else generator
    seed = int(torch.randint(2**62, (), generator=source, device=source.device))
    return torch.Generator(device).manual_seed(seed), seed + 1
