"""Plan a run: ``python -m ict_lib.plan cifar10/ict [--devices 8] [name=value ...]``, which ``make plan`` calls."""

import argparse
import sys
from collections.abc import Sequence

from ict_lib.plan.estimate import Plan, plan_of
from ict_lib.plan.missing import lacks_vgg16, missing
from ict_lib.plan.speed import measure_speed
from ict_lib.plan.text import text_of
from ict_lib.run.record import project_root

WHAT = "Say what a run takes, how long, and what this machine lacks for it; nothing is downloaded or kept."


def main(words: Sequence[str] | None = None) -> int:
    """Print a plan and return the exit code: 0 done, 2 refused."""
    given = _parser().parse_intermixed_args(words)
    root = project_root()
    try:
        plan = plan_of(given.run, given.devices, given.images_per_second, given.changes, root)
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    plan, said = (plan, "not measured") if plan.hours or given.no_measure else measured(plan)
    print(text_of(plan, said))
    lines = missing(plan, root / "runs" / plan.name)
    print("\nto do on this machine:" if lines else "\nnothing is missing on this machine")
    for line in lines:
        print(f"  - {line}")
    return 0


def measured(plan: Plan) -> tuple[Plan, str]:
    """Measure this machine's speed for a plan, or say why it was not measured.

    Source: own.

    Args:
        plan: of a run.

    Returns:
        The plan with the speed; or as it was, and the reason.
    """
    if lacks_vgg16(plan):
        return plan, "not measured: LPIPS lacks VGG16's weights"
    print("training on random images for about a minute, or until two steps are done ...", file=sys.stderr)
    try:
        return plan.at(measure_speed(plan.config)), ""
    except (TimeoutError, RuntimeError) as error:
        return plan, f"not measured: {str(error).splitlines()[0]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ict_lib.plan", description=WHAT)
    parser.add_argument("run", help="such as cifar10/ict")
    parser.add_argument("changes", nargs="*", metavar="name=value", help="a change to the run file")
    parser.add_argument("--devices", type=int, metavar="N", help="that train together; otherwise the run file says")
    parser.add_argument("--images-per-second", type=float, metavar="X", help="of one device; otherwise it is measured")
    parser.add_argument("--no-measure", action="store_true", help="leave out the minute of training on random images")
    return parser


if __name__ == "__main__":
    sys.exit(main())
