"""What stands below a page's title: the time of its cells, and links to where the page can be opened."""

import json
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from tests.conftest import book_module

ROOT = Path(__file__).resolve().parents[1]
HUB = "https://github.com/someone/project"
MACHINE = {"processor": "a processor", "cores": 2, "date": "2026-11-28", "at_a_time": 2}
TIMES = {**MACHINE, "seconds": {"book/teacher": 41.6}}


@pytest.fixture(scope="module")
def top():
    """The module book/top.py."""
    return book_module("top")


def made(top, name="book/teacher", url="", times=TIMES):
    """A small page, after `add_top`."""
    minutes = "<p>goals</p><p><em>About 35 minutes. You need: nothing.</em></p>"
    page = BeautifulSoup(f"<article><h1>Title</h1>{minutes}<p>text</p></article>", "html.parser")
    top.add_top(page, name, times, {"url": url, "branch": "main"})
    return page


# Value: what a reader sees


def test_the_time_and_its_machine_stand_below_the_minutes(top):
    line = made(top).select_one("em").find_parent("p").find_next_sibling("p")
    assert line["class"] == ["page-top"]
    said = "Its cells took 42 s on 2 cores of a processor, 2 pages at a time, one thread each (2026-11-28)."
    assert line.get_text().strip() == said
    busy = made(top, times={**TIMES, "note": "while other work ran"})
    assert "(2026-11-28; while other work ran)" in busy.get_text()


def test_buttons_lead_to_the_page_where_the_project_is(top):
    links = {link.get_text(): link["href"] for link in made(top, url=HUB).select(".page-top a")}
    assert links == {
        "The project": HUB,
        "Open in Colab": "https://colab.research.google.com/github/someone/project/blob/main/book/teacher.ipynb",
        "Open in Binder": "https://mybinder.org/v2/gh/someone/project/main?urlpath=lab/tree/book/teacher.ipynb",
    }


def test_a_page_without_minutes_has_them_below_its_title(top):
    page = BeautifulSoup("<article><h1>Glossary</h1><p>text</p></article>", "html.parser")
    top.add_top(page, "book/glossary", {}, {"url": HUB})
    assert [element.name for element in page.article.find_all(recursive=False)] == ["h1", "p", "p"]
    assert page.select(".page-top a")


# Invariant: nothing stands where there is nothing to say


def test_without_an_address_there_are_no_buttons(top):
    assert not made(top).select("a")


def test_without_a_measurement_nothing_is_said_of_time(top):
    assert not made(top, times={}).select(".page-top")
    assert not made(top, name="book/other").select(".page-top")
    assert "took" not in made(top, times={}, url=HUB).get_text()


def test_a_page_is_no_page_of_the_book(top):
    page = BeautifulSoup("<div>search</div>", "html.parser")
    top.add_top(page, "search", TIMES, {"url": HUB})
    assert str(page) == "<div>search</div>"


@pytest.mark.parametrize("url", [f"{HUB}.git", f"{HUB}/"])
def test_an_address_may_be_written_as_git_clones_it(top, url):
    assert top.places("book/a", url, "main") == top.places("book/a", HUB, "main")


@pytest.mark.parametrize("url", ["https://example.org/someone/project", "https://github.com/someone"])
def test_colab_and_binder_are_not_offered_where_they_find_nothing(top, url):
    assert list(top.places("book/a", url, "main")) == ["The project"]


def test_the_setting_is_one(top):
    assert top.repository().keys() == {"url", "branch"}
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.ipynb")}
    assert json.loads(top.TIMES.read_text("utf8"))["seconds"].keys() <= pages
