"""The marks of a run file: `ict_lib.plan.marks`."""

import pytest

from ict_lib.plan.marks import MARKS, settings_of

TEXT = """# Behind "#:" stands what the code says already: a value of 3  # [A]
name: a/run
recipe:
  dropout: 0.2  # [M] a note: with a colon
  s1: 20  # [own]
steps: 3  # [A]
#: optimizer: {betas: [0.9, 0.999], weight_decay: 0}  # [B]
#: flip: true  # [C]

network_options:
  multipliers: [1, 2]  # [own]
seeds: [0]
"""

# --- value: one line, one setting; a mapping, one for each entry ---


def test_the_settings_of_a_file_in_its_order():
    assert settings_of(TEXT) == [
        ("recipe.dropout", 0.2, "M", "a note: with a colon", False),
        ("recipe.s1", 20, "own", "", False),
        ("steps", 3, "A", "", False),
        ("optimizer.betas", [0.9, 0.999], "B", "", True),
        ("optimizer.weight_decay", 0, "B", "", True),
        ("flip", True, "C", "", True),
        ("network_options.multipliers", [1, 2], "own", "", False),
    ]


def test_the_marks_are_those_of_the_notes_and_our_own():
    assert set(MARKS) == {"A", "B", "C", "M", "own"}


# --- invariant ---


def test_a_line_without_mark_and_a_comment_give_nothing():
    assert settings_of("steps: 1\nseeds: [0]  # a note\n# [A] no value\n# steps: 3  # [A]\n") == []


def test_an_indented_line_belongs_to_the_nearest_opening():
    names = [s.name for s in settings_of("a:\n  x: 1  # [A]\ny: 2  # [A]\nb:\n  x: 3  # [A]\n")]
    assert names == ["a.x", "y", "b.x"]


# --- errors ---


def test_an_unknown_mark_is_refused():
    with pytest.raises(ValueError, match=r"mark is 'X' in 'steps: 1  # \[X\]': one of A, B, C, M, own"):
        settings_of("steps: 1  # [X]")
