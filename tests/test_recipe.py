"""Design choices and the ladder from CT to iCT: `ict_lib.recipe`."""

import dataclasses
import math
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Literal

import pytest

from ict_lib.checks import check_types, difference, nearest, override
from ict_lib.recipe import CT, ICT, ICT_DEEP, LADDER, PRESETS, Recipe

# Value from the paper: the table of design choices, for CIFAR-10

PAPER = {
    "ICT": {
        "weighting": "inverse_gap",
        "fourier_scale": 0.02,
        "dropout": 0.3,
        "teacher": "student",
        "distance": "pseudo_huber",
        "curriculum": "doubling",
        "noise_schedule": "lognormal",
        "p_mean": -1.1,
        "p_std": 2.0,
        "depth": 1,
    },
    "CT": {
        "weighting": "uniform",
        "fourier_scale": 16,
        "dropout": 0,
        "teacher": "ema",
        "mu0": 0.9,
        "distance": "squared_l2",  # published with LPIPS; the paper's ablations start from squared l2
        "curriculum": "square_root",
        "noise_schedule": "uniform",
        "depth": 1,
    },
}
PAPER["ICT_DEEP"] = {**PAPER["ICT"], "depth": 2}
COMMON = {"sigma_min": 0.002, "sigma_max": 80, "rho": 7, "sigma_data": 0.5}


@pytest.mark.parametrize("name", PAPER)
def test_the_presets_are_the_papers(name):
    recipe = dataclasses.asdict(PRESETS[name])
    for choice, value in {**PAPER[name], **COMMON}.items():
        assert recipe[choice] == value


def test_the_constants_that_a_preset_leaves_open_are_those_of_its_curriculum_and_distance():
    assert {(r.s0, r.s1, r.huber_c) for r in PRESETS.values()} == {(None, None, None)}


def test_the_ladders_rungs_come_in_the_order_of_the_papers_sections():
    chosen = [changed(a, b)[0] for (_, a), (_, b) in pairwise(LADDER)]
    sections = ["weighting", "fourier_scale", "dropout", "teacher", "distance", "curriculum", "noise_schedule"]
    assert chosen == sections


# Invariant


def changed(a, b):
    return [f.name for f in fields(Recipe) if getattr(a, f.name) != getattr(b, f.name)]


def test_every_rung_changes_one_field():
    assert [len(changed(a, b)) for (_, a), (_, b) in pairwise(LADDER)] == [1] * 7


def test_the_ladder_leads_from_ct_to_ict():
    assert LADDER[0][1] == CT
    assert LADDER[-1][1] == ICT
    assert len({name for name, _ in LADDER}) == len(LADDER)


def test_deep_differs_in_depth_only():
    assert changed(ICT, ICT_DEEP) == ["depth"]


def test_a_recipe_cannot_be_changed_but_serves_as_a_key():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ICT.dropout = 0.5
    assert {ICT: 1}[override(ICT, {})] == 1


# Independent slow reference: what override and difference do, said once more with plain dicts


def test_override_changes_what_is_named_and_nothing_else():
    new = override(ICT, {"dropout": 0.1, "huber_c": 0.03, "s1": 640})
    assert dataclasses.asdict(new) == {**dataclasses.asdict(ICT), "dropout": 0.1, "huber_c": 0.03, "s1": 640}
    assert ICT.dropout == 0.3


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


def test_the_difference_of_the_presets_lists_the_seven_improvements():
    said = difference(dataclasses.asdict(CT), dataclasses.asdict(ICT))
    assert said.count("->") == 7
    assert "teacher: ema -> student" in said


# Types


@dataclass(frozen=True)
class Example:
    whole: int = 1
    number: float = 1.0
    maybe: int | None = None
    words: list = field(default_factory=list)
    kind: Literal["apple", "pear"] = "apple"
    yes: bool = False


@pytest.mark.parametrize("change", [{"number": 3}, {"maybe": 7}, {"words": ["a"]}, {"kind": "pear"}, {"yes": True}])
def test_right_types_pass(change):
    check_types(Example(**change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"whole": 1.5}, "whole is 1.5, a float: int is needed"),
        ({"whole": True}, "whole is True, a bool: int is needed"),
        ({"whole": None}, "whole is None, a NoneType: int is needed"),
        ({"number": "1e-4"}, r"number is '1e-4', a str: float is needed \(YAML reads 1e-4 as text: write 1.0e-4\)"),
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


# Errors


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dropout": 1.0}, "dropout is 1.0: 0 <= dropout < 1 is needed"),
        ({"dropout": -0.1}, "0 <= dropout < 1"),
        ({"mu0": 1}, "0 < mu0 < 1"),
        ({"mu0": 0.0}, "0 < mu0 < 1"),
        ({"sigma_min": 0.0}, "0 < sigma_min < sigma_max"),
        ({"sigma_min": 80.0}, "0 < sigma_min < sigma_max"),
        ({"fourier_scale": 0.0}, "fourier_scale > 0"),
        ({"p_std": -2.0}, "p_std > 0"),
        ({"rho": 0}, "rho > 0"),
        ({"sigma_data": 0.0}, "sigma_data > 0"),
        ({"depth": 0}, "depth > 0"),
        ({"s0": 0}, "s0 > 0"),
        ({"s1": -1}, "s1 > 0"),
        ({"huber_c": 0.0}, "huber_c > 0"),
        ({"s0": 2.5}, "s0 is 2.5, a float: int or null"),
        ({"teacher": "studnet"}, "did you mean 'student'"),
        ({"distance": "huber"}, "did you mean 'pseudo_huber'"),
        ({"curriculum": "doubeling"}, "did you mean 'doubling'"),
        ({"noise_schedule": "normal"}, "did you mean 'lognormal'"),
        ({"weighting": "inverse"}, "did you mean 'inverse_gap'"),
    ],
)
def test_a_value_that_breaks_a_rule_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        override(ICT, change)


def test_an_unknown_field_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown field 'drop_out' of Recipe: did you mean 'dropout'"):
        override(ICT, {"drop_out": 0.1})


def test_far_from_every_name_all_are_listed():
    assert nearest("zzz", ["pear", "apple"]) == "known are apple, pear"
