"""The wrong readings of `traps.md`, each as small code of our own, numbered as there.

A test shows twice what a trap is: its check passes for the library and fails for the mutant. Number 17 belongs to
multi-process training of the continuous-time objective. Those that are trained too, to see what they cost, are in the
library.
"""

import contextlib
import copy
import math
from dataclasses import replace

import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel, c_in, c_noise, c_skip
from ict_lib.networks.adm import ADM
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.networks.ncsnpp import NCSNpp
from ict_lib.techniques.teacher import follower
from ict_lib.training import Training

# 1, 2, 18: the distance


def huber_c_without_root(num_dims):
    """Trap 2: c grows with d itself, not with its root."""
    return 0.00054 * num_dims


def pseudo_huber_cancelling(x, y, c):
    """Trap 18: the formula as printed; in float32 the difference of two nearly equal numbers is noise."""
    n = (x - y).square().flatten(1).sum(1)
    return (n + c**2).sqrt() - c


# 4, 5: the parametrisation


class UnscaledInput(ConsistencyModel):
    """Trap 4: no c_in, so the network is given numbers from -240 to 240."""

    def forward(self, x, sigma, label=None):
        skip, out, column = _scalings(self, x, sigma)
        return skip * x + out * self.network(x, c_noise(column.flatten()), label)


class RawNoiseLevel(ConsistencyModel):
    """Trap 4: no c_noise, so the network is told 0.002 to 80."""

    def forward(self, x, sigma, label=None):
        skip, out, column = _scalings(self, x, sigma)
        return skip * x + out * self.network(c_in(column, self.sigma_data) * x, column.flatten(), label)


class BareOutputScale(ConsistencyModel):
    """Trap 5: c_out without sigma_data and sigma_min, so the boundary condition does not hold."""

    def forward(self, x, sigma, label=None):
        skip, _, column = _scalings(self, x, sigma)
        out = column / (column**2 + self.sigma_data**2).sqrt()
        return skip * x + out * self.network(c_in(column, self.sigma_data) * x, c_noise(column.flatten()), label)


def _scalings(model, x, sigma):
    column = torch.as_tensor(sigma, dtype=torch.float32).expand(len(x)).view(-1, *[1] * (x.ndim - 1))
    out = model.sigma_data * (column - model.sigma_min) / (column**2 + model.sigma_data**2).sqrt()
    return c_skip(column, model.sigma_data, model.sigma_min), out, column


# 6, 8, 12: grid, weights, probabilities


def lognormal_pmf_of_positive_mean(sigmas, p_mean=1.1, p_std=2.0):
    """Trap 6: P_mean = +1.1."""
    mass = torch.erf((sigmas.double().log() - p_mean) / (math.sqrt(2) * p_std)).diff()
    return mass / mass.sum()


def inverse_gap_per_level(sigmas):
    """Trap 8: N weights for N levels; the last gap is used twice."""
    gaps = sigmas.diff()
    return 1 / torch.cat([gaps, gaps[-1:]])


def uniform_pmf_per_level(sigmas):
    """Trap 8: N probabilities for N levels, so that the last level is drawn although it has no neighbour above."""
    return torch.full_like(sigmas, 1 / len(sigmas))


def karras_sigmas_of_pairs(num_scales, sigma_min=0.002, sigma_max=80.0, rho=7.0):
    """Trap 8: num_scales taken for the number of pairs."""
    ramp = torch.linspace(0, 1, num_scales + 1, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return (low + ramp * (high - low)) ** rho


# 7, 8: the curriculum


def doubling_of_levels(step, total_steps, s0=10, s1=1280):
    """Trap 8: the number of pairs taken for the number of levels; the +1 is lost."""
    stage = math.floor(total_steps / (math.log2(s1 // s0) + 1))
    return min(s0 * 2 ** (step // stage), s1)


# 9, 10: dropout


@contextlib.contextmanager
def cpu_only_mask(generator, *_):
    """Trap 9: the CPU's random state is set, whatever device the dropout runs on."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        yield


class NoDropout(ResidualMLP):
    """Trap 10: the rate is taken and forgotten."""

    def __init__(self, shape, fourier_scale, dropout=0.0, num_classes=0, width=256, blocks=4):
        super().__init__(shape, fourier_scale, 0.0, num_classes, width, blocks)


class DropoutInFirstBlock(ResidualMLP):
    """Trap 10, half of it: the rate reaches one block."""

    def __init__(self, shape, fourier_scale, dropout=0.0, num_classes=0, width=256, blocks=4):
        super().__init__(shape, fourier_scale, dropout, num_classes, width, blocks)
        for block in self.blocks[1:]:
            block.dropout = nn.Identity()


class DropoutAtEveryResolution(ADM):
    """Trap 10, the other way about: on ImageNet 64 the paper drops at 16x16 and below only."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{**kwargs, "dropout_resolution": 10**6})


class DropoutOnTheWayDown(NCSNpp):
    """Trap 10, half of it: the way up is forgotten."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for module in [*self.grow.modules(), *self.up.modules()]:
            if isinstance(module, nn.Dropout):
                module.p = 0.0


# 11: many processes


class CurriculumOfMainProcess(Training):
    """Trap 11: N(k) is updated on the main process only; the others stay at the N of the beginning."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.group.rank > 0:
            self.learner.recipe = replace(self.run.recipe, s0=10, s1=10)


# 13, 14, 15, 16: teacher and training


class NanToNumTraining(Training):
    """Trap 14: gradients that are no numbers become zero, and the training goes on as if it learned."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for parameter in self.student.parameters():
            parameter.register_hook(torch.nan_to_num)

    def _mean_loss(self, window):
        return float(torch.stack([output.loss for output in window]).nan_to_num().mean())


class OwnTeacherTraining(Training):
    """Trap 15: CT's moving average of the student is kept as iCT's teacher."""

    def _learner(self):
        learner = super()._learner()
        learner.teacher = copy.deepcopy(learner.student).requires_grad_(False)
        return learner


def make_teacher_of_its_own(student, recipe):
    """Trap 15, before a training: whatever the recipe says, the teacher is a copy that lags."""
    return follower(student)


def ema_decay_of_released_code(num_scales, s0=2, mu0=0.9):
    """Trap 16: N(k) - 1 where the paper has N(k), without saying so."""
    return math.exp(s0 * math.log(mu0) / (num_scales - 1))


# 19: precision
