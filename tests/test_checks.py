"""What every configuration checks: `ict_lib.checks`."""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pytest
import yaml

from ict_lib.checks import check_types, difference, nearest, override, require_known, whole


@dataclass(frozen=True)
class Example:
    whole: int = 1
    number: float = 1.0
    maybe: int | None = None
    words: list = field(default_factory=list)
    kind: Literal["apple", "pear"] = "apple"
    yes: bool = False


# Value: messages say the value and what would be right


def test_the_nearest_name_is_meant_and_far_from_every_name_all_are_listed():
    assert nearest("aple", ["pear", "apple"]) == "did you mean 'apple'?"
    assert nearest("zzz", ["pear", "apple"]) == "known are apple, pear"


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, ""),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b: 2 -> 3"),
        ({"b": 1, "a": None}, {"b": 2, "a": 0.5}, "a: None -> 0.5, b: 1 -> 2"),
        ({"r": {"x": 1, "y": 2}, "s": 0}, {"r": {"x": 1, "y": 3}, "s": 0}, "r.y: 2 -> 3"),
        ({"a": 1}, {"a": 1, "new": 2}, "new: None -> 2"),
    ],
)
def test_difference_names_each_change_with_both_values(before, now, said):
    assert difference(before, now) == said


# Invariant


def test_override_changes_what_is_named_and_nothing_else():
    before = Example(words=["a"])
    assert override(before, {"maybe": 7, "kind": "pear"}) == Example(words=["a"], maybe=7, kind="pear")
    assert before == Example(words=["a"])


# Types and errors


@pytest.mark.parametrize("change", [{"number": 3}, {"maybe": 7}, {"words": ["a"]}, {"kind": "pear"}, {"yes": True}])
def test_right_types_pass(change):
    check_types(Example(**change))


def test_a_whole_number_for_a_float_becomes_one_and_no_other_does():
    made = Example(number=0, maybe=7)
    check_types(made)
    assert repr((made.number, made.maybe)) == "(0.0, 7)"
    check_types(Example(number=10**400))  # too large for a float: rules about ranges refuse it


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"whole": 1.5}, "whole is 1.5, a float: int is needed"),
        ({"whole": True}, "whole is True, a bool: int is needed"),
        ({"whole": None}, "whole is None, a NoneType: int is needed"),
        ({"number": "1e-4"}, r"number is '1e-4', a str: float is needed \(YAML reads 1e-4 as text: write 0.0001\)"),
        ({"number": "1.0e10"}, r"YAML reads 1.0e10 as text: write 10000000000.0\)"),
        ({"number": "-1e-30"}, r"write -1.0e-30\)"),
        ({"number": "1e400"}, "number is '1e400', a str: float is needed$"),
        ({"whole": "1e3"}, r"whole is '1e3', a str: int is needed \(YAML reads 1e3 as text: write 1000\)"),
        ({"whole": 1000.0}, r"whole is 1000.0, a float: int is needed \(write 1000\)"),
        ({"words": "x" * 10**6}, r"words is 'x{79} \.\.\. x{79}', a str: list is needed$"),
        ({"number": True}, "number is True, a bool"),
        ({"number": math.nan}, "number is nan: a finite number"),
        ({"number": -math.inf}, "number is -inf: a finite number"),
        ({"maybe": "many"}, "maybe is 'many', a str: int or null is needed"),
        ({"words": "abc"}, "words is 'abc', a str: list is needed"),
        ({"kind": "appel"}, "kind is 'appel': did you mean 'apple'"),
        ({"kind": 3}, "kind is 3: known are apple, pear"),
        ({"kind": None}, "kind is None"),
        ({"yes": 1}, "yes is 1, a int: bool is needed"),
    ],
)
def test_wrong_types_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        check_types(Example(**change))


@pytest.mark.parametrize("text", ["1e-4", "1.0e10", "-1e-30", "1e16", "3e5"])
def test_what_a_hint_says_is_a_number_to_yaml(text):
    with pytest.raises(ValueError, match="write") as caught:
        check_types(Example(number=text))
    advised = yaml.safe_load(re.search(r"write (.*)\)", str(caught.value))[1])
    assert (type(advised), advised) == (float, float(text))


@pytest.mark.parametrize(
    ("value", "fits"),
    [(3, True), (np.int64(3), True), (2, False), (9, False), (3.0, False), (True, False), ("3", False)],
)
def test_whole_numbers_of_a_range(value, fits):
    assert whole(value, 3, 8) == fits


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown field of Example 'wohle': did you mean 'whole'"):
        override(Example(), {"wohle": 2})
    with pytest.raises(ValueError, match="unknown fruit 'aple': did you mean 'apple'"):
        require_known("fruit", "aple", ["apple", "pear"])
