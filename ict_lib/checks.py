"""What every configuration checks: types, names and rules, with errors that show the value and say what is needed."""

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from difflib import get_close_matches
from numbers import Integral
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise ``ValueError`` with the name, the value and the rule, unless the rule holds."""
    if not holds:
        raise ValueError(f"{name} is {shown(value)}: {rule} is needed")


def shown(value: object, most: int = 160) -> str:
    """Write a value down, without its middle where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def whole(value: object, low: int, high: int = 2**62) -> bool:
    """Tell a whole number of a range, which True is not."""
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high


def require_finite(name: str, values: Any) -> None:
    """Raise ``ValueError`` with how many values of a tensor are not finite, unless all are."""
    wrong = int((~values.isfinite()).sum())
    if wrong:
        raise ValueError(f"{name} must be finite, got {wrong} NaN or infinite values")


def nearest(name: object, known: Iterable[str]) -> str:
    """Say which known name was probably meant, as a clause for an error message."""
    known = sorted(known)
    close = get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def require_known(kind: str, name: object, known: Iterable[str]) -> None:
    """Raise ``ValueError`` with the nearest right name, unless the name is known."""
    known = list(known)
    if name not in known:
        raise ValueError(f"unknown {kind} {shown(name)}: {nearest(name, known)}")


def check_types(instance: Any) -> None:
    """Check every field of a dataclass against its annotation; a whole number becomes a float, infinity does not pass.

    Annotations are plain types, Literals, or a type or None. A ``ValueError`` says the field, the value, what was
    expected and, for a name, the nearest right one.
    """
    for name, hint in get_type_hints(type(instance)).items():
        value = getattr(instance, name)
        if get_origin(hint) is Literal:
            if value not in get_args(hint):
                raise ValueError(f"{name} is {shown(value)}: {nearest(value, get_args(hint))}")
            continue
        union = get_origin(hint) in (UnionType, Union)
        allowed = tuple(get_origin(part) or part for part in (get_args(hint) if union else (hint,)))
        _check_type(name, value, allowed)
        if float in allowed and isinstance(value, int) and abs(value) < 2**1000:
            object.__setattr__(instance, name, float(value))


def _check_type(name: str, value: object, allowed: tuple[type, ...]) -> None:
    """Refuse a value that is of none of the types."""
    needed = " or ".join("null" if kind is type(None) else kind.__name__ for kind in allowed)
    if isinstance(value, bool) and bool not in allowed:
        raise ValueError(f"{name} is {value!r}, a bool: {needed} is needed")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}: a finite number is needed")
    if not isinstance(value, allowed) and not (float in allowed and isinstance(value, int)):
        needed += " is needed" + _hint(value, allowed)
        raise ValueError(f"{name} is {shown(value)}, a {type(value).__name__}: {needed}")


def _hint(value: object, allowed: tuple[type, ...]) -> str:
    """Say how YAML wants a number that it has read as text, or as one with a fraction."""
    try:
        number = float(value) if isinstance(value, str | float) else math.nan
    except ValueError:
        return ""
    if float in allowed and math.isfinite(number):
        text = repr(number) if "." in repr(number) else repr(number).replace("e", ".0e")
    elif int in allowed and number.is_integer():
        text = str(int(number))
    else:
        return ""
    return f" (YAML reads {value} as text: write {text})" if isinstance(value, str) else f" (write {text})"


def override(instance: Any, changes: dict[str, Any]) -> Any:
    """Copy a frozen dataclass with some fields changed; an unknown name is refused with the nearest right one."""
    for name in changes:
        require_known(f"field of {type(instance).__name__}", name, [field.name for field in fields(instance)])
    return replace(instance, **changes)


def difference(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> str:
    """Say in which entries two nested dicts differ, as ``"name: old -> new, ..."``; empty where they are equal."""
    found = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(difference(old, new, f"{prefix}{name}."))
        elif old != new:
            found.append(f"{prefix}{name}: {old} -> {new}")
    return ", ".join(filter(None, found))
