"""Toy data on the line and in the plane: mixtures that know their answer at every noise level."""

import math

import torch
from torch import Tensor

from ict_lib.checks import require
from ict_lib.exact.mixture import Mixture


def two_points(std: float = 0.05) -> Mixture:
    """Two narrow modes of equal weight on the line, at -1 and +1; ``std`` 0 makes them points."""
    return Mixture(_row(0.5, 0.5), _row(-1, 1)[:, None], _row(std, std))


def three_modes() -> Mixture:
    """Three modes of uneven weight and width on the line, at -1, 0.2 and 1.5: the rare ones are those a model loses."""
    return Mixture(_row(0.6, 0.3, 0.1), _row(-1, 0.2, 1.5)[:, None], _row(0.15, 0.1, 0.05))


def ring(num_modes: int = 8, radius: float = 1.0, std: float = 0.05) -> Mixture:
    r"""Equal modes in the plane, evenly on a circle, the first at angle 0.

    .. math:: m_j = r \, (\cos(2 \pi j / k), \sin(2 \pi j / k)), \qquad j = 0, \dots, k - 1

    Raises:
        ValueError: if ``num_modes < 1``, ``radius <= 0`` or ``std < 0``.
    """
    require(num_modes >= 1 and radius > 0, "num_modes, radius", (num_modes, radius), "num_modes >= 1, radius > 0")
    angles = torch.arange(num_modes, dtype=torch.float64) * (2 * math.pi / num_modes)
    means = radius * torch.stack([angles.cos(), angles.sin()], dim=1)  # [num_modes, 2]
    ones = torch.ones_like(angles)
    return Mixture(ones / num_modes, means, std * ones)


def _row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
