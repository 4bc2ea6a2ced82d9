r"""How much of what training compares is rounding: ``python -m ict_lib rounding digits/ict``.

The loss compares the outputs at two neighbouring noise levels. The more levels, the less these differ, while the
rounding of each stays what it is. A network in bf16 keeps what passes through it to 8 bits, a part in 256, in fp16 to
11 bits; from one level to the next at N = 1281 the outputs of a trained model differ by less. What tells it the level
changes by less too: c_noise by 0.002, each feature of the noise embedding of scale 0.02 by about 3e-4, where bf16 can
hold steps of 4e-3 below 1 and fp16 of 5e-4. So the networks keep the embedding in 32 bits, and the first and the last
layer; between the blocks 32 bits are passed on until a convolution rounds them. What is measured here is the rest.
"""

import argparse
import copy
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ict_lib.checks import require
from ict_lib.consistency import ConsistencyModel
from ict_lib.data import load_dataset
from ict_lib.files import command, results_folder, write_json
from ict_lib.grid import karras_sigmas
from ict_lib.objective import levels
from ict_lib.recipe import Recipe
from ict_lib.run.record import read
from ict_lib.run.trained import trained_model
from ict_lib.scale.record import made_by
from ict_lib.training.model import arrange, compile_passes, pick_device
from ict_lib.training.precision import multiplying, passing

SCALES = (11, 161, 1281)  # levels of the first stage of iCT's curriculum, of one in the middle and of the last
FILE = "rounding.json"  # in the folder of the run


def change(
    model: ConsistencyModel,
    x: Tensor,
    noise: Tensor,
    pair: tuple[float, float],
    precision: str,
    label: Tensor | None = None,
) -> Tensor:
    r"""Compute how much the output changes from one noise level to the next, by the two passes of a training step.

    .. math:: \Delta_p = f_p(x + \sigma_{hi} z, \sigma_{hi}) - f_p(x + \sigma_{lo} z, \sigma_{lo})

    Where the model's weights are float64, so is all that is computed with ``fp32``.

    Returns:
        The change, float64, shape of ``x`` and ``noise``: ``[batch, ...]``.
    """
    weight = next(model.parameters())
    x, noise = x.to(weight.dtype), noise.to(weight.dtype)
    with multiplying(precision), passing(precision, weight.device):
        with torch.no_grad():
            low = model(x + pair[0] * noise, pair[0], label)
        high = model(x + pair[1] * noise, pair[1], label)
    return high.detach().double() - low.double()


def rounding(
    model: ConsistencyModel,
    x: Tensor,
    noise: Tensor,
    pairs: Sequence[tuple[float, float]],
    precisions: Sequence[str],
    label: Tensor | None = None,
    compiled: bool = False,
) -> list[dict[str, Any]]:
    r"""Compare rounding with signal at pairs of neighbouring noise levels.

    .. math:: \text{signal} = \mathbb E\, \| \Delta_{64} \|, \qquad
        \text{rounding} = \mathbb E\, \| \Delta_p - \Delta_{64} \|

    The reference has the same weights, samples and levels in float64. Where the ratio is 1, rounding has as much to say
    about the direction of the gradient as the difference between student and teacher.

    The model, trained, with float32 weights, is not changed, and evaluated without dropout; ``compiled`` makes teacher
    and student two programs, as a training with ``compile`` does. ``x`` are real samples, float32, ``[batch, ...]``,
    data units; ``noise`` has variance 1 and the same shape; ``label`` is ``[batch]``. A pair is a lower and a higher
    level. For each pair and precision a row holds ``sigma_lo``, ``sigma_hi``, ``precision``, ``signal`` and
    ``rounding``, both in data units, and ``ratio``. An output that does not change at all is refused.
    """
    dtype = next(model.parameters()).dtype
    require(dtype == torch.float32, "the type of the weights", dtype, "torch.float32")
    plain = copy.deepcopy(model).eval()
    exact, rows = copy.deepcopy(plain).double(), []
    if compiled:
        compile_passes(plain)
    for pair in pairs:
        pair = tuple(torch.tensor(pair, dtype=torch.float32).tolist())  # as training has them
        require(0 < pair[0] < pair[1], "a pair of noise levels", pair, "0 < sigma_lo < sigma_hi")
        truth = change(exact, x, noise, pair, "fp32", label)
        signal = _mean_norm(truth)
        require(signal > 0, "the output's change", signal, f"a model that tells the levels {pair} apart")
        for precision in precisions:
            error = _mean_norm(change(plain, x, noise, pair, precision, label) - truth)
            found = {"signal": signal, "rounding": error, "ratio": error / signal}
            rows.append({"sigma_lo": pair[0], "sigma_hi": pair[1], "precision": precision, **found})
    return rows


