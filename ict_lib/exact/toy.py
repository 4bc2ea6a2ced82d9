"""Toy data on the line and in the plane: mixtures that know their answer at every noise level."""

import math

import torch
from torch import Tensor

from ict_lib.checks import require, whole
from ict_lib.exact.mixture import Mixture


def two_points(std: float = 0.05) -> Mixture:
    """Two narrow modes of equal weight on the line, at -1 and +1; ``std`` 0 makes them points."""
    return Mixture(_row(0.5, 0.5), _row(-1, 1)[:, None], _row(std, std))


def three_modes() -> Mixture:
    """Three modes of uneven weight and width on the line, at -1, 0.2 and 1.5: the rare ones are those a model loses."""
    return Mixture(_row(0.6, 0.3, 0.1), _row(-1, 0.2, 1.5)[:, None], _row(0.15, 0.1, 0.05))


def ring(num_modes: int = 8, radius: float = 1.0, std: float = 0.05) -> Mixture:
    r"""Equal modes in the plane, evenly on a circle, the first at angle 0; one or more, with a radius > 0.

    .. math:: m_j = r \, (\cos(2 \pi j / k), \sin(2 \pi j / k)), \qquad j = 0, \dots, k - 1
    """
    require(num_modes >= 1 and radius > 0, "num_modes, radius", (num_modes, radius), "num_modes >= 1, radius > 0")
    angles = torch.arange(num_modes, dtype=torch.float64) * (2 * math.pi / num_modes)
    means = radius * torch.stack([angles.cos(), angles.sin()], dim=1)  # [num_modes, 2]
    ones = torch.ones_like(angles)
    return Mixture(ones / num_modes, means, std * ones)


def two_moons(num: int, generator: torch.Generator | None = None, std: float = 0.025) -> Tensor:
    """Draw points ``[num, 2]`` of two half circles that reach into each other, within [-1, 1]; ``std`` blurs them."""
    angle, lower = _uniform(num, generator) * math.pi, _uniform(num, generator) < 0.5
    x = torch.where(lower, 1 - angle.cos(), angle.cos()) - 0.5
    y = torch.where(lower, 0.5 - angle.sin(), angle.sin()) - 0.25
    return 0.58 * torch.stack([x, y], dim=1) + _blur(num, generator, std)


def spiral(num: int, generator: torch.Generator | None = None, std: float = 0.02) -> Tensor:
    """Draw points ``[num, 2]`` of one arm of one and a half turns, evenly along it, within [-1, 1]."""
    radius = (0.1**2 + _uniform(num, generator) * (0.9**2 - 0.1**2)).sqrt()  # even along an arm of equal turns
    angle = 3 * math.pi * (radius - 0.1) / 0.8
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1) + _blur(num, generator, std)


def checkerboard(num: int, generator: torch.Generator | None = None, half_width: float = 0.86) -> Tensor:
    """Draw points ``[num, 2]`` of the dark squares of a board of 4 by 4, centred; its sides are straight and sharp."""
    require(0 <= half_width < math.inf, "half_width", half_width, "a finite number, 0 or more,")
    row = (_uniform(num, generator) * 4).floor()
    column = 2 * (_uniform(num, generator) * 2).floor() + row % 2
    corner = torch.stack([column, row], dim=1)
    inside = torch.rand(num, 2, generator=generator, dtype=torch.float64)
    return (corner + inside - 2) * (half_width / 2)


def _uniform(num: int, generator: torch.Generator | None) -> Tensor:
    require(whole(num, 0), "num", num, "0 or more")
    return torch.rand(num, generator=generator, dtype=torch.float64)


def _blur(num: int, generator: torch.Generator | None, std: float) -> Tensor:
    require(0 <= std < math.inf, "std", std, "a finite number, 0 or more,")
    return std * torch.randn(num, 2, generator=generator, dtype=torch.float64)


def _row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
