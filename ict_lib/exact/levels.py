r"""What N noise levels do to the target of consistency training, on data whose answer is known.

The student at the upper level of a pair learns from :math:`f(x_0 + \sigma_i z, \sigma_i)`, with one datum and one noise
drawn anew each time. Here is what it would learn from infinitely many draws, and how far single draws scatter.

Everywhere ``sigmas`` are noise levels ``[N]`` that ascend, the first is sigma_min, and ``pmf`` is the probability of
each pair, ``[N - 1]``; lengths are in data units.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from ict_lib.checks import require, whole
from ict_lib.consistency import c_in
from ict_lib.exact.mixture import Mixture
from ict_lib.grid import karras_sigmas, require_ascending
from ict_lib.techniques.noise_schedule import lognormal_pmf

SCALES = (2, 3, 6, 11, 21, 41, 81, 161, 321, 641, 1281)
CHAINS = 60_000  # times noise levels, for each point


def ideal_student(
    mixture: Mixture, x: Tensor, sigmas: Tensor, draws: int = 100, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    r"""Answer of a student that minimises the squared distance at every pair, its teacher being itself.

    .. math:: f_N(x, \sigma_1) = x, \qquad f_N(x, \sigma_{i+1}) =
        E\bigl[f_N(x_0 + \sigma_i z, \sigma_i) \,\big|\, x_0 + \sigma_{i+1} z = x\bigr]

    So it is the mean end of a chain from level to level that draws a new datum at each:
    :math:`x \to x - (\sigma_{i+1} - \sigma_i) (x - x_0) / \sigma_{i+1}`. Two levels make the denoiser; with ever more
    it becomes the consistency function.

    Args:
        mixture: the data.
        x: points at ``sigmas[-1]``, shape ``[batch, d]``, float64, data units.
        sigmas: ascending noise levels, ``[N]``, data units.
        draws: chains a point; the mean is off by about spread / sqrt(draws).
        generator: draws the chains.

    Returns:
        The answers, ``[batch, d]``, and how far the ends of single chains are from them, root mean square, ``[batch]``.

    Raises:
        ValueError: if ``draws < 2``, or ``sigmas`` do not ascend from above 0.
    """
    require(whole(draws, 2), "draws", draws, "2 or more")
    require_ascending(sigmas)
    ends, levels = x.repeat_interleave(draws, dim=0), sigmas.tolist()
    for lo, hi in zip(levels[-2::-1], levels[:0:-1], strict=True):
        ends = ends - (hi - lo) / hi * (ends - mixture.posterior(ends, hi, generator))
    ends = ends.view(len(x), draws, -1)
    return ends.mean(dim=1), ends.var(dim=1).sum(dim=1).sqrt()


def pull(sigmas: Tensor, pmf: Tensor) -> float:
    r"""Mean gradient, a unit of theta, on a student that is wrong by :math:`\theta (1 - \sigma_{min} / \sigma)`.

    .. math:: G = 2 E\Bigl[\frac{(1 - a_{i+1})(a_i - a_{i+1})}{\sigma_{i+1} - \sigma_i}\Bigr],
        \qquad a_i = \sigma_{min} / \sigma_i

    For squared distance, weight :math:`1 / (\sigma_{i+1} - \sigma_i)`, and the student as its own teacher.
    """
    require_ascending(sigmas)
    a = sigmas[0] / sigmas
    return float((2 * pmf * (1 - a[1:]) * -a.diff() / sigmas.diff()).sum())


def scatter(
    mixture: Mixture,
    sigmas: Tensor,
    pmf: Tensor,
    num: int = 10_000,
    generator: torch.Generator | None = None,
    answer: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> float:
    r"""Standard deviation of that gradient over ``num`` draws, at theta = 0, around the exact answers or a model's.

    .. math:: \operatorname{std}\Bigl[\frac{2 (1 - a_{i+1})}{\sigma_{i+1} - \sigma_i}
        \bigl(f(x_0 + \sigma_{i+1} z, \sigma_{i+1}) - f(x_0 + \sigma_i z, \sigma_i)\bigr)\Bigr]

    Of exact answers to data at one point it is 0. Of more dimensions than one it is the root of the sum of their
    variances. Without an ``answer``, which is f of points ``[num, d]`` and levels ``[num]``, float64, it is the exact
    one, quick on the line and slow in the plane.
    """
    require_ascending(sigmas)
    pair = torch.multinomial(pmf, num, replacement=True, generator=generator)
    x0 = mixture.sample(num, generator)
    noise = torch.randn(x0.shape, dtype=x0.dtype, generator=generator)
    lo, hi, low = sigmas[pair], sigmas[pair + 1], float(sigmas[0])
    answer = answer or partial(mixture.consistency, sigma_min=low)
    upper, lower = (answer(x0 + level[:, None] * noise, level) for level in (hi, lo))
    gradient = (2 * (1 - low / hi) / (hi - lo))[:, None] * (upper - lower)  # [num, d]
    return gradient.var(dim=0).sum().sqrt().item()


def bias_and_noise(
    mixture: Mixture, scales: Sequence[int] = SCALES, points: int = 41, draws: int = 20_000
) -> dict[str, Tensor]:
    """Compute, for data on the line and each N, the ideal student at 80 and what a draw of its training is like.

    Float64, in data units: ``u`` and ``exact`` ``[points]``, ``student`` ``[scales, points]``, and ``bias``, ``pull``
    (a unit of the student's error) and ``scatter`` ``[scales]``; ``u`` is ``c_in x``.
    """
    u = torch.special.ndtri((torch.arange(points, dtype=torch.float64) + 0.5) / points)  # points of equal mass
    x = (u / c_in(torch.tensor(80.0, dtype=torch.float64), mixture.sigma_data))[:, None]
    exact, rows = mixture.consistency(x, 80.0)[:, 0], []
    for n in scales:
        sigmas, generator = karras_sigmas(n), torch.Generator().manual_seed(n)
        chains = min(4000, max(100, CHAINS // n))
        answer, spread = ideal_student(mixture, x, sigmas, chains, generator)
        square = (answer[:, 0] - exact).square() - spread.square() / chains  # what the draws add on average, off again
        pmf = lognormal_pmf(sigmas)
        numbers = [
            square.mean().clamp(min=0).sqrt(),
            pull(sigmas, pmf),
            scatter(mixture, sigmas, pmf, draws, generator),
        ]
        rows.append((answer[:, 0], torch.tensor(numbers, dtype=torch.float64)))
    student, numbers = (torch.stack(part) for part in zip(*rows, strict=True))
    found = dict(zip(("bias", "pull", "scatter"), numbers.T, strict=True))
    return {"scales": torch.tensor(scales), "u": u, "exact": exact, "student": student, **found}
