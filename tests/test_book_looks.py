"""How the built pages read: light, whole at each width and on paper, by keyboard, by search, on a slow machine."""

from __future__ import annotations

import json

import pytest

from tests.test_book_pages import (
    CHAPTERS,
    PAGES,
    base,
    complaints,
    look_at,
    open_page,
    set_theme,
    violations,
    weights_on,
)

__all__ = ["base"]  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("page", PAGES)
def test_page_is_light(browser, served_book, built_book, page):
    """Without its pictures, the weights of the models that live on it, and what a search reads: all pages' texts."""
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    try:
        open_page(browser, served_book, page)
        messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    finally:
        browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})
    kinds = {
        m["params"]["requestId"]: m["params"]["type"] for m in messages if m["method"] == "Network.responseReceived"
    }
    received = [m["params"] for m in messages if m["method"] == "Network.dataReceived"]
    loaded = sum(data["dataLength"] for data in received if kinds.get(data["requestId"]) != "Image")
    read = built_book.joinpath("_static", "search_texts.js").stat().st_size if page == "search" else 0
    assert loaded - weights_on(built_book, page) - read <= 1_500_000


@pytest.mark.parametrize("page", CHAPTERS, scope="module")
def test_every_picture_is_said_in_words(browser, served_book, page):
    look_at(browser, served_book, page)
    said = browser.execute_script("return [...document.querySelectorAll('.cell_output img')].map((image) => image.alt)")
    assert [words for words in said if len(words) <= 40 or ".png" in words] == []


# What is wider than its place, by its own scroll bar or beyond it.
WIDER = """
return [...document.querySelectorAll(arguments[0])]
  .filter((e) => e.getBoundingClientRect().width)
  .filter((e) => e.scrollWidth > e.clientWidth + 1 || e.getBoundingClientRect().right > innerWidth)
  .map((e) => `${e.scrollWidth} > ${e.clientWidth}: ${e.textContent.trim().slice(0, 60)}`)
"""
CODE, TABLES = ".bd-article pre", ".bd-article :is(.text_html:has(table), .pst-scrollable-table-container)"


@pytest.mark.parametrize("page", CHAPTERS)
def test_code_and_tables_fit_the_column_and_the_paper(browser, served_book, emulate, page):
    open_page(browser, served_book, page)
    emulate(400)
    assert not browser.execute_script(WIDER, CODE)
    browser.execute_script(
        "for (const fold of document.querySelectorAll('details')){ fold.removeAttribute('name'); fold.open = true; }"
    )
    for width, medium in ((1300, "screen"), (720, "print")):
        emulate(width, medium)
        assert not browser.execute_script(WIDER, f"{CODE}, {TABLES}"), medium
    cells = "return [...document.querySelectorAll('.bd-article td')].map((e) => e.textContent.trim())"
    assert not [words for words in browser.execute_script(cells) if words.endswith("...")]  # as pandas cuts them


@pytest.mark.parametrize("page", CHAPTERS)
def test_on_paper_ink_is_dark_and_answers_are_open(browser, served_book, emulate, page):
    open_page(browser, served_book, page)
    set_theme(browser, "dark")
    browser.execute_script("for (const choice of document.querySelectorAll('details.choice')) choice.open = true")
    states = "return [...document.querySelectorAll('details')].map((e) => [e.open, e.getAttribute('name')])"
    before = browser.execute_script(states)  # of each question the last choice
    assert not before or sum(is_open for is_open, _ in before) < len(before)
    emulate(720, "print")
    assert not violations(browser, "article")
    assert browser.execute_script("return document.documentElement.dataset.theme") == "light"
    answers = "details:not(.tag_hide-input > *, .ict-playground *) > :last-child"  # paper shows a still of that
    heights = "return [...document.querySelectorAll(arguments[0])].map((answer) => answer.offsetHeight)"
    assert all(browser.execute_script(heights, answers))
    emulate(1300)
    assert browser.execute_script("return document.documentElement.dataset.theme") == "dark"
    assert browser.execute_script(states) == before


