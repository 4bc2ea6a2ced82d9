"""The host of the built pages' figures: what they show stands in the address, and a link opens it again."""

import base64
import time

import numpy as np
import pytest

from ict_lib.display.explorer import Explorer, Line, Panel, Readout, Slider
from tests.conftest import ROOT, VIEW, write_widget_page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

BODY = '<h2 id="the-code">The code</h2><p style="height: 2000px">far down</p>{}<p style="height: 2000px">the end</p>'
SHOWN = """
const figures = [...document.querySelectorAll('.ict-explorer')];
return {hash: location.hash, top: figures.map((figure) => figure.getBoundingClientRect().top),
  index: figures.map((figure) => [...figure.querySelectorAll('input')].map((input) => Number(input.value))),
  read: [...document.querySelectorAll('.ict-readout strong')].map((e) => e.textContent)};
"""
AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations.map(({id}) => id)));
"""


def explorer(*counts):
    """A figure that says which position it is at; both sliders begin at their second one."""
    sliders = [Slider(f"slider {axis}", list(range(n)), start=1) for axis, n in enumerate(counts)]
    place = np.arange(np.prod(counts), dtype=float).reshape(counts)
    return Explorer(sliders, [Panel([Line([0, 1], np.stack([place, -place], -1))])], [Readout("at", place, "{:.0f}")])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page from the disk with the book's own host and three figures, far down."""
    state = {}
    for number, figure in enumerate([explorer(4), explorer(4, 6), explorer(3)]):
        buffer = {"path": ["data"], "encoding": "base64", "data": base64.b64encode(figure.data).decode()}
        values = {name: getattr(figure, name) for name in ("_esm", "_css", "spec", "index")}
        state[f"m{number}"] = {"state": values, "buffers": [buffer]}
    views = "".join(VIEW.format(name) + "<p>text</p>" for name in state)
    return write_widget_page(tmp_path_factory.mktemp("page") / "page.html", state, BODY.format(views))


@pytest.fixture
def page(browser, address):
    """A function that opens the page afresh, at a hash, and waits for its figures."""

    def open_page(hash_=""):
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(address + hash_)
        wait(browser, lambda now: len(now["read"]) == 3)

    yield open_page
    assert not [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def wait(browser, fits, seconds=60):
    """Wait until what is shown fits, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = browser.execute_script(SHOWN)
        if fits(now):
            return now
        time.sleep(0.05)
    raise AssertionError(f"after {seconds} s: {now}")


def slider(browser, figure, axis=0):
    return browser.find_elements("css selector", ".ict-explorer")[figure].find_elements("css selector", "input")[axis]


def test_a_moved_slider_stands_in_the_address_and_the_address_opens_it(browser, page):
    from selenium.webdriver.common.keys import Keys

    page()
    assert browser.execute_script(SHOWN)["hash"] == ""
    length = browser.execute_script("return history.length")
    slider(browser, 1, 1).send_keys(Keys.END)
    wait(browser, lambda now: now["hash"] == "#figure-2=1,5")
    slider(browser, 0).send_keys(Keys.HOME)
    seen = wait(browser, lambda now: now["hash"] == "#figure-1=0&figure-2=1,5")
    assert browser.execute_script("return history.length") == length  # the way back stays short
    page(seen["hash"])
    now = wait(browser, lambda now: -1 < now["top"][0] < 80)  # scrolled to the figure that was moved last
    assert now["index"] == [[0], [1, 5], [1]]
    assert now["read"] == ["0", "11", "1"]
    slider(browser, 2).send_keys(Keys.END)
    wait(browser, lambda now: now["hash"] == "#figure-3=2&figure-1=0&figure-2=1,5")


@pytest.mark.parametrize("hash_", ["#figure-2=3,0", "#figure-2=3%2C0", "#figure-2%3D3%2C0"])
def test_a_link_shows_its_figure(browser, page, hash_):
    page(hash_)
    now = wait(browser, lambda now: -1 < now["top"][1] < 80)
    assert now["index"] == [[1], [3, 0], [1]]


def test_a_link_is_followed_on_an_open_page_too(browser, page):
    page("#figure-1=3")
    browser.execute_script("location.hash = '#figure-2=2,4&figure-1=2'")
    now = wait(browser, lambda now: -1 < now["top"][1] < 80)
    assert now["index"] == [[2], [2, 4], [1]]
    time.sleep(0.6)
    assert browser.execute_script(SHOWN)["hash"] == "#figure-2=2,4&figure-1=2"


NO_STATE = ["2=9,0", "2=1", "9=1", "2=a,b", "2=-1,0", "2", "2=1.5,0", "2="]


@pytest.mark.parametrize("hash_", [f"#figure-{text}" for text in NO_STATE])
def test_what_no_figure_has_is_passed_over(browser, page, hash_):
    page(hash_)
    assert browser.execute_script(SHOWN)["index"] == [[1], [1, 1], [1]]


def test_anchors_and_the_state_of_others_are_left_alone(browser, page):
    from selenium.webdriver.common.keys import Keys

    page("#the-code")
    assert -1 < browser.execute_script("return document.getElementById('the-code').getBoundingClientRect().top") < 80
    assert browser.execute_script(SHOWN)["hash"] == "#the-code"
    other = "#data=ring&seed=0&left=CT&right=iCT"
    page(other)
    slider(browser, 0).send_keys(Keys.END)
    time.sleep(0.6)
    assert browser.execute_script(SHOWN)["hash"] == other
    assert browser.execute_script(SHOWN)["index"][0] == [3]


def test_a_button_copies_the_link_to_its_own_figure(browser, page, address):
    from selenium.webdriver.common.keys import Keys

    page("#figure-1=0")
    slider(browser, 1, 0).send_keys(Keys.END)
    button = browser.find_elements("css selector", ".ict-link button")[1]
    browser.execute_script("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    button.send_keys(Keys.ENTER)
    note = browser.find_elements("css selector", ".ict-link [role=status]")[1]
    end = time.monotonic() + 20
    while not note.text and time.monotonic() < end:
        time.sleep(0.05)
    assert browser.execute_script("return window.copied") == f"{address}#figure-2=3,1"
    assert note.text == "The link was copied."
    browser.execute_script("navigator.clipboard.writeText = async () => { throw new Error('not allowed'); }")
    button.send_keys(Keys.SPACE)
    end = time.monotonic() + 20
    while "figure" not in note.text and time.monotonic() < end:
        time.sleep(0.05)
    assert note.text == f"{address}#figure-2=3,1"  # to copy by hand


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong(browser, page, theme):
    page("#figure-2=3,0")
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    browser.execute_script((ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text("utf8"))
    assert browser.execute_async_script(AXE) == []


def test_elsewhere_there_is_no_button():
    """JupyterLab hands a widget no ``link``: there the address is not the page's."""
    assert "...(link ? [buildLink(link)] : [])" in Explorer._esm
