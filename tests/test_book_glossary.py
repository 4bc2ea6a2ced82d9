"""The glossary, and links to headings: each leads somewhere in JupyterLab, and in the built pages."""

import re
from pathlib import Path
from urllib.parse import urldefrag

import nbformat
import pytest
import yaml

from book.anchors import anchor

ROOT = Path(__file__).resolve().parents[1]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
PAGES = [TOC["root"], *(chapter["file"] for chapter in TOC["chapters"])]
HEADING = re.compile(r"^#{1,3} (.+)$", re.MULTILINE)


def text(page):
    cells = nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def links(page):
    """The links of a page to other pages and to headings, as they are written."""
    cells = nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells
    computed = "".join(cell.source for cell in cells if cell.cell_type == "code")  # sentences too
    found = re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]*)\)", text(page))
    found += re.findall(r"\]\(([a-z_]+\.ipynb[^)\s]*)\)", computed)
    return [link for link in found if not link.startswith(("http:", "https:"))]


TERMS = re.findall(r"^### (.+)$", text("book/glossary"), re.MULTILINE)


# --- value: the rule is JupyterLab's ---


@pytest.mark.parametrize(
    ("heading", "name"),
    [("FID", "FID"), ("probability-flow ODE", "probability-flow-ODE"), ("The map that is", "The-map-that-is")],
)
def test_a_heading_is_named_as_in_jupyterlab(heading, name):
    assert anchor(heading) == name


# --- invariant ---


def test_a_link_needs_no_escape():
    """JupyterLab compares a link, as the browser has escaped it, with the heading: é would never be found."""
    for term in TERMS:
        assert re.fullmatch(r"[A-Za-z0-9 -]+", term), term
    assert len({anchor(term).lower() for term in TERMS}) == len(TERMS)  # the built pages do not tell case apart


def test_a_term_has_one_or_two_plain_sentences_and_leads_to_where_it_is_explained():
    blocks = re.findall(r"^### (.+?)\n\n(.+?)(?=\n\n#|\Z)", text("book/glossary"), re.MULTILINE | re.DOTALL)
    assert [term for term, _ in blocks] == TERMS
    for term, block in blocks:
        said = re.sub(r"\$[^$]*\$|\(\[|\[([^\]]*)\]\([^)]*\)", r"\1", block)
        assert len(said.split()) <= 75, term
        assert re.search(r"\]\([a-z_]+\.ipynb\)", block), term


def test_terms_stand_in_their_order():
    for part in re.split(r"^## ", text("book/glossary"), flags=re.MULTILINE)[1:]:
        terms = [term.lower() for term in re.findall(r"^### (.+)$", part, re.MULTILINE)]
        assert terms == sorted(terms)


@pytest.mark.parametrize("page", PAGES)
def test_each_link_leads_to_a_page_of_the_book_and_to_a_heading_of_it(page):
    for link in links(page):
        target, name = urldefrag(link)
        target = f"book/{target.removesuffix('.ipynb')}" if target else page
        assert target in PAGES, link
        if name:
            assert name in [anchor(heading) for heading in HEADING.findall(text(target))], link


def test_a_word_is_linked_where_a_page_uses_it_first():
    found = {page: [link for link in links(page) if link.startswith("glossary.ipynb#")] for page in PAGES}
    assert not [page for page, names in found.items() if len(set(names)) < len(names)]  # once a page
    assert sum(map(len, found.values())) >= 60


# --- the built pages ---


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_each_link_within_the_built_pages_has_its_target(built_book):
    pages = {path: path.read_text("utf8") for path in (built_book / "book").glob("*.html")}
    seen = 0
    for path, html in pages.items():
        article = html.split("<article", 1)[1]
        for link in re.findall(r'href="([^":]*#[^"]+)"', article):
            target, name = urldefrag(link)
            other = pages[(path.parent / target).resolve()] if target else html
            assert f'id="{name}"' in other, (path.name, link)
            seen += target == "glossary.html"
    assert seen > 20
