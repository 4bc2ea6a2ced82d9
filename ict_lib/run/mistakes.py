"""Wrong readings of the paper that train all the same, so that a study can measure what each of them costs.

Those that are a value of the recipe, such as ``p_mean: 1.1``, need no entry here.
"""

import contextlib
import math
from collections.abc import Iterator
from unittest import mock

import torch
from torch import Tensor, nn

from ict_lib import consistency, objective
from ict_lib.checks import require_known
from ict_lib.networks.blocks import Unrounded
from ict_lib.objective import LossOutput, consistency_training_loss
from ict_lib.techniques import curriculum, distance, dropout
from ict_lib.training import step


def pseudo_huber_per_pixel(x: Tensor, y: Tensor, c: float) -> Tensor:
    """One root for every pixel, with the c of the whole image."""
    return (((x - y) ** 2 + c**2).sqrt() - c).flatten(1).sum(1)


@torch.no_grad()
def ema_update_swapped(average: nn.Module, model: nn.Module, decay: float) -> None:
    """The arguments swapped, so the average stays where it was, and the model is pulled back to it."""
    for a, m in zip(average.parameters(), model.parameters(), strict=True):
        m.lerp_(a, 1 - decay)


@torch.no_grad()
def ema_update_reversed(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Decay and 1 - decay exchanged, so the average nearly is the model."""
    for a, m in zip(average.parameters(), model.parameters(), strict=True):
        a.lerp_(m, decay)


def c_in_without_root(sigma: Tensor, sigma_data: float) -> Tensor:
    """The variance itself, not its root."""
    return 1 / (sigma**2 + sigma_data**2)


def c_out_bare(sigma: Tensor, sigma_data: float, sigma_min: float) -> Tensor:
    """Neither sigma_data nor sigma_min in the numerator, so the boundary condition does not hold."""
    return sigma / (sigma**2 + sigma_data**2).sqrt()


def c_noise_in_16_bits(sigma: Tensor) -> Tensor:
    """What tells the network the noise level is cast like the images."""
    return (sigma.bfloat16().log() / 4).to(sigma.dtype)


def karras_sigmas_without_minimum(
    num_scales: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """Levels at i/N for (i-1)/(N-1), so that sigma_min is none."""
    ramp = torch.arange(1, num_scales + 1, dtype=torch.float64) / num_scales
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (low + ramp * (high - low)) ** rho


def doubling_with_log_of_sum(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """Stages from log2(floor(s1/s0) + 1) for log2(floor(s1/s0)) + 1."""
    stage = max(1, math.floor(total_steps / math.log2(s1 // s0 + 1)))
    return min(s0 * 2 ** (step // stage), s1) + 1


def loss_with_live_teacher(*args, **kwargs) -> LossOutput:
    """The gradient flows into the teacher too."""
    with mock.patch("ict_lib.objective.torch.no_grad", contextlib.nullcontext):
        return consistency_training_loss(*args, **kwargs)


MISTAKES = {  # name -> what is replaced, and by what; the number is the trap's in tests/README.md
    "huber-per-pixel": (distance.CHOICES, "pseudo_huber", pseudo_huber_per_pixel),  # 1
    "average-swapped": (step, "ema_update", ema_update_swapped),  # 3
    "average-reversed": (step, "ema_update", ema_update_reversed),  # 3
    "no-c-in": (consistency, "c_in", lambda sigma, _: torch.ones_like(sigma)),  # 4
    "no-c-noise": (consistency, "c_noise", lambda sigma: sigma),  # 4
    "c-in-without-root": (consistency, "c_in", c_in_without_root),  # 5
    "c-out-bare": (consistency, "c_out", c_out_bare),  # 5
    "log-of-sum": (curriculum.CHOICES, "doubling", doubling_with_log_of_sum),  # 7
    "two-masks": (dropout, "shared_mask", lambda *_: contextlib.nullcontext()),  # 9
    "no-sigma-min": (objective, "karras_sigmas", karras_sigmas_without_minimum),  # 12
    "live-teacher": (step, "consistency_training_loss", loss_with_live_teacher),  # 13
    "c-noise-16-bits": (consistency, "c_noise", c_noise_in_16_bits),  # 19
    "layers-16-bits": (Unrounded, "forward", nn.Linear.forward),  # 19: of an MLP, where the precision has 16 bits
}


@contextlib.contextmanager
def made(name: str) -> Iterator[None]:
    """Train, and measure, with one of :data:`MISTAKES` inside of this; without any where the name is empty."""
    if not name:
        yield
        return
    require_known("mistake", name, MISTAKES)
    place, key, wrong = MISTAKES[name]
    patch = mock.patch.dict(place, {key: wrong}) if isinstance(place, dict) else mock.patch.object(place, key, wrong)
    with patch:
        objective.levels.cache_clear()
        try:
            yield
        finally:
            objective.levels.cache_clear()
