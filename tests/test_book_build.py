"""The book's builder: what makes chapters run again, and what a reader sees while they run."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests import lint_notebooks

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The module book/build.py, its root moved to an empty place with a library and a run."""
    monkeypatch.syspath_prepend(str(ROOT / "book"))
    spec = importlib.util.spec_from_file_location("book_build", ROOT / "book" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("ict_lib/grid.py", "runs/toy/metrics.jsonl", "requirements.txt", "book/teacher.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one", "utf8")
    for name in ("ROOT", "BUILD", "HTML", "STATE"):
        monkeypatch.setattr(module, name, tmp_path / getattr(module, name).relative_to(ROOT))
    yield module
    sys.modules.pop("web_assets", None)


@pytest.mark.parametrize("name", ["ict_lib/grid.py", "ict_lib/new.js", "runs/toy/metrics.jsonl", "requirements.txt"])
def test_digest_follows_what_chapters_use(build, name):
    before = build.digest(build.library_files())
    (build.ROOT / name).write_text("two", "utf8")
    assert build.digest(build.library_files()) != before


@pytest.mark.parametrize(
    "name", ["ict_lib/__pycache__/grid.pyc", "runs/preview/metrics.jsonl", "runs/toy/notes.txt", "book/teacher.ipynb"]
)
def test_digest_ignores_the_rest(build, name):
    before = build.digest(build.library_files())
    (build.ROOT / name).parent.mkdir(parents=True, exist_ok=True)
    (build.ROOT / name).write_text("two", "utf8")
    assert build.digest(build.library_files()) == before


def test_cache_goes_only_when_the_library_changed(build):
    cache = build.BUILD / ".jupyter_cache"
    library = build.digest(build.library_files())
    build.clear(library)
    for folder in (cache, build.HTML, build.BUILD / ".doctrees"):
        folder.mkdir(parents=True)
    build.clear(library)
    assert cache.exists()
    assert not build.HTML.exists()
    assert not (build.BUILD / ".doctrees").exists()
    build.clear("another")
    assert not cache.exists()


def test_an_unreadable_state_counts_as_none(build):
    build.BUILD.mkdir()
    build.STATE.write_text("{", "utf8")
    assert build.read_state() == {}


def test_progress_says_which_chapter_of_how_many(build, capsys):
    progress = build.Progress(["book/introduction", "book/teacher"])
    for line in (
        "reading sources... [ 50%] book/teacher",
        "/somewhere/book/teacher.ipynb: Executing notebook using local CWD [mystnb]",
        "/somewhere/book/teacher.ipynb: Executed notebook in 12.61 seconds [mystnb]",
        "/somewhere/book/introduction.ipynb: Using cached notebook: ID=2 [mystnb]",
    ):
        progress.read(line)
    assert capsys.readouterr().out.splitlines() == [
        "[1/2] book/teacher: running its cells ...",
        "[1/2] book/teacher: ran in 13 s",
        "[2/2] book/introduction: unchanged, not run again",
    ]


def test_lint_finds_stored_results_and_machine_paths():
    cell = {"cell_type": "code", "outputs": [], "execution_count": None}
    assert lint_notebooks.stored_results({"cells": [cell], "metadata": {}}) == []
    assert lint_notebooks.stored_results({"cells": [cell | {"execution_count": 3}], "metadata": {}})
    assert lint_notebooks.stored_results({"cells": [cell | {"outputs": [{}]}], "metadata": {}})
    assert lint_notebooks.stored_results({"cells": [], "metadata": {"widgets": {}}})
    slash = "/"
    assert lint_notebooks.machine_paths(f"open('{slash}home{slash}ann{slash}x')")
    assert lint_notebooks.machine_paths(f"{slash}Users{slash}ann")
    assert not lint_notebooks.machine_paths("see runs/work/toy and ../home/x, https://a.org/home/x")
