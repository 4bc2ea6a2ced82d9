"""Files that are whole or not there, and folders with one writer: `ict_lib.files`."""

import errno
import json
import os
import pickle
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ict_lib import files
from ict_lib.files import (
    HOLDER,
    SIGNALS,
    Stopped,
    command,
    hearing,
    hold,
    json_lines,
    project_root,
    read_json,
    read_lines,
    results_folder,
    write_atomically,
    write_json,
)

HOLD = "import sys; from pathlib import Path; from ict_lib.files import hold; lock = hold(Path(sys.argv[1])); "


def another(folder, code):
    """Another process that holds a folder and says so."""
    words = [sys.executable, "-c", HOLD + "print('held', flush=True); " + code, str(folder)]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


# Value: what is read is what was written


def test_files_come_back(tmp_path):
    write_atomically(tmp_path / "bytes", b"one ", memoryview(b"two"))
    assert (tmp_path / "bytes").read_bytes() == b"one two"
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    lines = [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 0.1}]
    write_atomically(tmp_path / "lines", json_lines(lines))
    assert read_lines(tmp_path / "lines") == lines
    assert read_lines(tmp_path / "none") == []


def test_the_project_is_found_from_below(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    (tmp_path / "book" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "book" / "deep")
    assert project_root() == project_root(tmp_path / "book") == tmp_path
    assert results_folder("digits/ict") == tmp_path / "runs" / "digits" / "ict"


# Invariant: whole or not there; one writer


@pytest.mark.parametrize("moment", [(os, "fsync"), (Path, "replace")])
def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch, moment):
    path = tmp_path / "f"
    write_atomically(path, b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*moment, full)
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_damaged_lines_and_one_that_was_cut_off_are_passed_over(tmp_path):
    (tmp_path / "f").write_bytes(b'{"step": 1}\n{"st\xff\n[2]\n\n{"step": 3}\n{"step": 4}')
    assert read_lines(tmp_path / "f") == [{"step": 1}, {"step": 3}]


def test_another_process_is_refused_by_name_until_the_holder_has_gone_however_it_ends(tmp_path):
    holder = another(tmp_path, "input()")
    said = f"process {holder.pid} on .* works in {re.escape(str(tmp_path))} already: end it, or choose another name"
    with pytest.raises(RuntimeError, match=said):
        hold(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    hold(tmp_path).release()


def test_one_process_may_hold_a_folder_twice_and_lets_others_in_at_the_end(tmp_path):
    first, second = hold(tmp_path / "new" / "folder"), hold(tmp_path / "new" / "folder")
    first.release()
    words = [sys.executable, "-c", HOLD, str(tmp_path / "new" / "folder")]
    refused = subprocess.run(words, capture_output=True, text=True, check=False)
    assert f"process {os.getpid()} on" in refused.stderr
    second.release()
    assert subprocess.run(words, check=False).returncode == 0


def test_a_lock_that_has_outlived_its_machine_is_waited_for(tmp_path, monkeypatch):
    """NFS keeps it for a while."""
    holder = another(tmp_path, "input()")
    write_json(tmp_path / HOLDER, {"process": 7, "machine": "another"})
    monkeypatch.setattr(files, "LATE", 0.1)
    with pytest.raises(RuntimeError, match=r"process 7 on another works in .* already"):
        hold(tmp_path)
    monkeypatch.setattr(files, "LATE", 100)
    threading.Timer(0.5, holder.kill).start()
    hold(tmp_path).release()
    assert json.loads((tmp_path / HOLDER).read_text())["process"] == os.getpid()
    holder.wait()


WITHOUT_FLOCK = """
import errno, fcntl, sys
from pathlib import Path
from ict_lib import files
files.LEASE, files.LATE = 2.0, float(sys.argv[2])
def flock(*_):
    raise OSError(errno.{}, "no locks")
fcntl.flock = flock
"""


def without_flock(folder, late=0.1, error="ENOSYS"):
    code = WITHOUT_FLOCK.format(error) + HOLD + "print('held', flush=True); input()"
    return [sys.executable, "-c", code, str(folder), str(late)]


def test_a_machine_that_has_died_holds_no_folder_but_one_that_lives_does(tmp_path):
    """On a disk without locks: the holder touches its file again and again, until it is stopped."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    holder = subprocess.Popen(without_flock(tmp_path), **pipes)
    assert holder.stdout.readline() == "held\n"
    write_json(tmp_path / HOLDER, {"process": holder.pid, "machine": "another"})
    refused = subprocess.run(without_flock(tmp_path, 5), capture_output=True, text=True, check=False)
    assert f"process {holder.pid} on another works in" in refused.stderr
    holder.send_signal(signal.SIGSTOP)
    again = subprocess.run(without_flock(tmp_path, 60), input="\n", capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, "held\n")
    holder.kill()
    holder.communicate()


@pytest.mark.parametrize("error", ["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def test_where_the_disk_has_no_locks_a_file_stands_for_one(tmp_path, error):
    words = without_flock(tmp_path, error=error)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    holder = subprocess.Popen(words, **pipes)
    assert holder.stdout.readline() == "held\n"
    refused = subprocess.run(words, **{**pipes, "stdin": subprocess.DEVNULL}, check=False)
    assert f"RuntimeError: process {holder.pid} on" in refused.stderr
    holder.kill()
    holder.wait()
    again = subprocess.run(words, input="\n", capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, "held\n")


def test_a_file_that_another_machine_has_just_replaced_is_read_again(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"a": 1})
    write_atomically(tmp_path / "lines", json_lines([{"step": 1}]))
    real, stale = Path.read_bytes, []

    def read(path):
        if path not in stale:
            stale.append(path)
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert read_lines(tmp_path / "lines") == [{"step": 1}]
    assert len(stale) == 2


# Signals


def test_signals_are_heard_in_the_main_thread_and_put_back():
    before, heard = signal.signal(signal.SIGINT, signal.default_int_handler), []
    handlers = [signal.getsignal(number) for number in SIGNALS]
    try:
        with hearing(heard.append):
            for number in SIGNALS:
                os.kill(os.getpid(), number)
        assert heard == list(SIGNALS)
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
        with hearing(heard.append):
            os.kill(os.getpid(), signal.SIGINT)
        assert heard == list(SIGNALS)
    finally:
        signal.signal(signal.SIGINT, before)
    entered = []
    thread = threading.Thread(target=lambda: entered.append(hearing(heard.append).__enter__()))
    thread.start()
    thread.join()
    assert entered == [None]


def test_what_stopped_passes_between_processes():
    stop = pickle.loads(pickle.dumps(Stopped("stopped here", signal.SIGINT)))
    assert isinstance(stop, KeyboardInterrupt)
    assert (str(stop), stop.args[1]) == ("stopped here", signal.SIGINT)


# Errors


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_stands_in_the_place_of_a_folder_is_named(tmp_path, kind):
    place = tmp_path / "a"
    place.touch() if kind == "file" else place.symlink_to("nothing")
    with pytest.raises(NotADirectoryError, match=f"no folder: remove it, or choose another name: '{place}'"):
        hold(place)


def test_a_command_names_the_python_that_runs_it_from_where_one_stands(tmp_path, monkeypatch):
    python = tmp_path / "in it" / "python"
    monkeypatch.setattr(sys, "executable", str(python))
    assert shlex.split(command("data", "ring")) == [str(python), "-m", "ict_lib", "data", "ring"]
    monkeypatch.chdir(tmp_path)
    assert command("data", "a b") == "'in it/python' -m ict_lib data 'a b'"


def test_outside_of_the_project_the_message_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not lie in the project: change into its folder"):
        project_root(tmp_path)
