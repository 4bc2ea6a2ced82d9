"""Finishes the pages that Jupyter Book wrote: formulas are typeset here, so that a reader's browser only shows them.

Also: no script that draws what the fonts already hold, names and roles for screen readers, and texts for the search,
which a browser may not fetch from a disk. Below a title stands what `top` says.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import yaml
from bs4 import BeautifulSoup, Tag
from execute import BUILD, ROOT
from PIL import Image
from top import TIMES, add_top, repository
from web_assets import node

from ict_lib.files import read_json

HTML = BUILD / "html"
STATIC = HTML / "_static"
MATHJAX = ROOT / "node_modules" / "mathjax"
TAG = re.compile(r"\\tag\{(.*?)\}")
# Font Awesome's script draws the icons again that its font, in the theme's style sheet, shows.
NEEDLESS = re.compile(r"scripts/fontawesome\.js|mathjax|^window\.MathJax")
UNSPOKEN = ".headerlink, script, style, mjx-math, summary, .tag_hide-input .cell_input"


def typeset(formulas: list[tuple[str, bool]]) -> tuple[list[str], str]:
    """Typeset formulas, each in TeX and whether it stands alone: HTML with MathML in it, and one style sheet for all.

    Raises:
        ValueError: if one of them cannot be read.
    """
    settings = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["sphinx"]["config"]["mathjax3_config"]
    given = {"tex": settings["tex"], "fonts": "mathjax", "formulas": formulas}
    command = [node(), str(ROOT / "book" / "typeset.cjs")]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(given), capture_output=True, encoding="utf8", check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip())
    found = json.loads(done.stdout)
    return found["html"], found["css"]


def source_of(place: Tag) -> str:
    """TeX of a formula without its delimiters; the number beside it is no part of it."""
    texts = [text for text in place.find_all(string=True, recursive=False) if text.strip()]
    return "".join(texts).strip().removeprefix(r"\[").removesuffix(r"\]").removeprefix(r"\(").removesuffix(r"\)")


def write_formulas(pages: dict[Path, BeautifulSoup]) -> None:
    r"""Put typeset formulas into the pages; a ``\tag`` becomes a number beside its formula, as a label's does."""
    places = [place for page in pages.values() for place in page.select(".math")]
    sources = [source_of(place) for place in places]
    found, css = typeset(
        [(TAG.sub("", source), place.name == "div") for source, place in zip(sources, places, strict=True)]
    )
    for place, source, html in zip(places, sources, found, strict=True):
        for text in place.find_all(string=True, recursive=False):
            text.extract()
        for number in TAG.findall(source):
            place.append(BeautifulSoup(f'<span class="eqno">({number})</span>', "html.parser"))
        place.insert(0, BeautifulSoup(html, "html.parser"))
    (STATIC / "formulas.css").write_text(css, "utf8")
    fonts = shutil.copytree(MATHJAX / "es5/output/chtml/fonts/woff-v2", STATIC / "mathjax", dirs_exist_ok=True)
    shutil.copy2(MATHJAX / "LICENSE", fonts)


def mend(page: BeautifulSoup) -> None:
    """Correct names and roles: axe's rules name each of these."""
    for element in page.select("summary[aria-label], .search-button__button[aria-label]"):
        del element["aria-label"]  # other words than those that are seen
    for cell in page.select("th"):
        if not cell.get_text(strip=True):
            cell.name = "td"
    for sidebar in page.select("#pst-primary-sidebar"):
        sidebar["role"], sidebar["aria-label"] = "complementary", "The book"
    for toggle in page.select(".sidebar-toggle[title]"):
        toggle["aria-label"] = toggle["title"]


