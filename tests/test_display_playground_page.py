"""The page that trains, as a reader meets it: in a browser, from the disk, by mouse, keyboard and link."""

import re
import time

import pytest

from ict_lib.display.playground import Playground, train
from tests.conftest import ROOT, VIEW, write_widget_page

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(1800)]

AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ['violations']}).then((found) => done(found.violations
  .map(({id, nodes}) => `${id}: ${nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')}`)));
"""
SHOWN = """
const root = document.querySelector('.ict-playground');
return { ...root.dataset, status: root.querySelector('.ict-status').textContent, hash: location.hash,
  lit: [...root.querySelectorAll('.ict-parts li')].findIndex((li) => li.hasAttribute('aria-current')),
  readouts: [...root.querySelectorAll('.ict-readout strong')].map((one) => one.textContent),
  pictures: [...root.querySelectorAll('.ict-cloud canvas')].map((canvas) => canvas.toDataURL()) };
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page from the disk, with the book's own host and two finished runs, shorter than the book's."""
    runs = [train(preset, total_steps=5000) for preset in ("CT", "iCT")]
    playground = Playground(runs)
    names = ["_esm", "_css", "recorded", "tours", "templates"]
    models = {"m": {"state": {name: getattr(playground, name) for name in names}}}
    return write_widget_page(tmp_path_factory.mktemp("page") / "page.html", models, VIEW.format("m"))


@pytest.fixture
def page(browser, address):
    """A function that opens the page afresh, at an address, and waits for the playground."""

    def open_page(hash_=""):
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(f"{address}#{hash_}" if hash_ else address)
        wait(browser, lambda now: now["step"] is not None)

    yield open_page
    assert not [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def shown(browser):
    return browser.execute_script(SHOWN)


def wait(browser, fits, seconds=240):
    """Wait until what is shown fits, and return it; the machine may be busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            now = shown(browser)
            if fits(now):
                return now
        except Exception as error:  # not there yet
            now = error
        time.sleep(0.1)
    raise AssertionError(f"after {seconds} s: {now}")


def button(browser, text):
    return browser.find_element("xpath", f"//button[normalize-space()='{text}']")


def press(browser, text):
    """Press a button by keyboard."""
    from selenium.webdriver.common.keys import Keys

    button(browser, text).send_keys(Keys.ENTER)


def choose(browser, label, text):
    from selenium.webdriver.support.ui import Select

    path = f"//label[span[normalize-space()='{label}']]/*[self::select]"
    Select(browser.find_element("xpath", path)).select_by_visible_text(text)


def test_something_finished_is_there_before_the_first_click(browser, page):
    page()
    now = shown(browser)
    assert now["playing"] == "false"
    assert float(now["readouts"][3]) > 0.3  # CT, one step
    assert float(now["readouts"][9]) < 0.12  # iCT
    assert len(set(now["pictures"])) == 6


def test_a_link_opened_afresh_shows_the_same_numbers_after_the_same_steps(browser, page):
    page("data=two_moons&seed=3&steps=5000&left=iCT&right=without-teacher,mu0:0.5")
    press(browser, "Play")
    wait(browser, lambda now: int(now["step"]) > 260)
    press(browser, "Pause")
    first = wait(browser, lambda now: now["playing"] == "false" and f"at={now['step']}" in now["hash"])
    assert float(first["readouts"][3]) < 0.5
    page(first["hash"].removeprefix("#").replace(",", "%2C"))
    again = wait(browser, lambda now: now["step"] == first["step"] and now["playing"] == "false")
    assert again["readouts"] == first["readouts"]
    assert again["pictures"] == first["pictures"]
    wait(browser, lambda now: now["hash"] == first["hash"])


def test_without_workers_it_trains_in_slices_of_frames_to_the_same_numbers(browser, page):
    page("seed=5&at=120")
    first = wait(browser, lambda now: now["step"] == "120" and now["playing"] == "false")
    script = "window.Worker = class { constructor() { throw new Error('not here'); } };"
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    try:
        page("seed=5&at=120")
        again = wait(browser, lambda now: now["step"] == "120" and now["playing"] == "false")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert again["readouts"] == first["readouts"]
    assert again["pictures"] == first["pictures"]


def test_step_reset_and_play_after_the_end(browser, page):
    page()
    press(browser, "Step")
    assert wait(browser, lambda now: now["step"] == "1")["readouts"][3] == "0.444"
    press(browser, "Step")
    wait(browser, lambda now: now["step"] == "2")
    press(browser, "Reset")
    assert shown(browser)["readouts"] == ["0", "2", "–", "–", "–", "–", "0", "11", "–", "–", "–", "–"]
    press(browser, "Play")
    wait(browser, lambda now: int(now["step"]) > 50)


