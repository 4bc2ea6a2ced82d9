"""The page of the references, as ``references.bib`` gives it."""

import re
from pathlib import Path

import nbformat
import pytest

from tests.conftest import book_module

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "book" / "references.ipynb"


@pytest.fixture(scope="module")
def references():
    """The module book/references.py."""
    return book_module("references")


def entry(**changes):
    fields = {"author": "Song, Yang and Dhariwal, Prafulla", "title": "Of {GAN}s", "journal": "arXiv", "year": "2024"}
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in (fields | changes).items())
    return f"@article{{A-key,\n{lines}}}"


# Value: what a reader sees


def test_a_work_is_described_below_its_key(references):
    ((key, work),) = references.works(f"% a word before\n\n{entry(eprint='2310.14189')}\n").items()
    shown = references.described(key, *work)
    assert shown.startswith("## A-key\n\nYang Song and Prafulla Dhariwal. *Of GANs*. arXiv, 2024. [arXiv 2310.14189]")
    assert "(https://arxiv.org/abs/2310.14189)" in shown
    assert f"```bibtex\n{work[0]}\n```" in shown  # to be copied as it is
    assert work[0] == entry(eprint="2310.14189")


@pytest.mark.parametrize(
    ("author", "shown"),
    [("Song, Yang", "Yang Song."), ("Geng, Zhengyang and others", "Zhengyang Geng and others."),
     ("A, B and C, D and E, F", "B A, D C and F E.")],
)  # fmt: skip
def test_authors_are_named_as_one_says_them(references, author, shown):
    ((key, work),) = references.works(entry(author=author)).items()
    assert f"\n\n{shown} *" in references.described(key, *work)


# Invariant: one source


def test_the_page_is_that_of_the_entries(references):
    assert PAGE.read_text("utf8") == references.page(), "make format writes it"


def test_each_work_is_cited_and_stands_once(references):
    bibtex = (ROOT / "book" / "references.bib").read_text("utf8")
    found = references.works(bibtex)
    assert len(found) == bibtex.count("\n@") >= 23
    cells = [cell.source for path in (ROOT / "book").glob("*.ipynb") for cell in nbformat.read(path, 4).cells]
    cited = set(re.findall(r"references\.ipynb#([\w-]+)", "\n".join(cells)))
    assert cited == set(found)
    years = [int(fields["year"]) for _, fields in found.values()]
    assert years == sorted(years)


# Errors


@pytest.mark.parametrize("wrong", ["title = {no comma}\n", "@article{b, title = {x}}", "@article{b,\n  title = x,\n}"])
def test_another_form_is_refused_with_its_line(references, wrong):
    with pytest.raises(ValueError, match="one field a line") as caught:
        references.works(f"{entry()}\n{wrong}")
    assert wrong.splitlines()[0] in str(caught.value)
