"""What the builder does to Jupyter Book's pages: formulas, names and roles, texts for the search."""

import json
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import book_module

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def finish():
    """The module book/finish.py, with the third-party files in place."""
    book_module("web_assets").install()
    return book_module("finish")


def soup(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


# Value: what a reader gets


@pytest.fixture
def pages(finish, tmp_path, monkeypatch):
    monkeypatch.setattr(finish, "STATIC", tmp_path)
    inline = r'<p><span class="math notranslate">\(a &lt; \frac{1}{\bm x}\)</span></p>'
    numbered = r'<div class="math"><span class="eqno">(7)</span>\[y^2\]</div><div class="math">\[ z \tag{3b} \]</div>'
    found = {tmp_path / "a.html": soup(inline), tmp_path / "b.html": soup(numbered)}
    finish.write_formulas(found)
    return list(found.values())


def test_a_formula_is_drawn_and_readable(pages):
    page = pages[0]
    assert page.select_one("mjx-math")["aria-hidden"] == "true"
    assert page.select_one("mjx-assistive-mml math").get_text() == "a<1x"
    assert page.select_one("mjx-mfrac")
    assert r"\(" not in page.get_text()


def test_numbers_stand_beside_their_formulas(pages):
    assert [number.get_text() for number in pages[1].select(".eqno")] == ["(7)", "(3b)"]
    assert [formula.get_text() for formula in pages[1].select("math")] == ["y2", "z"]
    assert all(formula["display"] == "true" for formula in pages[1].select("mjx-container"))


def test_the_fonts_of_the_style_sheet_are_there(pages, tmp_path):
    css = (tmp_path / "formulas.css").read_text("utf8")
    fonts = {part.split('"')[0] for part in css.split('url("')[1:]}
    assert fonts
    assert all((tmp_path / font).exists() for font in fonts)


def test_the_search_reads_words_of_each_section_and_no_source_of_formulas(finish):
    page = soup(
        '<main role="main"><article><section id="one"><h1>Title<a class="headerlink">#</a></h1>\n<p>whole</p>\n'
        '<section id="two"><p>inner <mjx-container><mjx-math></mjx-math><math><mi>x</mi><mfrac><mi>a</mi>'
        "<mfrac><mn>1</mn><mi>b</mi></mfrac></mfrac></math></mjx-container></p>\n"
        "<details><summary>Answer</summary><p>because</p></details></section></section></article></main>"
    )
    assert finish.texts(page) == {
        "": "Title whole inner xa/(1/b) because",
        "#one": "Title whole inner xa/(1/b) because",
        "#two": "inner xa/(1/b) because",
    }


def test_names_and_roles_are_those_that_are_seen(finish):
    page = soup(
        '<table><tr><th>&nbsp;</th><th>N</th></tr></table><summary aria-label="other">Show</summary>'
        '<button class="search-button__button" aria-label="Search">Search Ctrl+K</button>'
        '<div id="pst-primary-sidebar"></div>'
    )
    finish.mend(page)
    assert [cell.name for cell in page.select("tr > *")] == ["td", "th"]
    assert not page.select("[aria-label]:not(#pst-primary-sidebar)")
    assert page.select_one("#pst-primary-sidebar")["role"] == "complementary"


@pytest.mark.parametrize(("opaque", "kind"), [(0.05, "plot"), (0.9, "pictures"), (1.0, "pictures")])
def test_plots_and_pictures_are_told_apart(finish, tmp_path, opaque, kind):
    levels = np.zeros((20, 100, 4), dtype=np.uint8)
    levels[:, : int(100 * opaque), 3] = 255
    Image.fromarray(levels).save(tmp_path / "a.png")
    page = soup('<div class="cell_output"><img src="a.png" alt="words"></div>')
    finish.sort_stills(page, tmp_path)
    image = page.select_one(".still > img")
    assert image["class"] == [kind]
    assert (image["width"], image["height"], image["alt"]) == (100, 20, "words")


def test_a_picture_that_knows_what_it_shows_says_so(finish, tmp_path):
    words = PngInfo()
    words.add_text("Description", "σ falls")
    Image.new("RGBA", (4, 4)).save(tmp_path / "a.png", pnginfo=words)
    page = soup('<div class="cell_output"><img src="a.png" alt="_images/a.png"></div>')
    finish.sort_stills(page, tmp_path)
    assert page.select_one("img")["alt"] == "σ falls"


# Errors


@pytest.mark.parametrize("source", [r"\frac{a", r"\nosuch x", r"\begin{aligned} a"])
def test_a_formula_that_cannot_be_read_is_named(finish, source):
    with pytest.raises(ValueError, match="a formula cannot be read") as caught:
        finish.typeset([("x", False), (source, True)])
    assert source in str(caught.value)


def test_the_code_of_figures_of_one_kind_stands_once(finish):
    models = {name: {"state": {"_esm": esm, "_css": "a {}", "at": name}} for name, esm in
              (("one", "export </script>"), ("two", "export </script>"), ("three", "other"))}  # fmt: skip
    models["layout"] = {"state": {}}
    page = soup('<script type="application/vnd.jupyter.widget-state+json"></script>')
    page.script.string = json.dumps({"state": models}).replace("</", "<\\/")
    finish.share_code(page)
    again = soup(str(page))
    assert str(page).count("</script>") == 1
    shared = json.loads(again.script.string)["state"]
    assert shared["two"]["state"] == {"_esm": {"of": "one"}, "_css": {"of": "one"}, "at": "two"}
    assert shared["three"]["state"] == {"_esm": "other", "_css": {"of": "one"}, "at": "three"}
    assert (shared["one"], shared["layout"]) == (models["one"], models["layout"])
