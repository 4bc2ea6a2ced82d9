"""The training objective once more, slowly and from the equations alone: one number at a time, in plain Python."""

import itertools
import math
from statistics import NormalDist

import torch
from torch import nn

from ict_lib.objective import consistency_training_loss
from ict_lib.recipe import ICT


class Line(nn.Module):
    """A raw network F(x, c) = a x + b c."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(float(a))), nn.Parameter(torch.tensor(float(b)))

    def forward(self, x, c_noise, label=None):
        return self.a * x + self.b * c_noise.view(-1, *[1] * (x.ndim - 1))


def clean(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype) * 2 - 1


def loss_of(
    student, teacher, x, recipe=ICT, step=0, seed=11, loss=consistency_training_loss, label=None, perceptual=None
):
    return loss(student, teacher, x, recipe, step, 400_000, torch.Generator().manual_seed(seed), label, perceptual)


def slow_levels(recipe, num_scales):
    """The pairs as lists: sigma, weight, probability."""
    low, high = recipe.sigma_min ** (1 / recipe.rho), recipe.sigma_max ** (1 / recipe.rho)
    sigmas = [(low + i / (num_scales - 1) * (high - low)) ** recipe.rho for i in range(num_scales)]
    pairs = list(itertools.pairwise(sigmas))
    power = {"uniform": 0, "inverse_root_gap": 0.5, "inverse_gap": 1}[recipe.weighting]
    weight = [1 / (b - a) ** power for a, b in pairs]
    normal = NormalDist(recipe.p_mean, recipe.p_std)
    drawn = recipe.noise_schedule == "lognormal"
    mass = [normal.cdf(math.log(b)) - normal.cdf(math.log(a)) if drawn else 1.0 for a, b in pairs]
    return sigmas, weight, [m / sum(mass) for m in mass]


def slow_model(x, sigma, a, b):
    """f for sigma_data = 0.5 and sigma_min = 0.002, one number."""
    skip, root = 0.25 / ((sigma - 0.002) ** 2 + 0.25), math.sqrt(sigma**2 + 0.25)
    return skip * x + 0.5 * (sigma - 0.002) / root * (a * x / root + b * math.log(sigma) / 4)


def slow_distance(recipe, x, y):
    n = math.fsum((p - q) ** 2 for p, q in zip(x, y, strict=True))
    if recipe.distance == "pseudo_huber":
        c = recipe.huber_c or 0.00054 * math.sqrt(len(x))
        return math.sqrt(n + c * c) - c
    return n if recipe.distance == "squared_l2" else math.fsum(abs(p - q) for p, q in zip(x, y, strict=True))


def slow_loss(x, recipe, num_scales, student, teacher, seed=11):
    """Weighted distance of every sample; replays the seed, the indices and the noise, and nothing else."""
    sigmas, weight, probability = slow_levels(recipe, num_scales)
    seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))
    draws = torch.Generator().manual_seed(seed)
    index = torch.multinomial(torch.tensor(probability), len(x), replacement=True, generator=draws).tolist()
    noise = torch.randn(x.shape, dtype=x.dtype, generator=draws).flatten(1).tolist()
    made = []
    for clean, z, i in zip(x.flatten(1).tolist(), noise, index, strict=True):
        ours = [slow_model(p + sigmas[i + 1] * e, sigmas[i + 1], *student) for p, e in zip(clean, z, strict=True)]
        theirs = [slow_model(p + sigmas[i] * e, sigmas[i], *teacher) for p, e in zip(clean, z, strict=True)]
        made.append(weight[i] * slow_distance(recipe, ours, theirs))
    return made