@pytest.mark.parametrize("page", CHAPTERS)
def test_one_choice_of_a_question_is_open_at_a_time_and_says_whether_it_is_right(browser, served_book, page):
    from selenium.webdriver.common.keys import Keys

    open_page(browser, served_book, page)
    names = browser.execute_script("return [...document.querySelectorAll('details.choice')].map((e) => e.name)")
    looks = (
        "const now = (pseudo) => getComputedStyle(arguments[0].querySelector('summary'), pseudo);"
        "return [getComputedStyle(arguments[0]).borderTopColor, now('::before').content]"
    )
    for name in dict.fromkeys(names):
        group = browser.find_elements("css selector", f'details.choice[name="{name}"]')
        right = [choice.get_attribute("class").split() == ["choice", "right"] for choice in group]
        assert right.count(True) == 1
        assert len(group) >= 3
        seen = []
        for choice, key in zip(group, [Keys.ENTER, Keys.SPACE] * 2, strict=False):
            choice.find_element("css selector", "summary").send_keys(key)
            assert [one.get_property("open") for one in group] == [one == choice for one in group]
            assert choice.find_element("css selector", "p").is_displayed()
            seen.append(browser.execute_script(looks, choice))
        assert len({tuple(look) for look in seen}) == 2  # right, and wrong
        assert seen.count(seen[right.index(True)]) == 1
    assert not complaints(browser)


def test_the_keyboards_place_is_seen(browser, served_book):
    from selenium.webdriver.common.keys import Keys

    open_page(browser, served_book, CHAPTERS[0])
    bare, seen = [], 0
    for _ in range(14 + len(CHAPTERS)):  # the list of pages has a link for each
        browser.switch_to.active_element.send_keys(Keys.TAB)
        found = browser.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "const ring = s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 || s.boxShadow !== 'none';"
            "return [e.outerHTML.slice(0, 90), ring, e.matches('button')]"
        )
        seen += found[2]
        if not found[1]:
            bare.append(found[0])
    assert seen >= 3
    assert not bare


def test_a_search_shows_what_stands_around_the_words(browser, base):
    from selenium.webdriver.support.wait import WebDriverWait

    open_page(browser, base, "search.html?q=teacher#")
    WebDriverWait(browser, 20).until(lambda page: page.find_elements("css selector", "#search-results p.context"))
    excerpts = [excerpt.text for excerpt in browser.find_elements("css selector", "#search-results p.context")]
    assert len(excerpts) >= 3
    assert all("teacher" in excerpt.lower() for excerpt in excerpts)
    assert not [excerpt for excerpt in excerpts if "\\" in excerpt]
    assert not complaints(browser)


# Moves a slider 30 times, once a frame.
MOVES = """
const [slider, done] = arguments;
(async () => {
  for (let i = 0; i < 30; i += 1) {
    await new Promise((next) => requestAnimationFrame(next));
    slider.value = i % (Number(slider.max) + 1);
    slider.dispatchEvent(new Event('input'));
  }
  requestAnimationFrame(() => done());
})();
"""
MOST = {  # seconds a frame
    ".ict-explorer:not(.ict-live, .ict-playground) input": 0.05 / 4,  # 20 frames a second if four times as slow
    ":is(.ict-live, .ict-playground) input[type=range]": 1 / 30,  # a model is computed at each
}


@pytest.mark.parametrize("page", CHAPTERS)
def test_sliders_keep_up_on_a_slow_machine(browser, served_book, page):
    """By the processor's time of the page's own thread, which others on the machine do not lengthen."""
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    try:
        open_page(browser, served_book, page)
        for slider, most in [
            (found, most) for sliders, most in MOST.items() for found in browser.find_elements("css selector", sliders)
        ]:
            browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", slider)
            before = task_seconds(browser)
            browser.execute_async_script(MOVES, slider)
            assert 0 < task_seconds(browser) - before <= 30 * most
    finally:
        browser.execute_cdp_cmd("Performance.disable", {})


def task_seconds(browser) -> float:
    """Seconds that the page's thread has worked."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
