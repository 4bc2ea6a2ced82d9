"""Figures of the introduction."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ict_lib.consistency import c_in
from ict_lib.data.dataset import Dataset
from ict_lib.display.explorer import Explorer, Image, Panel, Readout
from ict_lib.display.figures.consistency_model import noise_slider
from ict_lib.exact.mixture import Mixture
from ict_lib.grid import karras_sigmas
from ict_lib.training.measuring import grid

ASIDE = {"fast samplers and distillation": 0.8, "direct generation": 1.0, "consistency training": 1.25}
NAMED = {("BigGAN-deep", 1): (-80, -4), ("iCT", 1): (8, -3), ("iCT-deep", 1): (-56, -4), ("CT (LPIPS)", 1): (8, -3)}
NAMED |= {("EDM", 511): (8, -4)}


def poster_figure(poster: pd.DataFrame) -> Figure:
    """Set the systems of the poster, by ``group``, ``system``, ``NFE`` and ``FID``, side by side: evaluations and FID.

    Each group stands a little aside of the others (:data:`ASIDE`, a factor), so that no system hides another.
    """
    figure, ax = plt.subplots(figsize=(7, 4.2))
    shown = poster.assign(x=poster["NFE"] * poster["group"].map(ASIDE))
    sns.scatterplot(shown, x="x", y="FID", hue="group", style="group", s=70, alpha=0.8, ax=ax)
    ax.set(xscale="log", yscale="log", xlabel="network evaluations a sample", ylabel="FID, ImageNet 64×64")
    ax.set(xlim=(0.15, 2000), xticks=[1, 2, 4, 79, 250, 1000], xticklabels=[1, 2, 4, 79, 250, 1000])
    ax.set(yticks=[1.5, 3, 6, 12], yticklabels=[1.5, 3, 6, 12])
    ax.minorticks_off()
    ax.legend(loc="upper center", ncol=3, bbox_to_anchor=(0.5, 1.12), frameon=False, fontsize=9)
    for (name, nfe), offset in NAMED.items():
        row = shown[(shown["system"] == name) & (shown["NFE"] == nfe)].iloc[0]
        ax.annotate(name, (row.x, row.FID), xytext=offset, textcoords="offset points", fontsize=9)
    return figure


def digits_explorer(data: Dataset, num: int = 8, num_scales: int = 25, seed: int = 0) -> Explorer:
    """Follow noise to images along ``num`` exact trajectories of a data set: the point, the denoiser, the end point.

    All of the images are taken as a mixture of point masses, whose denoiser is exact; nothing is learned.
    """
    truth = Mixture(torch.ones(len(data)) / len(data), data.images.flatten(1), torch.zeros(len(data)))
    sigmas = karras_sigmas(num_scales)
    start = 80 * torch.randn(num, data.images[0].numel(), generator=torch.Generator().manual_seed(seed))
    path = truth.trajectory(start.double(), sigmas)  # [num_scales, num, dims]
    means = torch.stack([truth.denoiser(x, sigma) for x, sigma in zip(path, sigmas, strict=True)])
    ends = path[:1].expand_as(path)
    scale = c_in(sigmas, sigma_data=0.75)[:, None, None] * 0.9  # brings every level into the range of grey values
    pictures = {"the noisy image x": path * scale, "the denoiser E[x₀ | x]": means, "the end point f(x, σ)": ends}
    gap = (means - ends).square().mean(dim=(1, 2)).sqrt()
    return Explorer(
        sliders=[noise_slider(sigmas)],
        panels=[Panel([_sheets(images, data.shape)], title=title) for title, images in pictures.items()],
        readouts=[Readout("root-mean-square gap between denoiser and end point", gap, "{:.3f}")],
        caption="Slide from right to left. The noisy images (each level rescaled) show a digit only below σ ≈ 1, "
        "and the denoiser sharpens late. The end points do not move, by definition: f at any level gives them.",
    )


def _sheets(vectors: Tensor, shape: tuple[int, ...]) -> Image:
    """Tile flattened images ``[num_scales, num, dims]`` into one row a level."""
    sheets = [torch.from_numpy(grid(batch.view(-1, *shape), columns=len(batch))) for batch in vectors]
    return Image(torch.stack(sheets), (0, 255), colored=shape[0] == 3)