def some_pairs(recipe: Recipe, num_scales: int, num: int = 12) -> list[tuple[float, float]]:
    """Choose at most ``num`` pairs of neighbouring levels, ascending, evenly over the grid; all of a small grid."""
    sigmas = karras_sigmas(num_scales, recipe.sigma_min, recipe.sigma_max, recipe.rho)
    index = torch.linspace(0, num_scales - 2, min(num, num_scales - 1)).round().long()
    return list(zip(sigmas[index].tolist(), sigmas[index + 1].tolist(), strict=True))


def share_above(rows: list[dict[str, Any]], recipe: Recipe, num_scales: int, ratio: float = 1.0) -> float:
    """Estimate in which share of the pairs that training draws the rounding exceeds the signal, times ``ratio``.

    Between the levels of the rows, of one precision and one grid, the logarithm of the ratio is taken to be straight in
    that of sigma.
    """
    pairs = levels(recipe, num_scales, torch.device("cpu"))
    known = np.log([[row["sigma_hi"], max(row["ratio"], 1e-300)] for row in rows])
    found = np.interp(np.log(pairs.hi.double().numpy()), *known.T)
    return float(pairs.pmf.double().numpy()[found > np.log(ratio)].sum())


def of_run(name: str, samples: int = 256, device: str = "auto") -> dict[str, Any]:
    """Measure the rounding of a finished run's model on its own data, on three grids; TF32 on CUDA devices alone.

    Found are ``run``, ``seed``, ``samples``, what :func:`ict_lib.scale.record.made_by` says, ``rows`` of
    :func:`rounding` with their ``num_scales``; and ``share_above_signal``, by N and precision, of the pairs that
    training draws.
    """
    place, generator = pick_device(device), torch.Generator().manual_seed(0)
    place = torch.device("cpu") if place.type == "mps" else place  # which has no float64
    run, model = read(name).run, arrange(trained_model(name).to(place))
    data, recipe = load_dataset(run.data), run.recipe
    chosen = torch.randint(len(data), (samples,), generator=generator)
    x, noise = data.batch(chosen, place), torch.randn((samples, *data.shape), generator=generator).to(place)
    label = data.labels[chosen].to(place) if run.conditional else None
    precisions = ["fp32", *(["tf32"] if place.type == "cuda" else []), "bf16", "fp16"]
    rows, above = [], {}
    for n in SCALES:
        found = rounding(model, x, noise, some_pairs(recipe, n), precisions, label, run.compile)
        rows += [{"num_scales": n, **row} for row in found]
        parts = {p: [row for row in found if row["precision"] == p] for p in precisions}
        above[n] = {precision: share_above(part, recipe, n) for precision, part in parts.items()}
    made = {"run": name, "seed": run.seeds[0], **made_by(place), "samples": samples}
    return {**made, "share_above_signal": above, "rows": rows}


def read_rounding(name: str) -> dict[str, Any]:
    """Read what was measured of a run's model: what :func:`of_run` gives, but for keys that are texts in JSON."""
    path = results_folder(name) / FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: `{command('rounding', name)}` makes it")
    return json.loads(path.read_text("utf8"))


def _mean_norm(batch: Tensor) -> float:
    """Average the norm of each sample."""
    return batch.flatten(1).norm(dim=1).mean().item()


def main(given: argparse.Namespace) -> int:
    """Write ``runs/<name>/rounding.json``, and return the exit code."""
    found = of_run(given.run, given.samples, given.device)
    write_json(results_folder(given.run) / FILE, found)
    print(f"rounding above the signal, share of the pairs that are drawn: {found['share_above_signal']}")
    return 0