def test_slow_motion_lights_the_parts_of_one_step_in_the_order_of_the_code(browser, page):
    page()
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    )
    press(browser, "Slow motion")  # with reduced motion it waits for the reader after each part
    wait(browser, lambda now: now["playing"] == "false" and now["lit"] == 0)
    for part in range(1, 11):
        press(browser, "Step")
        wait(browser, lambda now, part=part: now["lit"] == part)
    values = [one.text for one in browser.find_elements("css selector", ".ict-parts span")]
    assert values[:4] == ["N = 2", "N = 11", "1 pairs", "10 pairs"]
    assert values[-2:] == ["step 1 done", "step 1 done"]
    assert values[6] == values[7], "both runs see the same noise"
    press(browser, "Step")
    assert wait(browser, lambda now: now["lit"] == 0)["step"] == "2"


def test_switches_change_the_recipe_and_refuse_what_is_none(browser, page):
    from selenium.webdriver.common.keys import Keys

    page()
    for summary in browser.find_elements("css selector", ".ict-switches summary"):
        summary.click()
    choose(browser, "teacher (3.2)", "student")
    now = wait(browser, lambda now: "left=CT,teacher:student" in now["hash"])
    assert now["step"] == "0"
    focused = browser.execute_script("return document.activeElement.value")
    assert focused == "student", "the control that was changed keeps the focus"
    field = browser.find_element("xpath", "//label[span[normalize-space()='mu0']]/input")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("2", Keys.TAB)
    assert "mu0 is 2; it must be from" in shown(browser)["status"]
    assert field.get_property("value") == "0.9"


def test_the_first_click_after_typing_counts(browser, page):
    """Leaving a field applies it while the button is pressed already, so it must be the same button when released."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page()
    browser.find_element("css selector", ".ict-switches summary").click()
    for label, text, asked in (("seed", "5", "seed=5"), ("mu0", "0.5", "left=CT,mu0:0.5")):
        field = browser.find_element("xpath", f"//label[span[normalize-space()='{label}']]/input")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)
        ActionChains(browser).click(button(browser, "Play")).perform()
        wait(browser, lambda now: int(now["step"]) > 0, seconds=60)
        press(browser, "Pause")
        wait(browser, lambda now, asked=asked: now["playing"] == "false" and asked in now["hash"], seconds=60)


def cells_of(now):
    """What is painted, a bit each, as the address has it."""
    found = re.search(r"cells=(\w+)", now["hash"])
    return int(found[1], 36) if found else 0


def stroke(browser, canvas, button=0):
    """Draw along the board's diagonal, of which one frame tells both ends alone."""
    script = """
        const [canvas, button] = arguments;
        const { left, top, width } = canvas.getBoundingClientRect();
        canvas.setPointerCapture = () => {};
        for (const [kind, share] of [["pointerdown", 0.03], ["pointermove", 0.97], ["pointerup", 0.97]]) {
            const at = { clientX: left + share * width, clientY: top + share * width };
            canvas.dispatchEvent(new PointerEvent(kind, { button, ...at }));
        }"""
    browser.execute_script(script, canvas, button)


