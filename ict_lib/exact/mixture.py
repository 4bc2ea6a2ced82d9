"""A Gaussian mixture whose noisy density, score, denoiser and probability flow are known exactly.

Everywhere sigma is the level of variance-exploding noise, x = x0 + sigma z.
All arithmetic is float64; a result has the dtype of ``x``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ict_lib.checks import require, require_finite, whole
from ict_lib.exact.probability_flow import ode_flow, quantile_flow
from ict_lib.grid import require_ascending


@dataclass(frozen=True, eq=False)
class Mixture:
    r"""Isotropic Gaussian mixture, an exact oracle at every noise level.

    .. math:: p_\sigma(x) = \sum_j w_j \mathcal{N}(x; m_j, v_j^2 I), \qquad v_j^2 = s_j^2 + \sigma^2

    ``sigma`` is a number or one level a point, ``[batch]``; points are ``[batch, d]``.

    A ``ValueError`` says which shape or value of the modes breaks the rules below; in every method, that ``x`` is not a
    floating ``[batch, d]``, or ``sigma`` is negative, not finite, or 0 at a point mass (the flow refuses every 0, and
    points that are not finite).
    """

    weights: Tensor  # of the modes, > 0, shape ``[k]``, summing to 1
    means: Tensor  # of the modes, shape ``[k, d]``, data units
    stds: Tensor  # standard deviations of the modes, shape ``[k]``, data units; 0 is a point mass

    def __post_init__(self) -> None:
        for name in ("weights", "means", "stds"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64)
            require_finite(name, value)
            object.__setattr__(self, name, value)
        k = len(self.means) if self.means.ndim == 2 else 0
        shapes = [tuple(v.shape) for v in (self.weights, self.means, self.stds)]
        require(k > 0 and shapes[0] == shapes[2] == (k,), "shapes", shapes, "[k], [k, d], [k] with k > 0")
        whole = (self.weights > 0).all() and abs(float(self.weights.sum()) - 1) <= 1e-6
        require(whole, "weights", self.weights.tolist(), "each > 0, a sum of 1")
        require((self.stds >= 0).all(), "stds", self.stds.tolist(), ">= 0")
        object.__setattr__(self, "weights", self.weights / self.weights.sum())

    @property
    def sigma_data(self) -> float:
        """Root of the data's variance, averaged over the dimensions, data units."""
        centre = self.weights @ self.means
        spread = ((self.means - centre) ** 2).mean(dim=1) + self.stds**2
        return math.sqrt(float(self.weights @ spread))

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw data points, shape ``[num, d]``, float64, data units."""
        require(whole(num, 0), "num", num, ">= 0")
        mode = torch.multinomial(self.weights, max(num, 1), replacement=True, generator=generator)[:num]
        noise = torch.randn(num, self.means.shape[1], dtype=torch.float64, generator=generator)
        return self.means[mode] + self.stds[mode, None] * noise

    def density(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        r"""Noisy density :math:`p_\sigma(x)`, shape ``[batch]``, in 1 / data units^d."""
        return self._modes(x, sigma)[0].logsumexp(dim=1).exp().to(x.dtype)

    def score(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        r"""Gradient of the log-density in x, shape ``[batch, d]``, in 1 / data units.

        .. math:: \nabla \ln p_\sigma(x) = \sum_j r_j(x, \sigma) (m_j - x) / v_j^2

        where :math:`r_j` is the probability of mode j given x.
        """
        log_terms, variances = self._modes(x, sigma)
        pull = log_terms.softmax(dim=1) / variances  # [batch, k]
        return (pull @ self.means.to(x.device) - pull.sum(dim=1, keepdim=True) * x.double()).to(x.dtype)

    def denoiser(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        r"""Mean of the clean point given the noisy one, E[x0 | x], shape ``[batch, d]``: not ``consistency``.

        .. math:: D(x, \sigma) = \sum_j r_j(x, \sigma) \frac{s_j^2 x + \sigma^2 m_j}{v_j^2}
            = x + \sigma^2 \nabla \ln p_\sigma(x)

        Source: [EDM] arXiv:2206.00364 section 2 (Tweedie's formula). Data units.
        """
        log_terms, variances = self._modes(x, sigma)
        share = log_terms.softmax(dim=1)  # [batch, k]
        kept = share * self.stds.to(x.device) ** 2 / variances  # [batch, k], the part of x that is signal
        return (kept.sum(dim=1, keepdim=True) * x.double() + (share - kept) @ self.means.to(x.device)).to(x.dtype)

    def posterior(self, x: Tensor, sigma: float | Tensor, generator: torch.Generator | None = None) -> Tensor:
        r"""Draw, for each noisy point, a clean one that it may come from, x0 given x, shape ``[batch, d]``.

        .. math:: x_0 \mid x, j \sim \mathcal{N}\Bigl(\frac{s_j^2 x + \sigma^2 m_j}{v_j^2},
            \frac{s_j^2 \sigma^2}{v_j^2} I\Bigr), \qquad j \sim r_j(x, \sigma)

        Its mean is the ``denoiser``. On the CPU; data units.
        """
        log_terms, variances = (part.cpu() for part in self._modes(x, sigma))
        mode = torch.multinomial(log_terms.softmax(dim=1), 1, generator=generator)  # [batch, 1]
        kept = (self.stds**2 / variances).expand(len(x), -1).gather(1, mode)  # the part of x that is signal
        mean = kept * x.double().cpu() + (1 - kept) * self.means[mode[:, 0]]
        noise = torch.randn(x.shape, dtype=torch.float64, generator=generator)
        width = (kept.sqrt() * _levels(sigma, x).cpu()[:, None]).expand(len(x), -1)
        return (mean + width * noise).to(x.device, x.dtype)

    def flow(self, x: Tensor, sigma_from: float | Tensor, sigma_to: float | Tensor) -> Tensor:
        r"""Move points along the probability-flow ODE between two noise levels > 0, shape ``[batch, d]``.

        .. math:: \frac{dx}{d\sigma} = \frac{x - D(x, \sigma)}{\sigma} = -\sigma \nabla \ln p_\sigma(x)

        By quantiles for d = 1, by an ODE solver (about 1e-9 a point, on the CPU) otherwise. No gradients.

        Source: [EDM] arXiv:2206.00364 section 2 for the ODE.
        """
        return self._flow(x, sigma_from, sigma_to, [1.0])[0]

    def consistency(self, x: Tensor, sigma: float | Tensor, sigma_min: float = 0.002) -> Tensor:
        r"""End point of the ODE at ``sigma_min``, what a perfect consistency model returns: not ``denoiser``.

        .. math:: f^*(x, \sigma) = x_{\sigma_{min}}, \qquad x_\sigma = x

        Source: [CT] arXiv:2303.01469 section 3. Shape ``[batch, d]``, data units.
        """
        return self.flow(x, sigma, sigma_min)

    def trajectory(self, x: Tensor, sigmas: Tensor) -> Tensor:
        """Exact trajectories through ``x``, ``[batch, d]``, at the largest level: points ``[num_levels, batch, d]``.

        They are in the order of ``sigmas``, ``[num_levels]``, which must ascend from above 0; the last are ``x``.
        """
        require_ascending(sigmas)
        sigmas = sigmas.double().cpu()
        if x.shape[-1] == 1:  # every level at once
            levels = sigmas[:-1].repeat_interleave(len(x))
            down = self.flow(x.repeat(len(sigmas) - 1, 1), sigmas[-1], levels).view(-1, *x.shape)
        else:
            ways = (sigmas[-1] / sigmas[:-1]).log().flip(0)
            down = self._flow(x, sigmas[-1], sigmas[0], (ways / ways[-1]).tolist()).flip(0)
        return torch.cat([down, x.detach()[None]])

    @torch.no_grad()
    def _flow(self, x: Tensor, sigma_from: float | Tensor, sigma_to: float | Tensor, fractions: list[float]) -> Tensor:
        """Flow of points, on the CPU, reported at fractions of the way in ln sigma, ``[len(fractions), batch, d]``."""
        std_from, std_to = (self._variances(x, s).sqrt().cpu().expand(len(x), -1) for s in (sigma_from, sigma_to))
        start, end = (_levels(s, x).cpu().expand(len(x)) for s in (sigma_from, sigma_to))
        require((start > 0).all() and (end > 0).all(), "sigma", (sigma_from, sigma_to), "> 0, for a flow,")
        require_finite("x", x)
        points = x.double().cpu()
        if self.means.shape[1] > 1:
            moved = ode_flow(self.denoiser, points, start, end, fractions)
        else:
            moved = quantile_flow(points[:, 0], self.weights, self.means[:, 0], std_from, std_to)[None, :, None]
        return moved.to(x.device, x.dtype)

    def _variances(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Variances of the noisy modes, ``[batch or 1, k]``, after the checks that all methods share."""
        fits = x.ndim == 2 and x.shape[1] == self.means.shape[1] and x.is_floating_point()
        require(fits, "x", [x.dtype, *x.shape], f"floating [batch, {self.means.shape[1]}]")
        variances = self.stds.to(x.device) ** 2 + _levels(sigma, x)[:, None] ** 2
        require((variances > 0).all(), "sigma", sigma, "> 0 where a mode is a point mass")
        return variances

    def _modes(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the modes' weighted densities at x, ``[batch, k]``, and the modes' variances."""
        variances = self._variances(x, sigma)
        exact = "donot_use_mm_for_euclid_dist"  # the faster form cancels at low noise
        squares = torch.cdist(x.double(), self.means.to(x.device), compute_mode=exact).square()
        log_norm = x.shape[1] / 2 * (2 * math.pi * variances).log()
        return self.weights.to(x.device).log() - log_norm - squares / (2 * variances), variances


def _levels(sigma: float | Tensor, x: Tensor) -> Tensor:
    """Noise levels as float64, ``[batch]`` or ``[1]``."""
    levels = torch.as_tensor(sigma, dtype=torch.float64, device=x.device)
    require(levels.shape in ((), (1,), (len(x),)), "sigma", sigma, f"a number or [{len(x)}]")
    require(((levels >= 0) & levels.isfinite()).all(), "sigma", sigma, "finite, >= 0,")
    return levels.reshape(-1)
