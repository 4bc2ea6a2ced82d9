"""Where the values of a run file come from: the mark behind each of them."""

import re
from typing import Any, NamedTuple

import yaml

MARKS = {
    "A": "read in released code or in the poster",
    "B": "read in a second source",
    "C": "derived here and checked",
    "M": "from memory, not from the paper",
    "own": "our own choice",
}
LINE = re.compile(r"(#: )?( *)(\w+): +(.+?) +# \[(\w+)\] ?(.*)")
OPENING = re.compile(r"(\w+):")


class Setting(NamedTuple):
    """One value of a run file.

    Attributes:
        name: such as ``steps`` or ``recipe.dropout``.
        value: as YAML reads it.
        mark: a key of ``MARKS``.
        note: what the file says after the mark.
        default: whether the value stands in the code, and the file only tells of it.
    """

    name: str
    value: Any
    mark: str
    note: str
    default: bool


def settings_of(text: str) -> list[Setting]:
    """Read the marked values of a run file.

    Two kinds of lines have a mark::

        steps: 400000  # [A] a note
        #: optimizer: {betas: [0.9, 0.999], weight_decay: 0}  # [M]

    The second kind tells of values that stand in a preset or elsewhere in the code. The entries of a mapping, on one
    line or on indented lines of their own, become settings of their own.

    Source: own.

    Args:
        text: of the file.

    Returns:
        The settings, in the order of the file; those without a mark are left out.

    Raises:
        ValueError: if a mark is none of ``MARKS``.
    """
    found, outer = [], ""
    for line in text.splitlines():
        if opening := OPENING.fullmatch(line):
            outer = opening[1]
        match = LINE.fullmatch(line)
        if not match:
            continue
        told, indent, key, value, mark, note = match.groups()
        if mark not in MARKS:
            raise ValueError(f"mark is {mark!r} in {line.strip()!r}: one of {', '.join(MARKS)} is needed")
        name = f"{outer}.{key}" if indent else key
        found += [Setting(name, value, mark, note, told is not None) for name, value in _entries(name, value)]
    return found


def _entries(name: str, text: str) -> list[tuple[str, Any]]:
    """Read a value, and take a mapping apart."""
    value = yaml.safe_load(text)
    return [(f"{name}.{key}", inner) for key, inner in value.items()] if isinstance(value, dict) else [(name, value)]
