"""Distances without learned features: between Gaussian fits, between samples, along exact trajectories.

Sets of samples are ``[num, *]`` with any numbers of samples, flattened and computed on the CPU in float64. A set that
is too small, sets of unequal sizes a sample, values that are not finite, and options out of range are a ``ValueError``.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ict_lib.checks import require, require_finite, whole
from ict_lib.grid import require_ascending


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Squared Frechet distance (squared 2-Wasserstein) between the Gaussians fitted to two sets of samples.

    .. math:: \|\mu_x - \mu_y\|^2 + \mathrm{tr}(\Sigma_x + \Sigma_y - 2 (\Sigma_x \Sigma_y)^{1/2})

    In squared data units, 0 or more, of two samples a set or more; covariances are divided by num - 1.

    With triangular factors :math:`\Sigma = R^T R` the trace of the square root is the sum of the singular values of
    :math:`R_x R_y^T`. No square root of a matrix is taken: constant pixels and fewer samples than dimensions do no
    harm.

    Source: Dowson and Landau 1982, the formula of FID (Heusel et al. 2017); the factors are our own.
    """
    x, y = _two_sets(x, y, least=2)
    mean_x, factor_x = _gaussian(x)
    mean_y, factor_y = _gaussian(y)
    cross = torch.linalg.svdvals(factor_x @ factor_y.T).sum()
    spread = factor_x.square().sum() + factor_y.square().sum() - 2 * cross
    return max(((mean_x - mean_y).square().sum() + spread).item(), 0.0)


def sliced_wasserstein(
    x: Tensor, y: Tensor, num_projections: int = 128, generator: torch.Generator | None = None, order: int = 2
) -> float:
    r"""Sliced q-Wasserstein distance: on random lines, where sorting solves the transport exactly.

    .. math:: \Big( \frac{1}{P} \sum_{p=1}^{P} \int_0^1 \big| F_{x \cdot u_p}^{-1}(t) -
        F_{y \cdot u_p}^{-1}(t) \big|^q dt \Big)^{1/q}, \quad u_p \text{ uniform on the sphere}

    In data units, 0 or more. The quantile functions are steps, so the integral is exact, also for sets of different
    sizes. The generator draws the P lines on the CPU: equal seeds give equal lines. Order q = 1 counts a wrong share of
    separate modes less than 2 does.

    Source: Bonneel et al. 2015.
    """
    for name, number in (("num_projections", num_projections), ("order", order)):
        require(whole(number, 1), name, number, "1 or more")
    x, y = _two_sets(x, y, least=1)
    lines = torch.randn(x.shape[1], num_projections, generator=generator, dtype=torch.float64, device="cpu")
    lines = lines / lines.norm(dim=0)  # [dim, num_projections]
    index_x, index_y, width = _common_steps(len(x), len(y))
    sorted_x, sorted_y = (x @ lines).sort(dim=0).values, (y @ lines).sort(dim=0).values
    gap = sorted_x[index_x] - sorted_y[index_y]  # [steps, num_projections]
    return (width @ gap.abs() ** order).mean().item() ** (1 / order)


def share_on_data(samples: Tensor, data: Tensor, quantile: float = 0.95) -> float:
    """Share of samples as near to half of the data as the nearest 95 % of its other half are; of fresh data 0.95.

    A model that covers one mode alone has a high share: read it beside a distance. The data, two or more, are in no
    order; the quantile, between 0 and 1, is of their second half.
    """
    require(0 < quantile < 1, "quantile", quantile, "0 < quantile < 1")
    data, samples = _two_sets(data, samples, least=2)
    known, fresh = data.tensor_split(2)
    near, far = (torch.cat([torch.cdist(part, known).amin(dim=1) for part in x.split(1000)]) for x in (samples, fresh))
    return (near <= far.quantile(quantile)).double().mean().item()


def nearest_ratio(samples: Tensor, data: Tensor, most: int = 2000) -> float:
    """Median distance from a sample to its nearest datum, over that from a datum to its nearest other; copies have 0.

    Fresh data have 1, about; so a model that has learned the data by heart shows, which no other distance tells.
    Infinite if half of the data are twice there and the samples are not, and no number if they are. The nearest datum
    is sought of the first ``most`` samples, and of as many of the data, two or more, spread over all.
    """
    data, samples = _two_sets(data, samples, least=2)
    chosen = torch.linspace(0, len(data) - 1, min(most, len(data)), dtype=torch.float64).round().long()
    own = [torch.cdist(data[part], data).scatter_(1, part[:, None], math.inf) for part in chosen.split(100)]
    far = [torch.cdist(part, data).amin(dim=1) for part in samples[:most].split(100)]
    return (torch.cat(far).median() / torch.cat([part.amin(dim=1) for part in own]).median()).item()


@torch.no_grad()
def self_consistency_error(model: Callable[[Tensor, Tensor], Tensor], trajectories: Tensor, sigmas: Tensor) -> Tensor:
    r"""Root-mean-square error of a consistency model along exact trajectories, level by level.

    .. math:: e_i = \sqrt{ \frac{1}{B D} \sum_{b=1}^{B} \| f(x_{b,i}, \sigma_i) - x_{b,1} \|^2 }

    The trajectories are those of the probability-flow ODE, so :math:`x_{b,1}` is the exact end point: a model that maps
    everything to one point is consistent, and wrong. No gradient is recorded; put a model with dropout in its ``eval``
    mode before.

    The model maps points ``[batch, *]`` and noise levels ``[batch]`` to end points; trajectories are ``[num_levels,
    batch, *]``, at ascending ``sigmas``, ``[num_levels]``, the first of which is sigma_min. The errors,
    ``[num_levels]``, are float64 in data units on the CPU. Other shapes of the model's output are a ``ValueError``,
    too.

    Source: the property is that of [CT] arXiv:2303.01469 section 3.
    """
    shapes = list(trajectories.shape), list(sigmas.shape)
    fits = trajectories.ndim >= 3 and sigmas.shape == trajectories.shape[:1] and trajectories.numel() > 0
    require(fits, "shapes", shapes, "[num_levels, batch, *] of trajectories, [num_levels] of sigmas")
    require_ascending(sigmas)
    errors = []
    for points, sigma in zip(trajectories, sigmas.to(trajectories), strict=True):
        output = model(points, sigma.expand(len(points)))
        fits = output.shape == points.shape and output.isfinite().all()
        require(fits, "output", list(output.shape), f"at sigma = {sigma:g} a finite {list(points.shape)}")
        errors.append((output - trajectories[0]).cpu().double().square().mean().sqrt())
    return torch.stack(errors)


def _gaussian(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``[dim]`` and a factor R ``[min(n, dim), dim]`` of the covariance, R^T R."""
    mean = samples.mean(dim=0)
    factor = torch.linalg.qr(samples - mean, mode="r").R
    return mean, factor / (len(samples) - 1) ** 0.5


def _common_steps(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Steps on which both empirical quantile functions are constant: index in x, index in y, width."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / (n m)
    width = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return (ends - 1) // m, (ends - 1) // n, width


def _two_sets(x: Tensor, y: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Flatten both to float64 ``[num, dim]`` and refuse what has no distance."""
    for name, samples in (("x", x), ("y", y)):
        fits = samples.ndim >= 2 and len(samples) >= least
        require(fits, f"shape of {name}", list(samples.shape), f"[num, *], num >= {least},")
        require_finite(name, samples)
    x, y = (samples.detach().flatten(1).cpu().double() for samples in (x, y))
    require(x.shape[1] == y.shape[1], "shapes", [list(x.shape), list(y.shape)], "the same size a sample")
    return x, y
