"""A published file of weights, `ict_lib.data.cache`: found, checked, downloaded. No network: its URLs are files."""

import hashlib
import socket

import pytest
import torch

from ict_lib.data.cache import published_file

CONTENT = b"weights"
NAME = f"some-net-2015-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
VARIABLE = "ICT_SOME_NET"


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """The three places where a file may lie, all on this test's own ground, in the order in which they are asked."""
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv(VARIABLE, raising=False)
    hub = tmp_path / "torch" / "hub" / "checkpoints" / NAME
    return [tmp_path / "variable.pth", tmp_path / "cache" / NAME, hub]


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def published(tmp_path, content=CONTENT, name=NAME):
    """Publish a file, and return its URL."""
    return put(tmp_path / "published" / name, content).as_uri()


# Value: the hash in the name


def test_the_file_is_the_one_whose_hash_its_name_begins(tmp_path, monkeypatch):
    """SHA-256 of nothing begins with e3b0c442."""
    empty = put(tmp_path / "a.pth", b"")
    monkeypatch.setenv(VARIABLE, str(empty))
    assert published_file("https://example.org/net-e3b0c442.pth", VARIABLE) == empty
    with pytest.raises(ValueError, match=r"a\.pth is damaged or not net-e3b0c443\.pth: .* is e3b0c442.* e3b0c443"):
        published_file("https://example.org/net-e3b0c443.pth", VARIABLE)


# Invariant: the order of the places


def test_each_place_goes_before_the_next(places, monkeypatch):
    variable, kept, hub = map(put, places)
    monkeypatch.setenv(VARIABLE, str(variable))
    url = f"https://example.org/{NAME}"
    assert published_file(url, VARIABLE) == variable
    monkeypatch.setenv(VARIABLE, "")  # as good as not set
    assert published_file(url, VARIABLE) == kept
    kept.unlink()
    assert published_file(url, VARIABLE) == hub


def test_it_is_downloaded_once(tmp_path, places):
    url, kept = published(tmp_path), places[1]
    assert published_file(url, VARIABLE) == kept
    assert kept.read_bytes() == CONTENT
    (tmp_path / "published" / NAME).unlink()
    assert published_file(url, VARIABLE) == kept
    assert list(kept.parent.iterdir()) == [kept]


def test_nothing_is_downloaded_where_that_is_not_wanted(tmp_path, places):
    url, kept = published(tmp_path), places[1]
    with pytest.raises(
        FileNotFoundError, match=rf"{NAME} is missing: downloaded from {url} when needed; {VARIABLE} may name a copy"
    ):
        published_file(url, VARIABLE, download=False)
    assert not kept.exists()
    put(kept)
    assert published_file(url, VARIABLE, download=False) == kept


def test_a_path_that_is_given_stands_alone(tmp_path, places, monkeypatch):
    """Where somebody names a file, no other one takes its place."""
    put(places[1])
    for wrong in (tmp_path, tmp_path / "none.pth"):
        monkeypatch.setenv(VARIABLE, str(wrong))
        with pytest.raises(FileNotFoundError, match=f"{VARIABLE} is '{wrong}', .* expected a copy of {NAME}"):
            published_file(published(tmp_path), VARIABLE)


# Shapes: a home folder is understood


def test_the_variable_may_begin_with_a_tilde(tmp_path, monkeypatch):
    put(tmp_path / "net.pth")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "~/net.pth")
    assert published_file(f"https://example.org/{NAME}", VARIABLE) == tmp_path / "net.pth"


# Errors


@pytest.mark.parametrize("place", range(3))
def test_a_damaged_file_is_refused_wherever_it_lies(places, monkeypatch, place):
    path = put(places[place], b"<html>not found</html>")
    if place == 0:
        monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(ValueError, match=rf"{path.name} is damaged or not {NAME}"):
        published_file(f"https://example.org/{NAME}", VARIABLE)


def test_a_damaged_download_is_not_kept(tmp_path, places):
    with pytest.raises(RuntimeError, match="invalid hash"):
        published_file(published(tmp_path, b"cut sho"), VARIABLE)
    assert list(places[1].parent.iterdir()) == []


def test_without_a_network_one_error_says_what_to_put_where(places, monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    url = f"https://example.org/folder/{NAME}"
    with pytest.raises(RuntimeError) as caught:
        published_file(url, VARIABLE)
    for part in (url, str(places[1].parent), VARIABLE, "no network in tests"):
        assert part in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_folder_that_cannot_be_made_is_the_same_error(tmp_path, places):
    put(places[1].parent, b"a file in the folder's place")
    with pytest.raises(RuntimeError, match=f"set the environment variable {VARIABLE}"):
        published_file(published(tmp_path), VARIABLE)
