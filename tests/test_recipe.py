"""Design choices and the ladder from CT to iCT: `ict_lib.recipe`."""

import dataclasses
import inspect
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

from ict_lib.checks import difference
from ict_lib.objective import levels
from ict_lib.recipe import CT, ICT, ICT_DEEP, LADDER, PRESETS, RANGES, Recipe
from ict_lib.techniques import curriculum, distance, noise_schedule, teacher, weighting

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
    assert {ICT: 1}[replace(ICT)] == 1


@pytest.mark.parametrize("technique", [weighting, teacher, distance, curriculum, noise_schedule])
def test_a_recipe_knows_the_alternatives_of_every_technique_by_their_names(technique):
    field = technique.__name__.rpartition(".")[2]
    assert get_args(get_type_hints(Recipe)[field]) == tuple(technique.CHOICES)
    assert inspect.getsource(technique).rstrip().rpartition("\n")[2].startswith("CHOICES = ")


def test_nothing_else_is_chosen_by_a_name():
    names = {name for name, hint in get_type_hints(Recipe).items() if get_origin(hint) is Literal}
    assert names == {"weighting", "teacher", "distance", "curriculum", "noise_schedule"}


def test_a_recipe_is_made_without_loading_torch():
    code = "import sys, ict_lib.recipe, ict_lib.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_difference_of_the_presets_lists_the_seven_improvements():
    said = difference(dataclasses.asdict(CT), dataclasses.asdict(ICT))
    assert said.count("->") == 7
    assert "teacher: ema -> student" in said


# Errors


@pytest.mark.parametrize("name", RANGES)
def test_a_number_is_refused_beyond_both_ends_of_its_range(name):
    for end, beyond in zip(RANGES[name], (-1, 1), strict=True):
        value = end + beyond if isinstance(end, int) else end * 1.01**beyond
        with pytest.raises(ValueError, match=f"{name} is {value}: .* <= {name} <= .* is needed"):
            replace(ICT, **{name: value})


EXTREMES = [
    {"s0": 1},
    {"s0": 1, "s1": 1},
    {"s1": 1_000_000},
    {"sigma_min": 1e-6, "sigma_max": 1e4, "rho": 0.1},
    {"sigma_min": 1e-6, "sigma_max": 1e4, "rho": 1000},
    {"p_std": 0.01},
    {"p_mean": 10.3},
]


@pytest.mark.parametrize("change", EXTREMES)
def test_what_is_allowed_makes_a_grid_whose_pairs_can_be_drawn(change):
    recipe = replace(ICT, **change)
    for step in (0, 400_000):
        num_scales = curriculum.num_scales_at(recipe, step, 400_000)
        pairs = levels(recipe, num_scales, torch.device("cpu"))
        assert all(bool(table.isfinite().all()) for table in pairs)
        assert float(pairs.pmf.sum()) == pytest.approx(1, rel=1e-4)
    levels.cache_clear()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dropout": 1.0}, "dropout is 1.0: 0 <= dropout < 1 is needed"),
        ({"dropout": -0.1}, "0 <= dropout < 1"),
        ({"mu0": 1}, "0 < mu0 < 1"),
        ({"mu0": 0.0}, "0 < mu0 < 1"),
        ({"sigma_min": 80.0}, "sigma_min is 80.0: sigma_min < 80.0 is needed"),
        ({"sigma_max": 1e30}, "sigma_max is 1e[+]30: 0.001 <= sigma_max <= 10000.0 is needed"),
        ({"p_mean": 900.0}, "p_mean is 900.0: -6.21 to 4.38, the grid, or within 3 p_std of it, is needed"),
        ({"p_mean": -13.0}, "p_mean is -13.0"),
        ({"s1": 10**9}, "s1 is 1000000000: 1 <= s1 <= 1000000 is needed"),
        ({"s0": 20, "s1": 10}, r"s0, s1 is \(20, 10\): 1 <= s0 <= s1"),
        ({"curriculum": "square_root", "s0": 1}, "s0 is 1: 2 or more, as here it counts levels"),
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
        replace(ICT, **change)
