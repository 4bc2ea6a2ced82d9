"""Files from the network, and whether a file is the published one."""

import hashlib
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from ict_lib.data.cache import data_folder
from ict_lib.data.dataset import Dataset


def require_file(path: Path, md5: str, command: str) -> None:
    """Refuse a file that is missing or not the published one.

    Source: own.

    Args:
        path: the file.
        md5: of its content, as published; against damage, not against an attacker.
        command: that makes the file, for the message.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if its content is another one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; this fetches it: {command}")
    found = _md5(path)
    if found != md5:
        raise ValueError(
            f"{path} is damaged or cut short: {path.stat().st_size} bytes with MD5 {found}, not {md5}. "
            f"Remove it, then: {command}"
        )


def download(url: str, path: Path, md5: str) -> Iterator[tuple[int, int]]:
    """Download a file, whole and as published or not at all; iterate over the result to run it.

    Source: own.

    Args:
        url: where it is.
        path: where it goes; its folder is made.
        md5: of its content.

    Yields:
        Bytes so far, and bytes in all (0 if the server does not say).

    Raises:
        OSError: if it cannot be fetched or written.
        ValueError: if what came is not the published file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, partial.open("wb") as file:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(2**20):
                file.write(block)
                done += len(block)
                yield done, total
        found = _md5(partial)
        if found != md5:
            raise ValueError(f"{url} gave {done} bytes with MD5 {found}, not {md5}: try again, or put it at {path}")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def fetch_command(
    name: str,
    subfolder: str,
    fetch: Callable[[Path, bool], None],
    load: Callable[[Path], Dataset],
    arguments: list[str],
) -> None:
    """Run the command ``python -m ict_lib.data.<name> [FOLDER]``: fetch a data set into a folder, and check it.

    Source: own.

    Args:
        name: of the data set.
        subfolder: of the folder, where its files go.
        fetch: downloads into the folder; its second argument asks for a progress bar.
        load: reads and checks what lies there.
        arguments: of the command line; at most the folder.

    Raises:
        SystemExit: with what is wrong.
    """
    if len(arguments) > 1 or any(argument.startswith("-") for argument in arguments):
        raise SystemExit(f"usage: python -m ict_lib.data.{name} [FOLDER]")
    folder = data_folder(*arguments)
    try:
        fetch(folder, True)
        print(f"{len(load(folder)):,} images in {folder / subfolder}. To use them: export ICT_DATA={folder}")
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
