"""The book's builder: what makes a chapter run again, and what a reader sees while they run."""

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from tests import lint_notebooks

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "ict_lib/__init__.py": "",
    "ict_lib/one.py": "import numpy\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ict_lib.unused",
    "ict_lib/room/__init__.py": "",
    "ict_lib/room/two.py": "def late():\n    from ict_lib.room import three\n\nstart = 'ict_lib.program'",
    "ict_lib/room/three.py": "",
    "ict_lib/room/widget.js": "",
    "ict_lib/program.py": "",
    "ict_lib/unused.py": "",
    "ict_lib/__pycache__/one.pyc": "",
    "runs/toy/metrics.jsonl": "",
    "runs/toy/notes.txt": "",
    "runs/preview/metrics.jsonl": "",
    "book/table.csv": "",
    "requirements.txt": "",
    "_config.yml": "execute: {timeout: 60}",
    "_toc.yml": "{root: book/a, chapters: [{file: book/b}]}",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project of its own, with two chapters: one imports ``one``, the other ``room.two``."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf8")
    shutil.copy(ROOT / "book" / "execute.py", tmp_path / "book")
    write_chapter(tmp_path, "a", "from ict_lib import one")
    write_chapter(tmp_path, "b", "import ict_lib.room.two as two")
    return tmp_path


def write_chapter(project: Path, name: str, *cells: str, prose: str = "", **metadata: object) -> None:
    code = [nbformat.v4.new_code_cell(cell, metadata=metadata, id=f"c{i}") for i, cell in enumerate(cells)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(prose, id="prose"), *code])
    nbformat.write(notebook, project / "book" / f"{name}.ipynb")


def load(project: Path):
    """The module book/execute.py of a project."""
    spec = importlib.util.spec_from_file_location("book_execute", project / "book" / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Value: what a chapter depends on


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("ict_lib/__init__.py", "ab"),
        ("ict_lib/one.py", "a"),
        ("ict_lib/room/__init__.py", "b"),
        ("ict_lib/room/two.py", "b"),
        ("ict_lib/room/three.py", "b"),  # imported in a function
        ("ict_lib/room/widget.js", "b"),  # read by what lies beside it
        ("ict_lib/program.py", "b"),  # started by its name
        ("ict_lib/unused.py", ""),
        ("ict_lib/__pycache__/one.pyc", ""),
        ("runs/toy/metrics.jsonl", "ab"),
        ("runs/toy/new.yaml", "ab"),
        ("runs/toy/notes.txt", ""),
        ("runs/preview/metrics.jsonl", ""),
        ("book/table.csv", "ab"),
        ("requirements.txt", "ab"),
    ],
)
def test_a_chapter_runs_again_where_something_changed_that_it_reaches(project, name, again):
    execute = load(project)
    before = {page: execute.key(f"book/{page}") for page in "ab"}
    (project / name).write_text("changed = 1", "utf8")
    assert [page for page in "ab" if execute.key(f"book/{page}") != before[page]] == list(again)


def test_cells_and_their_tags_count_and_prose_does_not(project):
    execute = load(project)
    before = execute.key("book/a")
    write_chapter(project, "a", "from ict_lib import one", prose="other words")
    assert execute.key("book/a") == before
    write_chapter(project, "a", "from ict_lib import one", tags=["hide-input"])
    assert execute.key("book/a") != before


def test_a_chapter_that_cannot_be_parsed_depends_on_the_whole_library(project):
    execute = load(project)
    write_chapter(project, "a", "%time 1")
    before = execute.key("book/a")
    (project / "ict_lib/unused.py").write_text("changed = 1", "utf8")
    assert execute.key("book/a") != before


def test_the_books_own_chapters_reach_what_they_show():
    execute = load(ROOT)
    code = {page: [c.source for c in execute.read(page).cells if c.cell_type == "code"] for page in execute.chapters()}
    reached = {page: execute.reached("\n".join(cells)) for page, cells in code.items()}
    library = ROOT / "ict_lib"
    for page in ("book/consistency_model", "book/teacher"):
        assert {library / "objective.py", library / "training" / "step.py"} <= reached[page]
        assert library / "display" / "explorer.js" in reached[page]
    for page in ("book/introduction", "book/consistency_model"):
        assert not [path for path in reached[page] if {"run", "scale", "export"} & set(path.parts)]
    assert library / "training" / "program.py" in reached["book/scale"]  # torchrun starts it


# Invariant: what was executed is not executed again, side by side as one after the other

