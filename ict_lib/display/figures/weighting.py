"""Figure of the chapter on the weighting: where a measured gradient comes from, for any power of the gap as weight."""

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from ict_lib.display.explorer import Explorer, Line, Panel, Readout, Slider
from ict_lib.grid import karras_sigmas
from ict_lib.techniques.distance import huber_c, squared_l2
from ict_lib.techniques.noise_schedule import lognormal_pmf, uniform_pmf

SCALES = [11, 21, 41, 81, 161, 321, 641, 1281]
POWERS = [n / 10 for n in range(11)]
LOW = 0.1  # what the page calls a low noise level
MOST = 80  # pairs of a grid that are measured; of a finer grid every so many
DRAWS = {"squared ℓ₂": uniform_pmf, "pseudo-Huber": lognormal_pmf}  # section 3.1's setting, and iCT's
WHICH = ("lowest", "highest")
TITLES = {"squared ℓ₂": "Squared ℓ₂, pairs drawn evenly", "pseudo-Huber": "Pseudo-Huber, lognormal draws (iCT)"}
CAPTION = (
    "At p = 0 every pair has the weight 1, and hardly any gradient comes from low noise, wherever the dashed line has "
    "the draws. Raise p to 1: the solid curve moves to the left. Then change N at both ends of p, and read how the "
    "gradient's length changes: with p = 1 it nearly stays for squared ℓ₂, and grows with N for pseudo-Huber."
)


def measured_pairs(num_scales: int) -> Tensor:
    """Pick the pairs of a grid that are measured, ``[pairs]``: all, or the middle ones of equal groups."""
    stride = max(1, (num_scales - 1) // MOST)
    return torch.arange(stride // 2, num_scales - 1, stride)


def gradient_lengths(model: nn.Module, x: Tensor, noise: Tensor, num_scales: int) -> dict[str, Tensor]:
    """Measure how long the gradient of one sample's distance is, without weight, on average over samples ``[num, d]``.

    For both distances at the `measured_pairs`, ``[pairs]``, float64.
    """
    sigmas, index, num = karras_sigmas(num_scales).to(x.dtype), measured_pairs(num_scales), len(x)
    lo, hi = (level.repeat_interleave(num) for level in (sigmas[index], sigmas[index + 1]))
    x, noise = x.repeat(len(index), 1), noise.repeat(len(index), 1)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    with torch.no_grad():
        target = model(x + lo[:, None] * noise, lo)

    def distance(weights, x, sigma, target):  # of one sample
        output = functional_call(model, weights, (x[None], sigma[None]))
        return squared_l2(output, target[None]).sum()

    gradient = vmap(grad(distance), in_dims=(None, 0, 0, 0), chunk_size=512)
    found = gradient(weights, x + hi[:, None] * noise, hi, target)
    squares = sum(part.flatten(1).square().sum(1) for part in found.values())
    with torch.no_grad():
        apart = (model(x + hi[:, None] * noise, hi) - target).norm(dim=1)
    c = huber_c(x.shape[1])
    lengths = {"squared ℓ₂": squares.sqrt(), "pseudo-Huber": squares.sqrt() / (2 * (apart**2 + c**2).sqrt())}
    return {name: length.double().view(-1, num).mean(1) for name, length in lengths.items()}


def weigh(lengths: Tensor, pmf: Tensor, weight: Tensor) -> Tensor:
    """Multiply lengths with what their pairs are drawn and weighted, and with how many pairs each stands for."""
    index = measured_pairs(len(pmf) + 1)
    return (pmf * weight)[index] * lengths * (len(pmf) / len(index))


def share_below(parts: Tensor, num_scales: int, sigma: float = LOW) -> float:
    """Sum the share of the parts of `weigh` whose pair lies below a noise level."""
    below = karras_sigmas(num_scales)[measured_pairs(num_scales)] < sigma
    return float(parts[below].sum() / parts.sum())


def weighting_explorer(measured: dict[int, dict[str, Tensor]]) -> Explorer:
    """Show the share of each noise level in the gradient when a pair's weight is a power of its gap.

    Of each N in `SCALES` it is given what `gradient_lengths` measured.

    Source: [iCT] arXiv:2310.14189 section 3.1 for the power 1.
    """
    gaps = [karras_sigmas(n).diff()[[0, -1]] for n in SCALES]
    ends = torch.stack([torch.stack([gap**-p for gap in gaps]) for p in POWERS]).unbind(-1)
    readouts = [Readout(f"weight of the {which} pair", end, "{:,.5g}") for which, end in zip(WHICH, ends, strict=True)]
    panels, lengths = [], []
    for name in DRAWS:
        panel, below, total = _setting(measured, name)
        panels.append(panel)
        readouts.append(Readout(f"{name}: from below σ = {LOW:g}", 100 * below, "{:.1f} %"))
        lengths.append(Readout(f"{name}: length against N = 11", total / total[:, :1], "{:.3g}"))
    sliders = [Slider("weight = gap^(−p), p", POWERS), Slider("noise levels N", SCALES, start=len(SCALES) - 1)]
    return Explorer(sliders, panels, readouts + lengths, CAPTION)


def _setting(measured: dict[int, dict[str, Tensor]], name: str) -> tuple[Panel, Tensor, Tensor]:
    """Draw one distance with its draws; share from low noise and length of the whole, ``[powers, scales]`` each."""
    below, total = torch.zeros(2, len(POWERS), len(SCALES), dtype=torch.float64)
    share = torch.full((*below.shape, MOST), torch.nan)  # NaN where a coarse grid has no more pairs
    sigma, draws = torch.full((2, 1, *share.shape[1:]), torch.nan, dtype=torch.float64)
    for n, scales in enumerate(SCALES):
        sigmas, index = karras_sigmas(scales), measured_pairs(scales)
        pmf, here, each = DRAWS[name](sigmas), slice(len(index)), (scales - 1) / len(index)
        decades = sigmas.log10().diff()[index]
        sigma[0, n, here], draws[0, n, here] = (sigmas[index] * sigmas[index + 1]).sqrt(), pmf[index] / decades
        for p, power in enumerate(POWERS):
            parts = weigh(measured[scales][name], pmf, sigmas.diff() ** -power)
            share[p, n, here] = (parts / parts.sum() / decades / each).float()
            below[p, n], total[p, n] = share_below(parts, scales), parts.sum()
    marks = [Line(sigma, share, "of the gradient", color=0), Line(sigma, draws, "of the draws", color=1, dashed=True)]
    axes = {"x_label": "noise level σ", "x_scale": "log", "y_range": (0, 1.4)}
    return Panel(marks, TITLES[name], y_label="share per decade of σ", **axes), below, total
