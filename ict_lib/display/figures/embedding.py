"""Figure of the chapter on the noise embedding and dropout: the embedding."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ict_lib.consistency import c_noise
from ict_lib.display.explorer import Explorer, Image, Line, Panel, Points, Readout, Slider
from ict_lib.grid import karras_sigmas
from ict_lib.techniques.embedding import FourierFeatures

Features = Callable[[Tensor], Tensor]  # from c_noise ``[levels]`` to ``[levels, channels]``
SCALES, COUNTS = [16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02], [11, 21, 41, 81, 161, 321, 641, 1281]
PLACES = torch.logspace(math.log10(0.005), math.log10(60.0), 16, dtype=torch.float64)  # noise levels of the axes


def fourier(scale: float, num_channels: int = 64) -> FourierFeatures:
    """Draw features with one seed for every scale, the frequencies in ascending order of size."""
    features = FourierFeatures(num_channels, scale, torch.Generator().manual_seed(0))
    features.frequencies = features.frequencies[features.frequencies.abs().argsort()]
    return features


def speed(features: Features) -> float:
    """Root mean square frequency of the features, in radians for a unit of ln sigma."""
    change = features(c_noise(torch.tensor([1.0, math.exp(1e-6)], dtype=torch.float64))).diff(dim=0)
    return float(change.norm() / 1e-6 / math.sqrt(change.numel() / 2))  # a sine and a cosine each


def gap(features: Features, low: Tensor, high: Tensor) -> Tensor:
    """Distance of the features of two noise levels, ``[pairs]``; unrelated ones have 1 in the root mean square."""
    difference = features(c_noise(high)) - features(c_noise(low))
    return difference.norm(dim=1) / math.sqrt(difference.shape[1])


def pairs_near(num_scales: int) -> tuple[Tensor, Tensor]:
    """Pick the pair of neighbouring levels that is nearest to each of :data:`PLACES`, low and high, ``[places]``."""
    sigmas = karras_sigmas(num_scales)
    index = (sigmas[1:, None].log() - PLACES.log()).abs().argmin(dim=0)
    return sigmas[index], sigmas[index + 1]


def embedding_explorer() -> Explorer:
    """Show Fourier features of the noise level for every scale, and how far those of neighbours are apart."""
    kinds = [fourier(scale) for scale in SCALES]
    axis, coarse = (torch.logspace(math.log10(0.002), math.log10(80), n) for n in (480, 64))
    drawn = torch.stack([features(c_noise(axis))[:, 16] for features in kinds])  # [scales, 480]
    alike = torch.stack([(told := features(c_noise(coarse))) @ told.T / 32 for features in kinds])  # cosines
    near = [karras_sigmas(n) for n in COUNTS]
    some = torch.stack([s[(i := max(0, int((s.log() - 0.0).abs().argmin()) - 4)) : i + 8] for s in near])  # [counts, 8]
    dots = torch.stack([torch.stack([features(c_noise(s))[:, 16] for s in some]) for features in kinds])
    gaps = torch.stack([torch.stack([gap(features, *pairs_near(n)) for n in COUNTS]) for features in kinds])
    one = torch.ones_like(PLACES)
    return Explorer(
        sliders=[Slider("scale s of the features", SCALES), Slider("noise levels N", COUNTS, start=3)],
        panels=[
            Panel([Image(alike[:, None])], "Every two levels: told alike (white) or not"),
            Panel(
                [
                    Line(axis, drawn[:, None], label="one feature", color=0),
                    Points(some[None], dots, label="8 neighbouring levels", size=8, color=1),
                ],
                "One of 64 features, and what neighbours are told",
                "noise level σ",
                "feature",
                x_scale="log",
            ),
            Panel(
                [
                    Line(PLACES, gaps, label="neighbours", color=0),
                    Line(PLACES, one, label="unrelated levels", color=5, dashed=True),
                ],
                "How far apart neighbours are",
                "noise level σ",
                "distance of the features",
                x_scale="log",
                y_scale="log",
            ),
        ],
        readouts=[
            Readout("frequency, rad a unit of ln σ", torch.tensor([[speed(f)] for f in kinds])),
            Readout("distance of neighbours near σ = 1", gaps[..., 9], "{:.2g}"),
        ],
        caption="Both sides of the square go from σ = 0.002 to 80; the diagonal is a level beside itself. At scale 16 "
        "and N = 81 neighbours are told unrelated things. Raise N: the distance shrinks only when levels come as close "
        "as the ripples are. Lower the scale: the ripples leave, and the distance is in proportion to the step.",
    )
