"""The times of the pages, noted from what the last build has left."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def times(tmp_path, monkeypatch):
    """The module book/times.py, with a build that has left the times of two pages and a record in a folder apart."""
    monkeypatch.syspath_prepend(str(ROOT / "book"))
    monkeypatch.delitem(sys.modules, "times", raising=False)
    import times

    left = [("teacher", 41.64), ("glossary", 1.0), ("weighting", 20.0)]
    records = [SimpleNamespace(uri=str(ROOT / f"book/{n}.ipynb"), data={"execution_seconds": s}) for n, s in left]
    monkeypatch.setattr(times, "get_cache", lambda path: SimpleNamespace(list_cache_records=lambda: records))
    monkeypatch.setattr(times, "TIMES", tmp_path / "times.json")
    monkeypatch.setattr(times, "chapters", lambda: ["book/weighting", "book/teacher", "book/glossary"])
    return times


def test_times_and_machine_are_noted_in_the_order_of_the_pages(times):
    assert times.main() == 0
    noted = json.loads(times.TIMES.read_text("utf8"))
    assert list(noted["seconds"].items()) == [
        ("book/weighting", 20.0),
        ("book/teacher", 41.6),
    ]  # the glossary has no cells
    assert noted["processor"]
    assert noted["cores"] >= noted["at_a_time"] >= 1
    assert "device" not in noted


def test_a_page_that_was_not_executed_is_named_and_nothing_written(times, monkeypatch, capsys):
    monkeypatch.setattr(times, "chapters", lambda: ["book/weighting", "book/sampling"])
    assert times.main() == 2
    assert "not executed yet: book/sampling" in capsys.readouterr().err
    assert not times.TIMES.exists()
