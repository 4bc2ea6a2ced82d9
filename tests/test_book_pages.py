"""The built pages in a browser: quiet, whole, alive, legible, over http and from the disk."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONTENTS = yaml.safe_load((ROOT / "_toc.yml").read_text("utf8"))
CHAPTERS = [CONTENTS["root"], *(entry["file"] for entry in CONTENTS["chapters"])]
PAGES = [*CHAPTERS, "index", "search", "genindex"]
WIDGET_STATE = re.compile(r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', re.DOTALL)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(3600)]

WAIT_FOR_PAGE = """
const done = arguments[0];
const ready = async () => {
  await document.fonts.ready;
  const views = document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]').length;
  for (let i = 0; i < 100 && document.querySelectorAll('.ict-explorer').length < views; i += 1)
    await new Promise((next) => setTimeout(next, 50));
  await new Promise((next) => requestAnimationFrame(() => requestAnimationFrame(next)));
};
ready().then(() => done(null), (error) => done(String(error)));
"""
AXE = """
const [place, done] = arguments;
axe.run(place, {resultTypes: ['violations']}).then((found) => done(found.violations
  .map(({id, nodes}) => `${id}: ${nodes.slice(0, 5).map((node) => node.html.slice(0, 160)).join(' | ')}`)));
"""
PICTURES = """
return [...arguments[0].querySelectorAll('.ict-picture')]
  .map((picture) => picture.toDataURL ? picture.toDataURL() : picture.innerHTML).join('')
"""
# Contrast of everything drawn or written in the widgets against the page, as the canvas sees the colours.
CONTRAST = """
const context = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
const rgb = (...colors) => { for (const color of colors) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3); };
const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const light = (channels) => channels.map((c) => linear(c / 255))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
let place = document.querySelector('article.bd-article');
while (place && getComputedStyle(place).backgroundColor === 'rgba(0, 0, 0, 0)') place = place.parentElement;
const paper = getComputedStyle(place || document.body).backgroundColor;
const contrast = (ink) => { const [a, b] = [light(rgb(paper)), light(rgb(paper, ink))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); };
const found = [];
const all = (selector) => document.querySelectorAll(`.ict-explorer ${selector}`);
const check = (selector, property, least) => all(selector).forEach((element) => {
  const ink = getComputedStyle(element)[property];
  if (contrast(ink) < least) found.push(`${selector} ${ink} on ${paper}: ${contrast(ink).toFixed(2)} < ${least}`); });
check('text', 'fill', 4.5); check('label', 'color', 4.5); check('output', 'color', 4.5);
check('.ict-button', 'color', 4.5); check('.ict-ends', 'color', 4.5); check('.ict-link button', 'color', 4.5);
check('.ict-readout *', 'color', 4.5); check('.ict-caption', 'color', 4.5);
check('.ict-line', 'stroke', 3); check('.ict-points', 'stroke', 3); check('.ict-area', 'fill', 3);
return found;
"""


def open_page(browser, base: str, page: str) -> None:
    """Load a page afresh, with empty logs, and wait until it stands still."""
    browser.untouched = None
    browser.get("about:blank")
    for log in ("performance", "browser"):
        browser.get_log(log)
    browser.get(f"{base}/{page}.html".removesuffix("#.html"))
    error = browser.execute_async_script(WAIT_FOR_PAGE)
    assert error is None, error


def look_at(browser, base: str, page: str) -> None:
    """Load a page, unless it is there and all since have only looked at it, too."""
    if getattr(browser, "untouched", None) != (base, page):
        open_page(browser, base, page)
        browser.untouched = (base, page)


def requests(browser) -> list[str]:
    """Address of every request since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent]


def complaints(browser) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


@pytest.fixture(scope="module", params=["http", "file"])
def base(request: pytest.FixtureRequest, built_book: Path, served_book: str) -> str:
    return served_book if request.param == "http" else built_book.as_uri()


# Tests that only look at a page share its loading: the scope of the parameter puts them one after another.


@pytest.mark.parametrize("page", PAGES, scope="module")
def test_page_is_quiet_and_asks_nobody_outside(browser, base, page):
    browser.untouched = None  # its logs are wanted
    look_at(browser, base, page)
    own = (base + "/", "data:", "blob:", "about:")
    outside = [url for url in requests(browser) if not url.startswith(own)]
    assert not outside
    assert not complaints(browser)


