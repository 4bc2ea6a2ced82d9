"""The page of the library: what house rules call public, read from the docstrings."""

import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [
    "karras_sigmas",
    "doubling",
    "square_root",
    "lognormal_pmf",
    "uniform_pmf",
    "huber_c",
    "pseudo_huber",
    "squared_l2",
    "l1",
    "lpips",
    "inverse_gap",
    "inverse_root_gap",
    "uniform",
    "ema_decay",
    "ConsistencyModel",
    "Recipe",
    "consistency_training_loss",
    "sample",
    "train",
    "launch",
    "edit",
    "execute",
    "Run",
]


@pytest.fixture(scope="module")
def said():
    """What the page's cells say, as Markdown."""
    space, found = {}, []
    for cell in nbformat.read(ROOT / "book" / "library.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, space)
            space["say"] = found.append
    assert found
    return "\n".join(found)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_there_with_a_line_and_a_page(said, name):
    (line,) = re.findall(rf"^- \*\*`{name}`\*\*.*$", said, re.MULTILINE)
    assert re.search(r"`\(.*\)` of `ict_lib\.[\w.]+`\. [A-Z].{15,}\. \[.+\]\(\w+\.ipynb\)$", line), line


def test_a_call_is_shown_as_it_is_written(said):
    assert "`karras_sigmas`**`(num_scales, sigma_min=0.002, sigma_max=80.0, rho=7.0)` of `ict_lib.grid`" in said
    assert "`execute`**`(run, show=iter, resume=True)` of `ict_lib.run.execute`" in said


def test_no_markup_of_docstrings_is_left(said):
    assert "``" not in said
    assert not re.findall(r":\w+:`", said)


def test_links_lead_to_pages_that_say_the_name(said):
    """A page explains a function if it uses or shows it; of the networks, pages say what they are built of."""
    found = re.findall(r"^- \*\*`(\w+)`\*\*.* of `ict_lib\.(\w+)\b.*\((\w+\.ipynb)\)$", said, re.MULTILINE)
    assert len(found) == said.count("- **")
    for name, part, page in found:
        text = (ROOT / "book" / page).read_text("utf8")
        assert re.search(rf"\b{name}\b", text) or part == "networks", (name, page)
