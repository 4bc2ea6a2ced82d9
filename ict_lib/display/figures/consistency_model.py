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

    The sliders have ``num_scales`` noise levels and ``starts`` trajectories.
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
    """Spread c_in(σ) x over the axis, ``[121]``; and the points x, ``[121, 1]``, with the level, for each level."""
    u = torch.linspace(-2.6, 2.6, 121, dtype=torch.float64)
    return u, [((u / s)[:, None], sigma) for s, sigma in zip(scale, sigmas, strict=True)]


def _answers(mixture: Mixture, sigmas: Tensor, scale: Tensor, u: Tensor, end: Tensor, denoised: Tensor) -> Panel:
    """Draw end point and denoiser over the noisy point, and both answers for the chosen one."""
    axis, at = _at_all_levels(sigmas, scale)
    ends = torch.stack([mixture.consistency(x, sigma)[:, 0] for x, sigma in at])  # [num_scales, 121]
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


def pairs_explorer(mixture: Mixture, seed: int = 0, most: int = 4096, shown: int = 24) -> Explorer:
    """Show where the pairs that pass through one noisy point come from, and that their mean is the trajectory's way.

    In the plane; of the pairs ``most``, a power of 2, are averaged, and ``shown`` are drawn.
    """
    sigmas, generator = torch.logspace(-1.3, 0.5, 13, dtype=torch.float64), torch.Generator().manual_seed(seed)
    path = mixture.trajectory(torch.tensor([[2.3, 1.6]], dtype=torch.float64), sigmas)[:, 0]  # [13, 2]
    end = mixture.consistency(path[:1], float(sigmas[0]))
    at = list(zip(path, sigmas, strict=True))
    clean = torch.stack([mixture.posterior(x.expand(most, 2), sigma, generator) for x, sigma in at])
    mean = torch.cat([mixture.denoiser(x[None], sigma) for x, sigma in at])  # [13, 2]
    gap = torch.full((13, shown, 1, 2), torch.nan, dtype=torch.float64)  # lifts the pen
    rays = torch.cat([path[:, None, None].expand(-1, shown, 1, 2), clean[:, :shown, None], gap], dim=2).flatten(1, 2)
    rest = torch.stack([torch.cat([end, path[: k + 1], path[k].expand(12 - k, 2)]) for k in range(13)])
    way = torch.stack([path, mean], dim=1)
    data = mixture.sample(300, generator)
    return Explorer(
        sliders=[Slider("noise level σ", sigmas.tolist(), start=9, text=[f"{s:.2g}" for s in sigmas])],
        panels=[
            Panel(
                [
                    Points(*data.T, label="data", size=3, color=2),
                    Line(rays[..., 0], rays[..., 1], label="draws", color=5),
                    Line(rest[..., 0], rest[..., 1], label="trajectory", color=0),
                    Line(way[..., 0], way[..., 1], label="mean of all draws", color=1, dashed=True),
                    Points(path[:, None, 0], path[:, None, 1], size=9, color=3),
                ],
                title="Draws through one noisy point",
                square=True,
            ),
            _averages(clean, mean),
        ],
        readouts=[
            Readout(f"mean of {most:,} draws", _texts(clean.mean(dim=1)), "{}"),
            Readout("denoiser", _texts(mean), "{}"),
        ],
        caption="Each grey line is a draw: it leads to a clean point that the noisy one may come from. None follows "
        "the trajectory (blue), which sets out along their mean (dashed), at every noise level, and then bends away. "
        "Right: one draw is far from the denoiser, the mean of many is near.",
    )


def _averages(clean: Tensor, mean: Tensor) -> Panel:
    """Draw how far the mean of the first pairs is from the denoiser, for ``clean`` ``[levels, pairs, 2]``."""
    counts = 2 ** torch.arange(clean.shape[1].bit_length())
    count = torch.arange(1, clean.shape[1] + 1)[:, None]
    running = (clean.cumsum(dim=1) / count - mean[:, None]).norm(dim=2)[:, counts - 1]  # [levels, counts]
    spread = (clean - mean[:, None]).square().sum(dim=2).mean(dim=1, keepdim=True).sqrt()
    return Panel(
        [
            Line(counts, running, label="distance from the denoiser", color=1),
            Line(counts, spread / counts.sqrt(), label="spread / √draws", color=5, dashed=True),
        ],
        title="The mean of so many draws",
        x_label="draws",
        y_label="distance, data units",
        x_scale="log",
        y_scale="log",
    )


def _texts(points: Tensor) -> list[str]:
    """Write points ``[levels, 2]`` down."""
    return [f"({x:.3f}, {y:.3f})" for x, y in points.tolist()]
