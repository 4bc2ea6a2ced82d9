"""Live models of the pages, each with its still picture for readers without JavaScript."""

import io

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ict_lib.consistency import c_in
from ict_lib.display.live_model import LiveModel, half_model, read_half
from ict_lib.display.plots import show_grid
from ict_lib.editing import inpaint
from ict_lib.exact.mixture import Mixture
from ict_lib.grid import karras_sigmas
from ict_lib.sampling import sample
from ict_lib.training.measuring import grid

SHEET = (
    "Draw new noise: 25 digits come back at once, each in one evaluation of the network, in your browser. Then move σ "
    "of the second step. Where it is small, the second step changes nothing; where it is large, it forgets the first "
    "and draws another digit. In between it keeps most digits and redraws their strokes."
)
REPAIR = (
    "Rub pixels out with the pointer, or with arrow keys and space bar. The model fills them in four times, from "
    "different noise, and was never trained to do so. Compare one step with sixteen: in one step the rest of the digit "
    "is hardly seen in so much noise; with more steps the new pixels fit it better, though not always."
)
POINT = (
    "Move the noise level: the point runs along its exact trajectory, and the exact end point stays. Watch how far the "
    "model's answer is from it at each level, and where the denoiser is. Then drag the point across the border between "
    "two clusters: the exact end point jumps, the model's answer crosses in between."
)
LEVELS = 41  # of the still trajectory


def sheet(name: str = "digits/live") -> LiveModel:
    """Draw images in one step and in two."""
    model, about = half_model(name), read_half(name)[1]
    levels = {"One step": [80.0], "Two steps": [80.0, about["sigma_mid"]]}
    fig, axes = plt.subplots(1, 2, figsize=(6, 3.2))
    for ax, (title, sigmas) in zip(axes, levels.items(), strict=True):
        show_grid(ax, grid(sample(model, 25, about["shape"], sigmas, _generator()), 5), title)
    return LiveModel(name, "sheet", caption=SHEET, still=_png(fig))


def repair(name: str = "digits/live") -> LiveModel:
    """Fill in what is rubbed out of an image."""
    model, about = half_model(name), read_half(name)[1]
    images = sample(model, 1, about["shape"], [80.0, about["sigma_mid"]], _generator()).expand(4, -1, -1, -1)
    known = torch.arange(images.shape[2])[:, None] < images.shape[2] / 2  # the upper half
    filled = inpaint(model, images, known, karras_sigmas(9).flip(0)[:-1].tolist(), _generator())
    fig, axes = plt.subplots(1, 2, figsize=(5, 2.8))
    show_grid(axes[0], grid(images[:1].where(known, torch.zeros(())), 1), "The lower half is rubbed out")
    show_grid(axes[1], grid(filled, 2), "Filled in from four noises")
    return LiveModel(name, "repair", caption=REPAIR, still=_png(fig))


def point(mixture: Mixture, name: str = "ring/live") -> LiveModel:
    """Follow a point of the plane."""
    sigmas, model = karras_sigmas(LEVELS), half_model(name)
    path = mixture.trajectory(torch.tensor([[72.0, -40.0]]).double(), sigmas)[:, 0]  # [LEVELS, 2]
    answers = torch.cat([model(x[None].float(), float(s)).detach() for x, s in zip(path, sigmas, strict=True)])
    data = mixture.sample(400, _generator())
    fig, axes = plt.subplots(1, 2, figsize=(6.4, 3.4))
    _scatter(axes[0], data * c_in(sigmas[0], model.sigma_data), "c_in(σ) · x")
    axes[0].plot(*(path * c_in(sigmas, model.sigma_data)[:, None]).T, label="exact trajectory")
    _scatter(axes[1], data, "clean values")
    axes[1].plot(*answers.T, ".", color="C1", label="f(x, σ) of the model")
    axes[1].plot(*path[:1].T, "o", color="C0", label="exact end point")
    for ax in axes:
        ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return LiveModel(name, "point", mixture, caption=POINT, still=_png(fig))


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _scatter(ax: Axes, points: Tensor, label: str) -> None:
    """Draw faint points ``[num, 2]`` on equal axes."""
    ax.plot(*points.T, ".", color="0.6", markersize=2)
    ax.set(xlabel=label, aspect="equal")


def _png(fig: Figure) -> bytes:
    """Write a figure, and close it."""
    content = io.BytesIO()
    fig.savefig(content, format="png", dpi=90, facecolor="white")
    plt.close(fig)
    return content.getvalue()
