"""Fixtures: the built book, a server for it, and a browser to look at it."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

# Small networks gain nothing from a second thread, and two threads wait for each other where the cores are shared.
# Set before torch is loaded; notebooks and commands that the tests start inherit it.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--window-size=1280,1000",
)
ONLY_THIS_MACHINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long, those with the most tests that are slow or need a browser."""
    long = Counter(item.path for item in items for name in ("slow", "browser") if item.get_closest_marker(name))
    items.sort(key=lambda item: -long[item.path])


def find_browser() -> tuple[str, str, str] | None:
    """Kind, program and driver of a browser on this machine."""
    driver = shutil.which("chromedriver")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program and driver:
        return "chrome", program, driver
    edge, driver = shutil.which("microsoft-edge"), shutil.which("msedgedriver")
    return ("edge", edge, driver) if edge and driver else None


def install_browser() -> None:
    """Install Debian's Chromium where this may be done without asking."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "-y", "chromium", "chromium-driver"]):
        subprocess.run(["apt-get", "-qq", *arguments], env=environment, capture_output=True, check=False)


def start_browser(kind: str, program: str, driver: str, profile: Path):
    """A headless browser that can reach this machine only, with its logs on."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service as ChromeService
    from selenium.webdriver.edge.service import Service as EdgeService

    options = webdriver.EdgeOptions() if kind == "edge" else webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, ONLY_THIS_MACHINE, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    prefix = "ms" if kind == "edge" else "goog"
    options.set_capability(f"{prefix}:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    if kind == "edge":
        return webdriver.Edge(options=options, service=EdgeService(driver))
    return webdriver.Chrome(options=options, service=ChromeService(driver))


def book_module(name: str):
    """A module of the folder book/, which is no package."""
    sys.path.insert(0, str(ROOT / "book"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


WIDGET_PAGE = """<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>page</title>
<style>body {{ margin: 8px; font-family: sans-serif }}
html[data-theme="dark"] {{ background: #111; color: #ddd }}</style>
<main><article class="bd-article"><h1>page</h1>
<script type="application/vnd.jupyter.widget-state+json">{state}</script>
{body}</article></main><script>{host}</script></html>"""
VIEW = '<script type="application/vnd.jupyter.widget-view+json">{{"model_id": "{}"}}</script>'


def write_widget_page(path: Path, models: dict[str, dict], body: str) -> str:
    """A page on the disk with the book's own host of widgets; its address.

    Names of the saved state are in alphabetical order, as a notebook's file has them.
    """
    state = json.dumps({"state": models}, sort_keys=True).replace("</", "<\\/")
    host = (ROOT / "book" / "_assets" / "widgets.js").read_text("utf8")
    path.write_text(WIDGET_PAGE.format(state=state, body=body, host=host), "utf8")
    return path.as_uri()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of its own, with the current folder in it."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    """A selenium driver; skipped where there is no browser, an error where CI=true."""
    found = find_browser()
    if found is None:
        with FileLock(tmp_path_factory.getbasetemp().parent / "browser.lock"):  # one process of the tests
            install_browser()
        found = find_browser()
    if found is None:
        message = "no browser: install Chromium and its driver (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    driver = start_browser(*found, profile=tmp_path_factory.mktemp("profile"))
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def emulate(browser):
    """Sets the width of the window, and the medium; all is as before after the test."""

    def set_up(width: int, medium: str = "screen") -> None:
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium})
        browser.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")  # events come

    yield set_up
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.fixture(scope="session")
def built_book() -> Path:
    """The folder of the built pages; built anew only where something changed, by one process of the tests."""
    command = [sys.executable, str(ROOT / "book" / "build.py")]
    with FileLock(ROOT / ".book.lock"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"the book does not build:\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}", pytrace=False)
    return ROOT / "_build" / "html"


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without writing a line for each."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="session")
def served_book(built_book: Path) -> Iterator[str]:
    """Address of the built pages on a free port of this machine."""
    handler = functools.partial(QuietHandler, directory=str(built_book))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