def sort_stills(page: BeautifulSoup, folder: Path) -> None:
    """Tell the style sheet what each still figure is, a plot or pictures, and its width, and readers what it shows."""
    for image in page.select(".cell_output img[src$='.png']"):
        with Image.open(folder / image["src"]) as still:
            opaque = np.asarray(still.convert("RGBA"))[..., 3] > 200
            image["alt"] = still.info.get("Description", image.get("alt", ""))  # of `ict_lib.display.plots.still`
        height, width = opaque.shape
        image["class"] = ["pictures" if opaque.mean() > 0.3 else "plot"]
        image["width"], image["height"], image["style"] = width, height, f"--own-width: {width}px"
        image.wrap(page.new_tag("div", attrs={"class": "still"}))


def texts(page: BeautifulSoup) -> dict[str, str]:
    """What a page says, as a whole under the empty name, and in each of its sections, ``#name``."""
    main = BeautifulSoup(str(page.select_one("[role=main] article") or ""), "html.parser")
    for element in main.select(UNSPOKEN):
        element.extract()
    for fraction in main.select("mfrac"):
        over, under = fraction.find_all(recursive=False)
        for part in (over, under):
            if len(part.get_text()) > 1:
                part.insert(0, "(")
                part.append(")")
        under.insert_before("/")
    sections = {"": main} | {f"#{section['id']}": section for section in main.select("section[id]")}
    return {name: " ".join(section.get_text().split()) for name, section in sections.items()}


def share_code(page: BeautifulSoup) -> None:
    """Keep the code and the style of figures of one kind once; the others say whose they are (see `widgets.js`)."""
    for script in page.select('script[type="application/vnd.jupyter.widget-state+json"]'):
        saved, first = json.loads(script.string), {}
        for name, model in saved["state"].items():
            for key in ("_esm", "_css"):
                whole = model["state"].get(key)
                if whole and first.setdefault(whole, name) != name:
                    model["state"][key] = {"of": first[whole]}
        script.string = json.dumps(saved).replace("</", "<\\/")


def link(page: BeautifulSoup, up: str) -> None:
    """Take out the scripts that have become needless, and name the files that came to be here."""
    for early in page.select("link[rel=preload][as=script]"):
        early.extract()  # fetched twice where nothing is kept; the script itself stands on the page
    for script in page.select("script"):
        if NEEDLESS.search(script.get("src") or script.get_text()):
            script.extract()
    if page.select_one("mjx-container"):
        page.head.append(page.new_tag("link", rel="stylesheet", href=f"{up}_static/formulas.css"))
    if page.select_one("#search-results"):
        for name in ("search_texts.js", "search.js"):
            page.head.append(page.new_tag("script", src=f"{up}_static/{name}"))


def give_index_an_icon() -> None:
    """Jupyter Book's first page only leads to the next; without an icon of its own a browser asks for a missing one."""
    index = HTML / "index.html"
    index.write_text('<link rel="icon" href="data:,">\n' + index.read_text("utf8"), "utf8")


def finish() -> None:
    """Finish all pages.

    Raises:
        ValueError: if a formula cannot be read.
    """
    pages = {path: BeautifulSoup(path.read_text("utf8"), "html.parser") for path in sorted(HTML.rglob("*.html"))}
    pages = {path: page for path, page in pages.items() if page.body and STATIC not in path.parents}
    write_formulas(pages)
    said = {path.relative_to(HTML).as_posix(): texts(page) for path, page in pages.items()}
    (STATIC / "search_texts.js").write_text(f"const PAGE_TEXTS = {json.dumps(said, ensure_ascii=False)};\n", "utf8")
    times, where = read_json(TIMES) or {}, repository()
    for path, page in pages.items():
        add_top(page, path.relative_to(HTML).with_suffix("").as_posix(), times, where)
        mend(page)
        sort_stills(page, path.parent)
        share_code(page)
        link(page, "../" * len(path.relative_to(HTML).parent.parts))
        path.write_text(str(page), "utf8")
    for script in (STATIC / "scripts").glob("fontawesome.js*"):
        script.unlink()
    give_index_an_icon()
