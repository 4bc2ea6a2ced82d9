"""The interactive figures of the chapters, each built from exact quantities or from a training's own samples."""

import torch
from torch import Tensor

from ict_lib.consistency import c_in
from ict_lib.data.dataset import Dataset
from ict_lib.exact.mixture import Mixture
from ict_lib.exact.point_mass import gradient_parts, limit_gradient
from ict_lib.display.explorer import Explorer
from ict_lib.display.explorer_parts import Area, Image, Line, Panel, Points, Readout, Slider
from ict_lib.display.plots import grid
from ict_lib.grid import karras_sigmas


def digits_explorer(data: Dataset, num: int = 8, num_scales: int = 25, seed: int = 0) -> Explorer:
    """Follow noise to images along the exact trajectories of a data set: the point, the denoiser, the end point.

    The data set is taken as a mixture of point masses, whose denoiser is exact; nothing is learned.

    Source: own.

    Args:
        data: images; all of them are used.
        num: trajectories, one a column.
        num_scales: positions of the slider.
        seed: of the noise that the trajectories start from.

    Returns:
        The figure: one slider, three pictures.
    """
    truth = Mixture(torch.ones(len(data)) / len(data), data.images.flatten(1), torch.zeros(len(data)))
    sigmas = karras_sigmas(num_scales)
    start = 80 * torch.randn(num, data.images[0].numel(), generator=torch.Generator().manual_seed(seed))
    path = truth.trajectory(start.double(), sigmas)  # [num_scales, num, dims]
    means = torch.stack([truth.denoiser(x, sigma) for x, sigma in zip(path, sigmas, strict=True)])
    ends = path[:1].expand_as(path)
    scale = c_in(sigmas, sigma_data=0.75)[:, None, None] * 0.9  # brings every level into the range of grey values
    pictures = {"the noisy image x": path * scale, "the denoiser E[x₀ | x]": means, "the end point f(x, σ)": ends}
    panels = [Panel([Image(_sheets(images, data, num))], title=title) for title, images in pictures.items()]
    gap = (means - ends).square().mean(dim=(1, 2)).sqrt()
    return Explorer(
        sliders=[_noise_slider(sigmas)],
        panels=panels,
        readouts=[Readout("root-mean-square gap between denoiser and end point", gap, "{:.3f}")],
        caption="Slide from right to left. The noisy images (each level rescaled) show a digit only below σ ≈ 1, "
        "and the denoiser sharpens late. The end points do not move, by definition: f at any level gives them.",
    )