@pytest.mark.parametrize("page", CHAPTERS, scope="module")
def test_formulas_are_typeset_and_begin_at_their_left_end(browser, base, page):
    look_at(browser, base, page)
    bare = browser.execute_script(
        "return [...document.querySelectorAll('.math')]"
        ".filter((e) => !e.querySelector('mjx-math').getBoundingClientRect().width || !e.querySelector('math'))"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert not bare
    raw = browser.execute_script(
        "return [...document.querySelectorAll('.bd-article :is(p, li)')].map((e) => e.textContent)"
        ".filter((words) => /[$]|[{](math|eq|ref|cite|numref)[}]/.test(words))"
    )
    assert not raw  # in computed sentences too
    hidden = browser.execute_script(
        "return [...document.querySelectorAll('mjx-container[display]')].filter((e) => e.getBoundingClientRect().left"
        " > e.querySelector('mjx-math > *').getBoundingClientRect().left + 1).map((e) => e.textContent)"
    )
    assert not hidden


def violations(browser, place: str = "html") -> list[str]:
    """What axe's rules find wrong."""
    browser.execute_script((ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text("utf8"))
    return browser.execute_async_script(AXE, place)


def set_theme(browser, theme: str) -> None:
    """Change the theme, at once: colours that fade over would have to be waited for."""
    browser.execute_async_script(
        "const style = document.head.appendChild(document.createElement('style'));"
        "style.textContent = '* { transition: none !important; animation: none !important }';"
        "document.documentElement.dataset.theme = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(arguments[1]))",
        theme,
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", [*PAGES, "search.html?q=teacher#"], scope="module")
def test_page_is_accessible_and_legible(browser, served_book, page, theme):
    look_at(browser, served_book, page)
    set_theme(browser, theme)
    assert not violations(browser)
    assert not browser.execute_script(CONTRAST)


@pytest.mark.parametrize("page", CHAPTERS, scope="module")
def test_page_fits_a_narrow_screen(browser, served_book, emulate, page):
    look_at(browser, served_book, page)
    emulate(400)
    sizes = browser.execute_script(
        "const article = document.querySelector('article.bd-article');"
        "return [document.documentElement.scrollWidth, article.scrollWidth - article.clientWidth]"
    )
    assert sizes[0] <= 400
    assert sizes[1] <= 0


def saved_explorers(built_book: Path, page: str) -> list[dict]:
    """The specification of each Explorer in the order of the page, from the page's own text."""
    text = (built_book / f"{page}.html").read_text("utf8")
    state = WIDGET_STATE.search(text)
    models = json.loads(state[1])["state"] if state else {}
    ids = re.findall(r'widget-view\+json">(\{.*?\})</script>', text)
    specs = [models[json.loads(html.unescape(view))["model_id"]]["state"].get("spec", {}) for view in ids]
    return [spec for spec in specs if "sliders" in spec]


def weights_on(built_book: Path, page: str) -> int:
    """Bytes of the models that live on a page, as they stand there."""
    state = WIDGET_STATE.search((built_book / f"{page}.html").read_text("utf8"))
    models = json.loads(state[1])["state"].values() if state else ()
    live = [model for model in models if "sigma_data" in model["state"].get("spec", {})]
    return sum(len(buffer["data"]) for model in live for buffer in model["buffers"])


def shown(figure) -> tuple[list[str], list[str]]:
    """What the outputs beside the sliders and the readouts say."""
    return tuple(
        [element.text for element in figure.find_elements("css selector", selector)]
        for selector in (".ict-slider output", ".ict-readout strong")
    )


def check_texts(figure, spec: dict, index: list[int]) -> None:
    """Hold the words on the page to the specification."""
    slider_texts, readout_texts = shown(figure)
    assert slider_texts == [slider["text"][i] for slider, i in zip(spec["sliders"], index, strict=True)]
    for readout, text in zip(spec["readouts"], readout_texts, strict=True):
        row = 0
        for length, i in zip(readout["shape"], index, strict=True):
            row = row * length + (i if length > 1 else 0)
        assert text == " ".join(readout["text"][row].split())


def positions(figure) -> list[int]:
    return [int(slider.get_property("value")) for slider in figure.find_elements("css selector", "input")]


@pytest.mark.parametrize("page", CHAPTERS)
def test_sliders_move_their_pictures(browser, base, built_book, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    open_page(browser, base, page)
    specs = saved_explorers(built_book, page)
    figures = browser.find_elements("css selector", ".ict-explorer:not(.ict-live, .ict-playground)")
    assert len(figures) == len(specs)
    for figure, spec in zip(figures, specs, strict=True):
        check_texts(figure, spec, positions(figure))
        for axis, slider in enumerate(figure.find_elements("css selector", "input")):
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
            last = len(spec["sliders"][axis]["text"]) - 1
            seen = []
            for key, position in (
                (Keys.END, last),
                (Keys.ARROW_LEFT, last - 1),
                (Keys.HOME, 0),
            ):  # by keyboard
                slider.send_keys(key)
                assert positions(figure)[axis] == position
                check_texts(figure, spec, positions(figure))
                assert slider.get_attribute("aria-valuetext") == spec["sliders"][axis]["text"][position]
                seen.append(browser.execute_script(PICTURES, figure))
            assert len(set(seen)) > 1, f"{spec['sliders'][axis]['label']} changes no picture"
            width = slider.size["width"]  # by mouse: drag the thumb from its place at the left end
            drag = ActionChains(browser).move_to_element_with_offset(slider, -width // 2 + 9, 0).click_and_hold()
            drag.move_by_offset(int(0.9 * width), 0).release().perform()
            assert positions(figure)[axis] > 0
            check_texts(figure, spec, positions(figure))
            assert browser.execute_script(PICTURES, figure) != seen[-1]
    assert not complaints(browser)


@pytest.mark.parametrize("page", CHAPTERS)
def test_a_link_opens_each_figure_as_it_was(browser, base, built_book, page):
    specs = saved_explorers(built_book, page)
    ends = [[len(slider["text"]) - 1 for slider in spec["sliders"]] for spec in specs]
    places = [f"figure-{number}={','.join(map(str, index))}" for number, index in enumerate(ends, 1)]
    seen = "const {top, bottom} = arguments[0].getBoundingClientRect(); return top < innerHeight && bottom > 0"
    for first in {0, len(specs) - 1} if specs else ():  # the address names all; the page scrolls to the first in it
        open_page(browser, base, f"{page}.html#{'&'.join(places[first:] + places[:first])}#")
        figures = browser.find_elements("css selector", ".ict-explorer:not(.ict-live, .ict-playground)")
        for figure, spec, index in zip(figures, specs, ends, strict=True):
            assert positions(figure) == index
            check_texts(figure, spec, index)
        assert browser.execute_script(seen, figures[first])
        assert figures[first].find_element("css selector", ".ict-link button").is_displayed()
    assert not complaints(browser)


def test_live_models_compute_on_the_page(browser, base):
    from selenium.webdriver.common.keys import Keys

    open_page(browser, base, "book/consistency_model")
    point, sheet = browser.find_elements("css selector", ".ict-live")
    sheets = "return [...arguments[0].querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"
    before = browser.execute_script(sheets, sheet)
    sheet.find_element("css selector", "button").send_keys(Keys.ENTER)
    point.find_element("css selector", "input").send_keys(Keys.HOME)
    browser.execute_async_script("const [done] = arguments; setTimeout(() => requestAnimationFrame(() => done()), 50)")
    assert all(new != old for new, old in zip(browser.execute_script(sheets, sheet), before, strict=True))
    exact, model, distance = (one.text for one in point.find_elements("css selector", ".ict-readout strong"))
    assert (exact, distance) == (model, "0.000")  # at sigma_min the model is the identity
    assert not complaints(browser)


def test_the_page_that_trains_shows_a_finished_run_trains_and_has_a_still_picture(browser, base):
    from selenium.webdriver.support.ui import WebDriverWait

    open_page(browser, base, "book/playground")
    root = browser.find_element("css selector", ".ict-playground")
    WebDriverWait(browser, 120).until(lambda _: root.get_attribute("data-step") == "10000")
    root.find_element("css selector", "button").click()
    step = "return Number(arguments[0].dataset.step)"
    WebDriverWait(browser, 120).until(lambda _: 0 < browser.execute_script(step, root) < 10_000)
    root.find_element("css selector", "button").click()
    still = browser.find_element("css selector", ".tag_playground-still img")
    assert not still.is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert still.is_displayed()
        assert not root.is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert not complaints(browser)


def test_the_library_of_figures_is_not_empty(built_book):
    assert any(saved_explorers(built_book, page) for page in CHAPTERS), "no chapter has an Explorer"


def test_the_book_is_one_file_to_be_read_offline(built_book):
    """``make zip`` of what is built; nothing of it is missing."""
    whole = ["make", "-o", "book", "-o", ".venv/.ready", f"PYTHON={sys.executable}", "--no-print-directory", "zip"]
    (made,) = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    with zipfile.ZipFile(made) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
    assert names == {path.relative_to(built_book).as_posix() for path in built_book.rglob("*") if path.is_file()}
    assert {f"{page}.html" for page in CHAPTERS} < names
