"""A recipe: one field per design choice of the paper, and the ladder that leads from CT to iCT."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from ict_lib.checks import check_types, require
from ict_lib.techniques.curriculum import num_scales_at


@dataclass(frozen=True)
class Recipe:
    """Everything in which CT and iCT can differ; the defaults are iCT's on CIFAR-10.

    Source: [iCT] arXiv:2310.14189 sections 3.1 to 3.5 and its table of design choices.

    Raises:
        ValueError: if a value has the wrong type or leaves its range (``RANGES``), with the rule.
    """

    weighting: Literal["uniform", "inverse_root_gap", "inverse_gap"] = "inverse_gap"  # 3.1: of the pairs of levels
    fourier_scale: float = 0.02  # 3.1: of the noise embedding
    dropout: float = 0.3  # 3.1: rate, with one mask for student and teacher
    teacher: Literal["ema", "student"] = "student"  # 3.2: the student without gradient, or its moving average
    distance: Literal["squared_l2", "l1", "lpips", "pseudo_huber"] = "pseudo_huber"  # 3.3: between their outputs
    curriculum: Literal["square_root", "doubling"] = "doubling"  # 3.4: how N grows
    noise_schedule: Literal["uniform", "lognormal"] = "lognormal"  # 3.5: which pairs are drawn
    s0: int | None = None  # start of the curriculum; None takes that curriculum's published value
    s1: int | None = None  # its end, in pairs; likewise
    mu0: float = 0.9  # decay of an EMA teacher at the start
    huber_c: float | None = None  # constant of pseudo-Huber, data units; None takes 0.00054 sqrt(d)
    p_mean: float = -1.1  # of the logarithm of the noise level, where that is drawn normally
    p_std: float = 2.0
    sigma_min: float = 0.002  # lowest noise level, data units
    sigma_max: float = 80.0  # highest
    rho: float = 7.0  # spacing of the grid
    sigma_data: float = 0.5  # standard deviation of the data that the scalings assume
    depth: int = 1  # multiplies the network's blocks per resolution; 2 in iCT-deep

    def __post_init__(self):
        check_types(self)
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            require(value is None or low <= value <= high, name, value, f"{low} <= {name} <= {high}")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "0 <= dropout < 1")
        require(0 < self.mu0 < 1, "mu0", self.mu0, "0 < mu0 < 1")
        require(self.sigma_min < self.sigma_max, "sigma_min", self.sigma_min, f"sigma_min < {self.sigma_max}")
        low, high = (math.log(sigma) for sigma in (self.sigma_min, self.sigma_max))
        drawn = self.noise_schedule == "uniform" or low - 3 * self.p_std <= self.p_mean <= high + 3 * self.p_std
        require(drawn, "p_mean", self.p_mean, f"{low:.3g} to {high:.3g}, the grid, or within 3 p_std of it,")
        num_scales_at(self, 0, 1)  # the curriculum refuses ends that do not fit together


RANGES = {  # far around every published value; beyond them a training computes, and learns nothing
    "fourier_scale": (1e-6, 1e4),
    "s0": (1, 1_000_000),
    "s1": (1, 1_000_000),  # pairs, of which four tables are held; 1280 is where more no longer helps
    "huber_c": (1e-6, 1e3),  # c^2 stays above float32's least number; no two images are further apart than 1000
    "p_std": (0.01, 100.0),
    "sigma_min": (1e-6, 1e3),  # on data of size 1, float32 no longer sees less noise
    "sigma_max": (1e-3, 1e4),  # under more noise, float32 keeps less than three digits of such data
    "rho": (0.1, 1000.0),  # beyond, the powers of the grid leave float64
    "sigma_data": (1e-3, 1e3),
    "depth": (1, 16),
}

ICT = Recipe()
ICT_DEEP = replace(ICT, depth=2)
CT = Recipe(
    weighting="uniform",
    fourier_scale=16.0,
    dropout=0.0,
    teacher="ema",
    distance="squared_l2",  # published with LPIPS; squared l2 as in section 3.1's ablations [B]
    curriculum="square_root",
    noise_schedule="uniform",
)
PRESETS = {"CT": CT, "ICT": ICT, "ICT_DEEP": ICT_DEEP}

RUNGS = {  # CT to iCT in the paper's order, one field a rung
    "weighting": "+ weighting",
    "fourier_scale": "+ noise embedding",
    "dropout": "+ dropout",
    "teacher": "+ no-EMA teacher",
    "distance": "+ pseudo-Huber",
    "curriculum": "+ doubling curriculum",
    "noise_schedule": "+ lognormal noise = iCT",
}
LADDER = [("CT", CT)]
for _field, _rung in RUNGS.items():
    LADDER.append((_rung, replace(LADDER[-1][1], **{_field: getattr(ICT, _field)})))
