"""Takes README's pictures from the built pages: the page that trains before the first click, and the ladder's figure.

``python book/picture.py``; the book must have been built, and Chromium and its driver must be there.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from bs4 import BeautifulSoup
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.conftest import find_browser, start_browser  # noqa: E402

PAGES = ROOT / "_build" / "html" / "book"
WAIT = """
const done = arguments[0];
const look = () => document.querySelector('.ict-playground') ? setTimeout(done, 500) : setTimeout(look, 100);
look();
"""
# Only the figure, on white paper, without what lies below its curves.
ALONE = """
const figure = document.querySelector('.ict-playground');
document.documentElement.dataset.theme = 'light';
document.body.replaceChildren(figure);
Object.assign(figure.style, { margin: '0', width: '1000px', background: 'white', border: '0' });
figure.querySelectorAll('.ict-copied, .ict-tours, .ict-panels ~ *').forEach((part) => part.remove());
"""


def take(page: str) -> Image.Image:
    """Open the page and photograph its figure."""
    with tempfile.TemporaryDirectory() as profile:
        browser = start_browser(*find_browser(), profile=Path(profile))
        try:
            browser.set_script_timeout(60)
            browser.set_window_size(1040, 1500)
            browser.get(page)
            browser.execute_async_script(WAIT)
            browser.execute_script(ALONE)
            browser.execute_async_script("setTimeout(arguments[0], 500)")  # drawn in its new width
            shot = browser.find_element("css selector", ".ict-playground").screenshot_as_png
        finally:
            browser.quit()
    return Image.open(io.BytesIO(shot)).convert("RGB")


def first_still(page: Path) -> Image.Image:
    """Read the first still figure of a page."""
    figure = BeautifulSoup(page.read_text("utf8"), "html.parser").select_one(".still img")
    with Image.open(page.parent / figure["src"]) as still:
        paper = Image.new("RGB", still.size, "white")
        paper.paste(still, mask=still.convert("RGBA").getchannel("A"))
    return paper


def main() -> int:
    """Write the pictures, or say what is missing."""
    pages = [PAGES / "playground.html", PAGES / "ladder.html"]
    if not all(page.exists() for page in pages) or find_browser() is None:
        print(f"{PAGES} or a browser is missing: make book; apt-get install chromium chromium-driver", file=sys.stderr)
        return 1
    for page, picture in zip(pages, (take(pages[0].as_uri()), first_still(pages[1])), strict=True):
        path = ROOT / "book" / f"{page.stem}.png"
        picture.quantize(64).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