def test_a_reader_paints_data_with_pointer_and_keys(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page()
    choose(browser, "data", "painted")
    before = wait(browser, lambda now: "data=painted" in now["hash"])
    canvas = browser.find_element("css selector", ".ict-board canvas")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(browser).move_to_element_with_offset(canvas, -6, -60).click_and_hold().move_by_offset(
        60, 0
    ).release().perform()
    painted = wait(browser, lambda now: now["hash"] != before["hash"])
    assert painted["pictures"] != before["pictures"]
    stroke(browser, canvas, button=2)  # opens a menu, and paints nothing
    time.sleep(0.5)
    assert cells_of(shown(browser)) == cells_of(painted)
    stroke(browser, canvas)
    now = wait(browser, lambda now: cells_of(now) != cells_of(painted))
    assert (cells_of(now) ^ cells_of(painted)).bit_count() >= 12  # the diagonal but for what was painted, not its ends
    painted = now
    canvas.send_keys(Keys.ARROW_UP, Keys.SPACE)
    assert "painted" in shown(browser)["status"]
    wait(browser, lambda now: now["hash"] != painted["hash"])
    press(browser, "Step")
    stepped = wait(browser, lambda now: now["step"] == "1")
    browser.execute_script("arguments[0].dispatchEvent(new PointerEvent('pointerup'))", canvas)  # pressed elsewhere
    assert shown(browser)["step"] == stepped["step"]
    press(browser, "Play")
    wait(browser, lambda now: int(now["step"]) > 50)
    press(browser, "Clear the board")
    assert "The board is empty" in shown(browser)["status"]
    canvas.send_keys(Keys.SPACE, Keys.SPACE)
    assert "The board is empty" in shown(browser)["status"]


def test_the_address_follows_once_a_slider_rests(browser, page):
    page()
    browser.execute_script("""
        const plain = history.replaceState.bind(history);
        window.changes = 0;
        history.replaceState = (...given) => { window.changes += 1; plain(...given); };
        const slider = document.querySelector('.ict-playground input[type=range]');
        for (let i = 0; i < 30; i++) {
            slider.value = i;
            slider.dispatchEvent(new Event('input', { bubbles: true }));
        }""")
    wait(browser, lambda now: "sigma=" in now["hash"])
    assert browser.execute_script("return window.changes") == 1  # some browsers refuse more than 100 in 10 seconds


def test_a_tour_is_one_click_and_has_an_address(browser, page):
    page("tour=teacher")
    wait(browser, lambda now: "left=without-teacher&right=iCT" in now["hash"])
    opened = browser.find_elements("css selector", ".ict-tours > details[open]")
    assert len(opened) == 1
    opened[0].find_element("css selector", "button").click()
    wait(browser, lambda now: int(now["step"]) > 0)


def test_a_hidden_tab_pauses(browser, page):
    page()
    press(browser, "Play")
    wait(browser, lambda now: int(now["step"]) > 50 and now["playing"] == "true")
    hide = "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
    hide += "document.dispatchEvent(new Event('visibilitychange'))"
    browser.execute_script(hide, True)
    said = "return document.querySelector('.ict-playground').textContent.includes(`Step ${arguments[0]}. Distance`)"
    stopped = wait(  # what the workers had begun is still shown, and then said
        browser,
        lambda now: now["playing"] == "false" and "at=" in now["hash"] and browser.execute_script(said, now["step"]),
    )
    time.sleep(1)
    assert shown(browser)["step"] == stopped["step"]
    browser.execute_script(hide, False)
    wait(browser, lambda now: int(now["step"]) > int(stopped["step"]))


def test_what_is_copied_is_shown_too(browser, page):
    page("left=CT-tuned")
    press(browser, "Copy left run as Python")
    text = browser.find_element("css selector", "textarea")
    assert "learning_rate=0.005" in text.get_property("value")
    press(browser, "Copy link")
    assert "left=CT-tuned&right=iCT" in text.get_property("value")


def test_back_to_what_is_shown_leaves_it(browser, page):
    page()
    browser.execute_script("""
        const slider = document.querySelector('.ict-playground input[type=range]');
        slider.value = 3;
        slider.dispatchEvent(new Event('input', { bubbles: true }));""")
    before = wait(browser, lambda now: "sigma=" in now["hash"])
    browser.execute_script("location.hash = '#predict'")  # a heading of the page
    browser.back()
    now = wait(browser, lambda now: now["hash"] == before["hash"])
    time.sleep(0.5)
    assert shown(browser)["readouts"] == now["readouts"] == before["readouts"]
    assert before["step"] == "5000"


def test_play_goes_on_though_a_step_was_asked_for_before_the_workers_were_there(browser, page):
    page("left=CT-tuned")
    browser.execute_script("""
        const buttons = [...document.querySelectorAll('button')];
        for (const name of ['Step', 'Play']) buttons.find((one) => one.textContent === name).click();""")
    wait(browser, lambda now: int(now["step"]) > 300)
    press(browser, "Pause")
    step = wait(browser, lambda now: now["status"].startswith("Step "))["step"]
    press(browser, "Copy link")
    assert f"&at={step}&" in browser.find_element("css selector", "textarea").get_property("value")


def test_a_choice_that_is_refused_is_said_and_not_shown(browser, page):
    page("left=CT,s1:8&at=3")
    wait(browser, lambda now: now["step"] == "3" and now["playing"] == "false")
    for summary in browser.find_elements("css selector", ".ict-switches summary"):
        summary.click()
    choose(browser, "curriculum (3.4)", "doubling")
    assert shown(browser)["status"] == "s0 = 10 is above s1 = 8"
    kept = "//label[span[normalize-space()='curriculum (3.4)']]/select"
    assert browser.find_element("xpath", kept).get_property("value") == "square_root"
    assert shown(browser)["step"] == "3"


def test_a_wrong_address_is_said_and_the_rest_of_it_kept(browser, page):
    page("at=200&left=nobody")
    now = shown(browser)
    assert "unknown preset nobody" in now["status"]
    assert now["playing"] == "false"
    page("tour=constructor")  # which an object has of itself
    assert browser.find_elements("css selector", ".ict-tours > details[open]") == []
    page("seed=x&data=spiral&left=nobody")
    now = shown(browser)
    assert "seed is x" in now["status"]
    assert "unknown preset nobody" in now["status"]
    assert browser.execute_script("return document.querySelector('.ict-toolbar select').value") == "spiral"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_accessible_and_fits_a_narrow_screen(browser, page, theme):
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page("data=painted&left=CT,mu0:0.5")
    browser.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    press(browser, "Slow motion")
    press(browser, "Copy right run as Python")
    browser.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    browser.execute_script((ROOT / "node_modules" / "axe-core" / "axe.min.js").read_text("utf8"))
    assert not browser.execute_async_script(AXE)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
