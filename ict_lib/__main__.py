"""The one door: ``python -m ict_lib COMMAND``; ``--help`` lists the commands."""

import argparse
import importlib
import os
import signal
import sys
from typing import NoReturn

from ict_lib.checks import shown
from ict_lib.commands import COMMANDS
from ict_lib.files import command


class Parser(argparse.ArgumentParser):
    """Refuses words in one line, as everything else is refused."""

    def error(self, message: str) -> NoReturn:
        """Raise ``ValueError``."""
        raise ValueError(f"{message}: {command(*self.prog.split()[3:], '--help')} says what there is")


def main(words: list[str]) -> int:
    """Execute one command and return its exit code: 0 done, 1 failed, 2 refused; 128 and its number for a signal."""
    whole = Parser(prog="python -m ict_lib", description=__doc__.partition(";")[0])
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (take, _) in COMMANDS.items():
        commands.add_parser(name, help=take.__doc__.rstrip("."), add_help=False)
    try:
        take, module = COMMANDS[whole.parse_args(words[:1]).command]
        given = take(Parser(prog=f"python -m ict_lib {words[0]}", description=take.__doc__), words[1:])
        return importlib.import_module(module).main(given)
    except (ValueError, RuntimeError, OSError, ModuleNotFoundError) as error:
        print(f"refused: {said(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(stop.args[0] if stop.args else "stopped", file=sys.stderr)
        return 128 + (stop.args[1] if stop.args else signal.SIGINT)


def said(error: Exception) -> str:
    """Write an error in one line: the system's with its file, and with where a link leads."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}: {sys.executable} -m pip install -r requirements.txt"
    text = str(error)
    if isinstance(error, OSError) and error.filename:
        link = f" (a link to {os.readlink(error.filename)})" if os.path.islink(error.filename) else ""
        text = f"{shown(error.filename)[1:-1]}{link}: {error.strerror}"
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
