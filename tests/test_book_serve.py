"""The server of the book: `book/serve.py`."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def refuse(port):
    """What is said of a port, before anything is built."""
    started, words = time.monotonic(), [sys.executable, str(ROOT / "book" / "serve.py"), port]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert time.monotonic() - started < 10
    return done.stderr


@pytest.mark.parametrize("port", ["abc", "", "65536", "-1"])
def test_what_is_no_port_is_refused(port):
    assert f"refused: PORT is {port!r}: a number from 1 to 65535 is needed" in refuse(port)


def test_a_port_that_is_taken_is_refused_with_the_way_out():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert "in use; make serve PORT=8001 takes another" in refuse(str(other.getsockname()[1]))