RUN = """
import execute
if __name__ == "__main__":
    execute.set_environment()
    execute.BUILD.mkdir(exist_ok=True)
    keys = {page: execute.key(page) for page in execute.chapters()}
    execute.forget(keys)
    print(*execute.execute(list(keys)), sep="\\n\\n")
"""
MEET = """
import time
from pathlib import Path
Path({mine!r}).touch()
end = time.monotonic() + 30
while not Path({other!r}).exists() and time.monotonic() < end:
    time.sleep(0.05)
print("met", Path({other!r}).exists())
"""


def run(project: Path, **environment: str) -> str:
    (project / "book" / "run.py").write_text(RUN, "utf8")
    done = subprocess.run(
        [sys.executable, "book/run.py"], cwd=project, env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed(project: Path, page: str) -> str:
    execute = load(project)
    _, notebook = execute.get_cache(execute.CACHE).merge_match_into_notebook(execute.read(f"book/{page}"))
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.slow
def test_chapters_run_side_by_side_once_whatever_the_callers_environment(project):
    seen = "import os, sys, ict_lib\nprint(os.environ['OMP_NUM_THREADS'], ict_lib.__path__[0], os.getcwd())"
    plots = "import matplotlib\nprint(matplotlib.get_backend())"
    write_chapter(project, "a", MEET.format(mine="a.met", other="b.met"), seen, "from ict_lib import one")
    write_chapter(project, "b", MEET.format(mine="b.met", other="a.met"), plots)
    said = run(project, MPLBACKEND="Agg", OMP_NUM_THREADS="2", PYTHONPATH=str(ROOT))
    assert "FAILED" not in said, said
    assert printed(project, "a").split() == ["met", "True", "1", str(project / "ict_lib"), str(project / "book")]
    assert "inline" in printed(project, "b")
    (project / "ict_lib/one.py").write_text("changed = 1", "utf8")
    said = run(project)
    assert "book/b: unchanged, not run again" in said
    assert "[1/1] book/a: ran in" in said


@pytest.mark.slow
def test_a_build_that_is_ended_leaves_no_kernel(project):
    (project / "_toc.yml").write_text("{root: book/a, chapters: []}", "utf8")
    write_chapter(project, "a", "import os, time\nprint(os.getpid(), file=open('pid', 'w'))\ntime.sleep(99)")
    (project / "book" / "run.py").write_text(RUN, "utf8")
    build = subprocess.Popen([sys.executable, "book/run.py"], cwd=project, stderr=subprocess.DEVNULL)
    place = project / "book" / "pid"
    while build.poll() is None and not (place.is_file() and place.read_text().endswith("\n")):
        time.sleep(0.1)
    kernel = psutil.Process(int(place.read_text()))
    build.terminate()
    build.wait()
    assert psutil.wait_procs([kernel], timeout=10)[1] == []


# Errors


def test_a_failed_cell_is_named_with_its_error(project):
    write_chapter(project, "a", "print(1)", "import os\nos._exit(3)")
    write_chapter(project, "b", "x = 0", "1 / x", "print(2)")
    said = run(project)
    assert "book/b.ipynb, code cell 2 of 3:\n\n1 / x\n" in said
    assert "ZeroDivisionError: division by zero" in said
    assert "book/a.ipynb, code cell 2 of 2:\n\nimport os\nos._exit(3)\n\nDeadKernelError" in said
    assert "\x1b" not in said


@pytest.mark.slow
def test_a_cell_that_takes_too_long_is_named_with_the_limit(project):
    (project / "_config.yml").write_text("execute: {timeout: 3}", "utf8")
    (project / "_toc.yml").write_text("{root: book/a, chapters: []}", "utf8")
    write_chapter(project, "a", "import time\ntime.sleep(60)")
    said = run(project)
    assert "code cell 1 of 1" in said
    assert "timed out while it was being executed, after 3 seconds" in said
    assert "KeyboardInterrupt" not in said


def test_an_unreadable_state_counts_as_none(project):
    execute = load(project)
    execute.BUILD.mkdir()
    execute.KEYS.write_text("{", "utf8")
    assert execute.read_json(execute.KEYS) is None


def test_lint_finds_a_fold_bar_above_a_sentence():
    cell = {
        "cell_type": "code",
        "metadata": {"tags": ["hide-input"]},
        "source": ["x = 1\n", "say(f'{x}') if x else None"],
    }
    assert lint_notebooks.fold_bars({"cells": [cell]})
    assert not lint_notebooks.fold_bars({"cells": [cell | {"metadata": {"tags": ["remove-input"]}}]})
    assert not lint_notebooks.fold_bars({"cells": [cell | {"source": ["say('x')\n", "plt.show()"]}]})


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
