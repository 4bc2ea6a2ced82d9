"""A recipe: one field per design choice of the paper, and the ladder that leads from CT to iCT."""

import math
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ict_lib.techniques.curriculum import doubling, square_root


@dataclass(frozen=True)
class Recipe:
    """Everything in which CT and iCT can differ; the defaults are iCT's on CIFAR-10.

    Source: [iCT] arXiv:2310.14189 sections 3.1 to 3.5 and its table of design choices.

    Attributes:
        weighting: of the pairs of noise levels (3.1).
        fourier_scale: of the noise embedding (3.1).
        dropout: rate, in student and teacher alike (3.1).
        teacher: the student itself with its gradient stopped, or its moving average (3.2).
        distance: between the outputs of student and teacher (3.3).
        curriculum: how N grows (3.4).
        noise_schedule: which pairs are drawn (3.5).
        s0: start of the curriculum; None takes that curriculum's published value.
        s1: end of the curriculum, in pairs; likewise.
        mu0: initial decay of an EMA teacher.
        huber_c: constant of the pseudo-Huber distance; None takes 0.00054 sqrt(d).
        p_mean: of the lognormal noise schedule.
        p_std: of the lognormal noise schedule.
        sigma_min: lowest noise level, data units.
        sigma_max: highest noise level, data units.
        rho: spacing of the grid.
        sigma_data: standard deviation of the data that the scalings assume.
        depth: multiplies the network's blocks per resolution; 2 in iCT-deep.

    Raises:
        ValueError: if a value has the wrong type or is out of range, with the rule.
    """

    weighting: Literal["uniform", "inverse_gap"] = "inverse_gap"
    fourier_scale: float = 0.02
    dropout: float = 0.3
    teacher: Literal["ema", "student"] = "student"
    distance: Literal["squared_l2", "l1", "lpips", "pseudo_huber"] = "pseudo_huber"
    curriculum: Literal["square_root", "doubling"] = "doubling"
    noise_schedule: Literal["uniform", "lognormal"] = "lognormal"
    s0: int | None = None
    s1: int | None = None
    mu0: float = 0.9
    huber_c: float | None = None
    p_mean: float = -1.1
    p_std: float = 2.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    sigma_data: float = 0.5
    depth: int = 1

    def __post_init__(self):
        check_types(self)
        require(0 <= self.dropout < 1, "dropout", self.dropout, "0 <= dropout < 1")
        require(0 < self.mu0 < 1, "mu0", self.mu0, "0 < mu0 < 1")
        require(0 < self.sigma_min < self.sigma_max, "sigma_min", self.sigma_min, "0 < sigma_min < sigma_max")
        for name in ("fourier_scale", "p_std", "rho", "sigma_data", "depth", "s0", "s1", "huber_c"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, f"{name} > 0")
        num_scales_at(self, 0, 1)  # the curriculum refuses ends that do not fit together


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuse a value that breaks a rule.

    Source: own.

    Raises:
        ValueError: with the field's name, its value and the rule.
    """
    if not holds:
        raise ValueError(f"{name} is {value!r}: {rule} is needed")


def nearest(name: str, known: list[str]) -> str:
    """Say which known name was probably meant.

    Source: own.

    Args:
        name: what was given.
        known: the right names.

    Returns:
        A clause for an error message.
    """
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known))}"


def check_types(instance: Any) -> None:
    """Check every field of a dataclass against its annotation; a whole number passes for a float, infinity does not.

    Source: own.

    Args:
        instance: a dataclass whose annotations are plain types, Literals, or a type or None.

    Raises:
        ValueError: with the field, the value, what was expected and, for a name, the nearest right one.
    """
    for name, hint in get_type_hints(type(instance)).items():
        value = getattr(instance, name)
        if get_origin(hint) is Literal:
            known = list(get_args(hint))
            if value not in known:
                raise ValueError(f"{name} is {value!r}: {nearest(str(value), known)}")
            continue
        allowed = tuple(get_origin(part) or part for part in (get_args(hint) if _is_union(hint) else (hint,)))
        if isinstance(value, bool) and bool not in allowed:
            raise ValueError(f"{name} is {value!r}, a bool: {_names(allowed)} is needed")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} is {value!r}: a finite number is needed")
        if not isinstance(value, allowed) and not (float in allowed and isinstance(value, int)):
            hint_text = (
                " (YAML reads 1e-4 as text: write 1.0e-4)" if isinstance(value, str) and float in allowed else ""
            )
            raise ValueError(f"{name} is {value!r}, a {type(value).__name__}: {_names(allowed)} is needed{hint_text}")


def override(instance: Any, changes: dict[str, Any]) -> Any:
    """Copy a frozen dataclass with some fields changed, refusing names that it does not have.

    Source: own.

    Args:
        instance: a dataclass, a :class:`Recipe` for example.
        changes: field -> value.

    Returns:
        The changed copy.

    Raises:
        ValueError: if a name is unknown, with the nearest right one, or a value is refused.
    """
    known = [field.name for field in fields(instance)]
    for name in changes:
        if name not in known:
            raise ValueError(f"unknown field {name!r} of {type(instance).__name__}: {nearest(str(name), known)}")
    return replace(instance, **changes)


def difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    """Say in which fields two configurations differ.

    Source: own.

    Args:
        before: nested dicts of plain values.
        now: the same fields.
        prefix: put before each name.

    Returns:
        ``"name: old -> new, ..."``; empty where they are equal.
    """
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(difference(old, new, f"{prefix}{name}."))
        elif old != new:
            found.append(f"{prefix}{name}: {old} -> {new}")
    return ", ".join(filter(None, found))


def _is_union(hint: Any) -> bool:
    """Tell ``int | None`` from ``list[int]``."""
    return (get_origin(hint) is not None and not isinstance(get_origin(hint), type)) or type(None) in get_args(hint)


def _names(types: tuple[type, ...]) -> str:
    """Names of types for an error message."""
    return " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)


def num_scales_at(recipe: Recipe, step: int, total_steps: int) -> int:
    """Return N at a training step, as the recipe's curriculum says.

    Source: [iCT] arXiv:2310.14189 section 3.4.

    Args:
        recipe: names the curriculum and its ends.
        step: training steps taken so far.
        total_steps: training steps in all.

    Returns:
        N, the number of noise levels.

    Raises:
        ValueError: if the step lies outside of training.
    """
    grow = {"square_root": square_root, "doubling": doubling}[recipe.curriculum]
    ends = {name: value for name, value in (("s0", recipe.s0), ("s1", recipe.s1)) if value is not None}
    return grow(step, total_steps, **ends)


ICT = Recipe()
ICT_DEEP = replace(ICT, depth=2)
CT = Recipe(
    weighting="uniform",
    fourier_scale=16.0,
    dropout=0.0,
    teacher="ema",
    distance="squared_l2",  # published with LPIPS; squared l2 is where the paper's ablations start
    curriculum="square_root",
    noise_schedule="uniform",
)
PRESETS = {"CT": CT, "ICT": ICT, "ICT_DEEP": ICT_DEEP}


def _ladder() -> list[tuple[str, Recipe]]:
    """CT to ICT, one field a rung, in the paper's order."""
    rungs = [("CT", CT)]
    for name, field in [
        ("+ weighting", "weighting"),
        ("+ noise embedding", "fourier_scale"),
        ("+ dropout", "dropout"),
        ("+ no-EMA teacher", "teacher"),
        ("+ pseudo-Huber", "distance"),
        ("+ doubling curriculum", "curriculum"),
        ("+ lognormal noise = iCT", "noise_schedule"),
    ]:
        rungs.append((name, replace(rungs[-1][1], **{field: getattr(ICT, field)})))
    return rungs


LADDER = _ladder()
