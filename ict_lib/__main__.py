"""The one door: ``python -m ict_lib COMMAND``; ``--help`` lists the commands."""

import argparse
import importlib
import sys

COMMANDS = {  # command -> module with add_arguments(parser) and main(given), and what it does
    "run": ("ict_lib.run.notebook", "execute a run's notebook by papermill"),
    "plan": ("ict_lib.scale.plan", "say what a run takes, and what this machine lacks for it"),
    "bench": ("ict_lib.scale.bench", "measure speed and memory of this machine"),
    "rounding": ("ict_lib.scale.rounding", "compare the rounding of each precision with what a model learns from"),
    "live": ("ict_lib.export.live", "keep a run's weights in half precision, for the page"),
    "export": ("ict_lib.export.command", "write a run's model for diffusers"),
    "data": ("ict_lib.data.command", "fetch or pack a data set"),
    "tensorboard": ("ict_lib.display.tensorboard", "write TensorBoard's files of runs"),
}


def main(words: list[str]) -> int:
    """Execute one command and return its exit code: 0 done, 1 failed, 2 refused."""
    whole = argparse.ArgumentParser(prog="python -m ict_lib", description=__doc__.partition(";")[0])
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, does) in COMMANDS.items():
        commands.add_parser(name, help=does, add_help=False)
    module, does = COMMANDS[whole.parse_args(words[:1]).command]
    command = importlib.import_module(module)
    parser = argparse.ArgumentParser(prog=f"python -m ict_lib {words[0]}", description=does)
    command.add_arguments(parser)
    given = parser.parse_intermixed_args(words[1:])
    try:
        return command.main(given)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