def trajectory_explorer(mixture: Mixture, num_scales: int = 33, starts: int = 9) -> Explorer:
    """Show a mixture on the line: its trajectories, and denoiser and end point as functions of the noisy point.

    Source: own.

    Args:
        mixture: on the line.
        num_scales: positions of the noise slider.
        starts: positions of the slider that chooses a trajectory.

    Returns:
        The figure: two sliders, three pictures.
    """
    sigmas = karras_sigmas(num_scales)
    scale = c_in(sigmas, mixture.sigma_data)  # [num_scales]
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    lines = normal.icdf(torch.linspace(0.03, 0.97, 23, dtype=torch.float64))
    bundle = mixture.trajectory(80 * lines[:, None], sigmas)[..., 0].T * scale  # [23, num_scales]
    chosen = mixture.trajectory(80 * normal.icdf(torch.linspace(0.08, 0.92, starts).double())[:, None], sigmas)[..., 0]
    u = torch.linspace(-2.6, 2.6, 201, dtype=torch.float64)  # c_in x
    at = [(u / s, sigma) for s, sigma in zip(scale, sigmas, strict=True)]
    end = torch.stack([mixture.consistency(x[:, None], sigma)[:, 0] for x, sigma in at])  # [num_scales, 201]
    mean = torch.stack([mixture.denoiser(x[:, None], sigma)[:, 0] for x, sigma in at])
    density = torch.stack([mixture.density(x[:, None], sigma) / s for (x, sigma), s in zip(at, scale, strict=True)])
    here_end, here_mean = chosen[:1].expand_as(chosen), _denoised(mixture, chosen, sigmas)  # [num_scales, starts]
    here_u = chosen * scale[:, None]
    gap = torch.full((len(bundle), 1), torch.nan)
    fan = torch.cat([bundle, gap], dim=1).flatten()
    levels = torch.cat([sigmas, sigmas[:1]]).repeat(len(bundle))
    dot = {"x": here_u[..., None], "size": 9}
    return Explorer(
        sliders=[_noise_slider(sigmas), Slider("trajectory", list(range(1, starts + 1)), start=2 * starts // 3)],
        panels=[
            Panel(
                [
                    Line(levels, fan, color=5),
                    Line(sigmas, here_u.T[None], label="the chosen trajectory", color=0),
                    Points(sigmas[:, None, None], here_u[..., None], size=9, color=1),
                ],
                title="Trajectories of the probability-flow ODE",
                x_label="noise level σ",
                y_label="c_in(σ) · x",
                x_scale="log",
            ),
            Panel(
                [
                    Line(u, end[:, None], label="end point f(x, σ)", color=0),
                    Line(u, mean[:, None], label="denoiser E[x₀ | x]", color=1, dashed=True),
                    Points(**dot, y=here_end[..., None], color=0),
                    Points(**dot, y=here_mean[..., None], color=1),
                ],
                title="Two different answers",
                x_label="c_in(σ) · x",
                y_label="clean value",
            ),
            Panel(
                [Area(u, density[:, None], color=2), Points(**dot, y=torch.zeros_like(here_u)[..., None], color=0)],
                title="Where noisy points lie",
                x_label="c_in(σ) · x",
                y_label="density",
            ),
        ],
        readouts=[
            Readout("noisy point x", chosen, "{:.3f}"),
            Readout("denoiser", here_mean, "{:.3f}"),
            Readout("end point", here_end, "{:.3f}"),
        ],
        caption="Keep the trajectory and move the noise level: x and the denoiser change, the end point does not. "
        "At high noise the denoiser is near the mean of all data, while f is already a staircase over the modes.",
    )


def teacher_explorer(theta: float = 1.0, xi: float = 0.0) -> Explorer:
    """Show the loss and gradient of section 3.2's example for a teacher that lags behind, as N grows.

    Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter.
        xi: the data point.

    Returns:
        The figure: two sliders, two pictures.
    """
    scales = [11, 21, 41, 81, 161, 321, 641, 1281]
    teachers = torch.tensor([0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0], dtype=torch.float64)
    students = torch.linspace(-0.25, 1.25, 121, dtype=torch.float64)
    slopes = torch.tensor([[float(p) for p in gradient_parts(1.0, 0.0, 0.0, karras_sigmas(n))] for n in scales])
    data, lag = slopes[:, :1, None].double(), slopes[:, 1:, None].double()  # [scales, 1, 1]
    minimum = (data * xi + lag * teachers[:, None]) / (data + lag)  # [scales, teachers, 1]
    pull = (data + lag) * (students - minimum).square() / 2
    pull = pull / pull.amax(dim=-1, keepdim=True)
    to_data, to_teacher = (data * (theta - xi))[..., 0], lag[..., 0] * (theta - teachers)  # [scales, 1 or teachers]
    total = to_data + to_teacher
    limit = float(limit_gradient(theta, theta, xi))
    ns = torch.tensor(scales, dtype=torch.float64)
    return Explorer(
        sliders=[
            Slider("noise levels N", scales, start=2),
            Slider("the teacher's parameter θ⁻", teachers.tolist(), start=4, text=[f"{t:.2f}" for t in teachers]),
        ],
        panels=[
            Panel(
                [
                    Line(students, pull, label="loss", color=0),
                    Points(minimum, torch.zeros_like(minimum), label="its minimum", color=1, size=10),
                    Points([xi], [0.0], label="the data point ξ", color=2, size=10),
                ],
                title="What the student is told to be",
                x_label="the student's parameter θ",
                y_label="weighted loss (largest = 1)",
            ),
            Panel(
                [
                    Line(ns, total.T[None], label="gradient with this teacher", color=0),
                    Line(ns, to_data[:, 0], label="with θ⁻ = θ", color=2, dashed=True),
                    Points(ns[:, None, None], total[..., None], color=0, size=10),
                ],
                title=f"Gradient at θ = {theta:g}",
                x_label="noise levels N",
                y_label="gradient",
                x_scale="log",
                y_scale="log",
            ),
        ],
        readouts=[
            Readout("pull towards the data", to_data, "{:.2f}"),
            Readout("pull towards the teacher", to_teacher, "{:.2f}"),
            Readout("limit of the first as N grows", limit, "{:.2f}"),
        ],
        caption="Raise N. With a teacher that lags (θ⁻ below 1) the minimum of the loss leaves the data point and "
        "settles on the teacher, and the gradient grows without bound. The left plot freezes the teacher: with "
        "θ⁻ = θ it moves along after each step, and what counts is the gradient on the right, which still points to ξ.",
    )


def learning_explorer(steps: list[int], images: list[Tensor], distances: list[float]) -> Explorer:
    """Watch a training: samples from the same noise, and their distance from the data, at several steps.

    Source: own.

    Args:
        steps: at which the samples were drawn, two or more.
        images: drawn from the same noise each time, ``[num, 1 or 3, height, width]`` in [-1, 1].
        distances: Frechet distance on pixels at those steps.

    Returns:
        The figure: one slider, two pictures.
    """
    sheets = torch.stack([torch.from_numpy(grid(batch)) for batch in images]).double() / 127.5 - 1
    now = torch.tensor(steps, dtype=torch.float64)
    return Explorer(
        sliders=[Slider("training step", steps, start=len(steps) - 1)],
        panels=[
            Panel([Image(sheets, colored=sheets.ndim == 4)], title="One-step samples, always from the same noise"),
            Panel(
                [
                    Line(steps, distances, color=0),
                    Points(now[:, None], torch.tensor(distances)[:, None], size=10, color=1),
                ],
                title="Distance from the data",
                x_label="training step",
                y_label="Fréchet distance on pixels",
                y_scale="log",
            ),
        ],
        caption="Step through the training: grey first, then strokes. Each sample keeps its place from step to step, "
        "because it starts from the same noise.",
    )


def _noise_slider(sigmas: Tensor) -> Slider:
    """Make the slider over noise levels, which starts where much happens."""
    return Slider("noise level σ", sigmas.tolist(), start=2 * len(sigmas) // 3, text=[f"{s:.3g}" for s in sigmas])


def _denoised(mixture: Mixture, points: Tensor, sigmas: Tensor) -> Tensor:
    """Apply the denoiser to points on the line ``[num_scales, batch]``, level by level."""
    return torch.stack([mixture.denoiser(x[:, None], s)[:, 0] for x, s in zip(points, sigmas, strict=True)])


def _sheets(vectors: Tensor, data: Dataset, columns: int) -> Tensor:
    """Tile flattened images ``[num_scales, num, dims]`` into one picture a level, in [-1, 1]."""
    shape = data.shape
    return (
        torch.stack([torch.from_numpy(grid(batch.view(-1, *shape), columns)) for batch in vectors]).double() / 127.5 - 1
    )
