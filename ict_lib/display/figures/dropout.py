"""Figure of the chapter on the noise embedding and dropout: one mask, or two."""

import copy

import torch
from torch import Tensor, nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.explorer import Explorer, Image, Line, Panel, Readout, Slider
from ict_lib.display.figures.embedding import PLACES, pairs_near
from ict_lib.techniques.dropout import shared_mask
from ict_lib.training.measuring import grid

RATES, COUNTS = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5], [11, 81, 321, 1281]
SHOWN = 10  # of PLACES: the level whose images are shown, near 2
LOG = {"x_scale": "log", "y_scale": "log"}
LINES = {"neighbours, one mask": 0, "neighbours, two masks": 1, "the same level twice, two masks": 3}


def with_dropout(model: ConsistencyModel, rate: float) -> ConsistencyModel:
    """Copy a model, with dropout of this rate, in training mode."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
    return model


@torch.no_grad()
def answer(model: ConsistencyModel, x: Tensor, sigma: Tensor | float, seed: int) -> Tensor:
    """Evaluate a model with the dropout mask of a seed."""
    with shared_mask(torch.Generator(x.device).manual_seed(seed), x, None, model):
        return model(x, sigma)


def lengths(x: Tensor, y: Tensor) -> Tensor:
    """Length of each sample's difference, ``[batch]``."""
    return (x - y).flatten(1).norm(dim=1)


def dropout_explorer(model: ConsistencyModel, images: Tensor) -> Explorer:
    """Show how far apart a model is as student and as teacher with one dropout mask and with two, for every rate and N.

    Each of the images, ``[images, 1, height, width]``, gets one noise for all levels.
    """
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    found = [[_at(with_dropout(model, rate), images, noise, n) for n in COUNTS] for rate in RATES]
    medians = torch.stack([torch.stack([one for one, _ in row]) for row in found])  # [rates, counts, 3, places]
    sheets = torch.stack([torch.stack([torch.from_numpy(sheet) for _, sheet in row]) for row in found])
    lines = [Line(PLACES, medians[:, :, i].clamp(min=1e-6), name, color=c) for i, (name, c) in enumerate(LINES.items())]
    lines[2].y[0] = torch.nan  # without dropout there is nothing to draw
    ratio = (medians[:, :, 2] / medians[:, :, 0]).median(dim=2).values
    return Explorer(
        sliders=[Slider("dropout rate", RATES, start=4), Slider("noise levels N", COUNTS, start=2)],
        panels=[
            Panel(lines, "How far apart the answers are", "noise level σ", "median length", **LOG),
            Panel([Image(sheets, (0, 255))], "Student; teacher, same mask; teacher, another mask"),
        ],
        readouts=[Readout("noise of two masks / what neighbours differ by, median over σ", ratio, "{:.2g}")],
        caption="With one mask neighbours differ by what training is to shrink, and the less the more levels there "
        "are. With two masks they differ by what dropout does, at every N alike. Raise N: the second hides the first.",
    )


def _at(model: ConsistencyModel, x: Tensor, noise: Tensor, num_scales: int) -> tuple[Tensor, object]:
    """Medians ``[3, places]`` in the order of LINES, and a sheet of images at one level."""
    rows = []
    for i, (low, high) in enumerate(zip(*pairs_near(num_scales), strict=True)):
        student = answer(model, x + high * noise, high, seed=1)
        teacher, other = (answer(model, x + low * noise, low, seed) for seed in (1, 2))
        again = answer(model, x + high * noise, high, seed=2)
        if i == SHOWN:
            sheet = grid(torch.cat([student[:6], teacher[:6], other[:6]]), columns=6)
        rows.append([lengths(student, y).median() for y in (teacher, other, again)])
    return torch.tensor(rows).T, sheet
