"""Figure of the chapter on what a consistency model is."""

import torch
from torch import Tensor

from ict_lib.consistency import c_in
from ict_lib.display.explorer import Area, Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.exact.mixture import Mixture
from ict_lib.grid import karras_sigmas

CAPTION = (
    "Keep the trajectory and move the noise level: x and the denoiser change, the end point does not. At high noise "
    "the denoiser is near the mean of all data, while f is already a staircase over the modes."
)


def trajectory_explorer(mixture: Mixture, num_scales: int = 33, starts: int = 9) -> Explorer:
    """Show a mixture on the line: its trajectories, and denoiser and end point as functions of the noisy point.

    Args:
        mixture: on the line.
        num_scales: positions of the noise slider.
        starts: positions of the slider that chooses a trajectory.
    """
    sigmas = karras_sigmas(num_scales)
    scale = c_in(sigmas, mixture.sigma_data)  # [num_scales]
    x = mixture.trajectory(80 * _quantiles(0.08, starts)[:, None], sigmas)[..., 0]  # [num_scales, starts]
    denoised = torch.stack([mixture.denoiser(at[:, None], s)[:, 0] for at, s in zip(x, sigmas, strict=True)])
    end, u = x[:1].expand_as(x), x * scale[:, None]
    return Explorer(
        sliders=[noise_slider(sigmas), Slider("trajectory", list(range(1, starts + 1)), start=2 * starts // 3)],
        panels=[
            _trajectories(mixture, sigmas, scale, u),
            _answers(mixture, sigmas, scale, u, end, denoised),
            _density(mixture, sigmas, scale, u),
        ],
        readouts=[
            Readout("noisy point x", x, "{:.3f}"),
            Readout("denoiser", denoised, "{:.3f}"),
            Readout("end point", end, "{:.3f}"),
        ],
        caption=CAPTION,
    )


def noise_slider(sigmas: Tensor) -> Slider:
    """Make the slider over noise levels, which starts where much happens."""
    return Slider("noise level σ", sigmas.tolist(), start=2 * len(sigmas) // 3, text=[f"{s:.3g}" for s in sigmas])


def _quantiles(lowest: float, num: int) -> Tensor:
    """Spread points over a normal distribution, shape ``[num]``."""
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    return normal.icdf(torch.linspace(lowest, 1 - lowest, num, dtype=torch.float64))


def _trajectories(mixture: Mixture, sigmas: Tensor, scale: Tensor, u: Tensor) -> Panel:
    """Draw a fan of trajectories, and the chosen one with its point ``u``, ``[num_scales, starts]``."""
    bundle = mixture.trajectory(80 * _quantiles(0.03, 23)[:, None], sigmas)[..., 0].T * scale  # [23, num_scales]
    fan = torch.cat([bundle, torch.full((len(bundle), 1), torch.nan)], dim=1).flatten()
    levels = torch.cat([sigmas, sigmas[:1]]).repeat(len(bundle))
    return Panel(
        [
            Line(levels, fan, color=5),
            Line(sigmas, u.T[None], label="the chosen trajectory", color=3),
            Points(sigmas[:, None, None], u[..., None], label="its noisy point x", size=9, color=3),
        ],
        title="Trajectories of the probability-flow ODE",
        x_label="noise level σ",
        y_label="c_in(σ) · x",
        x_scale="log",
    )


def _at_all_levels(sigmas: Tensor, scale: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """Spread c_in(σ) x over the axis, ``[201]``; and the points x, ``[201, 1]``, with the level, for each level."""
    u = torch.linspace(-2.6, 2.6, 201, dtype=torch.float64)
    return u, [((u / s)[:, None], sigma) for s, sigma in zip(scale, sigmas, strict=True)]


def _answers(mixture: Mixture, sigmas: Tensor, scale: Tensor, u: Tensor, end: Tensor, denoised: Tensor) -> Panel:
    """Draw end point and denoiser over the noisy point, and both answers for the chosen one."""
    axis, at = _at_all_levels(sigmas, scale)
    ends = torch.stack([mixture.consistency(x, sigma)[:, 0] for x, sigma in at])  # [num_scales, 201]
    means = torch.stack([mixture.denoiser(x, sigma)[:, 0] for x, sigma in at])
    return Panel(
        [
            Line(axis, ends[:, None], label="end point f(x, σ)", color=0),
            Line(axis, means[:, None], label="denoiser E[x₀ | x]", color=1, dashed=True),
            Points(u[..., None], end[..., None], size=9, color=0),
            Points(u[..., None], denoised[..., None], size=9, color=1),
        ],
        title="Two different answers",
        x_label="c_in(σ) · x",
        y_label="clean value",
    )


def _density(mixture: Mixture, sigmas: Tensor, scale: Tensor, u: Tensor) -> Panel:
    """Draw where noisy points lie, and the chosen one."""
    axis, at = _at_all_levels(sigmas, scale)
    density = torch.stack([mixture.density(x, sigma) for x, sigma in at])
    density /= density.amax(dim=1, keepdim=True)  # else the peaks of low noise would flatten all others
    return Panel(
        [
            Area(axis, density[:, None], color=2),
            Points(u[..., None], torch.zeros_like(u)[..., None], label="the noisy point x", size=9, color=3),
        ],
        title="Where noisy points lie",
        x_label="c_in(σ) · x",
        y_label="density (largest = 1)",
    )
