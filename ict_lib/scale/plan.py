"""A plan of a run on a terminal: ``make plan RUN=cifar10/ict GPUS=8``."""

import argparse
import sys
from dataclasses import replace

import torch

from ict_lib.config import trainings_of
from ict_lib.files import results_folder
from ict_lib.scale.cost import SAMPLED
from ict_lib.scale.estimate import CPU, DAY, Plan, lacks_vgg16, missing, plan_of
from ict_lib.scale.speed import measure_speed

COLUMN = 30
YEAR = 8766  # hours
UNITS = (("years", 2 * YEAR, YEAR), ("days", 48, 24), ("hours", 2, 1), ("minutes", 0, 1 / 60))  # name, from, hours
Row = tuple[str, int | None, str]


def main(given: argparse.Namespace) -> int:
    """Print a plan and what this machine lacks for it, and return the exit code."""
    plan = plan_of(given.run, given.images_per_second, given.changes)
    plan, said = (plan, "not measured") if plan.hours or given.no_measure else measured(plan)
    print(text_of(plan, said))
    lines = missing(plan, results_folder(plan.run.name))
    print("\nto do on this machine:" if lines else "\nnothing is missing on this machine")
    for line in lines:
        print(f"  - {line}")
    return 0


def measured(plan: Plan, seconds: float = 60.0) -> tuple[Plan, str]:
    """Return a plan with this machine's speed; or as it was, and why that was not measured."""
    if lacks_vgg16(plan):
        return plan, "not measured: LPIPS lacks VGG16's weights"
    if plan.flops > CPU and not torch.accelerator.is_available():
        week = plan.images / plan.run.processes / (7 * DAY)
        return plan, f"not measured: no accelerator is here; a week, if each device trains on {week:,.3g} images/s"
    print("training on random images for about a minute, or until two steps are done ...", file=sys.stderr)
    try:
        rate, how = measure_speed(plan.run, plan.passes.step, seconds)
        return replace(plan, images_per_second=rate, how=how), ""
    except RuntimeError as error:
        return plan, f"not measured: {str(error).splitlines()[0]}"


def text_of(plan: Plan, unmeasured: str = "not measured") -> str:
    """Write a plan down in blocks of lines with units; ``unmeasured`` stands for a time that is not known."""
    time = _time(plan) if plan.hours else [_row("time", unmeasured)]
    blocks = [_heading(plan), _network(plan), _memory(plan), _disk(plan), time, _uncertain(plan)]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def quantity(number: float, unit: str) -> str:
    """Write a large number with three digits and the prefix of its unit, such as ``42.5 GFLOP``."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if number < 999.5:
            return f"{number:.3g} {prefix}{unit}"
        number /= 1000
    return f"{number:,.3g} Z{unit}"


def duration(hours: float) -> str:
    """Write a number of hours with three digits, in the unit that fits, such as ``11.4 hours``."""
    name, size = next((name, size) for name, least, size in UNITS if hours >= least)
    return f"{hours / size:,.3g} {name}"


def count(number: int, thing: str) -> str:
    """Write a number of things, such as ``8 devices``."""
    return f"{number:,} {thing}{'s' * (number != 1)}"


def _heading(plan: Plan) -> list[str]:
    run, trainings, devices = plan.run, len(trainings_of(plan.run)), plan.run.processes
    alike = f"{len(run.variants)} variants, counted with the network and, a device, the batch of the run without one"
    each = f"{run.steps:,} steps of {count(run.batch_size, 'image')}"
    share = f"{count(run.num_shards // devices, 'shard')} of {count(plan.passes.shard, 'image')} a step"
    return [
        f"{run.name}: {f'{trainings} trainings, each of ' * (trainings > 1)}{each}",
        f"on {count(devices, 'device')}, {'each ' * (devices > 1)}{share}",
        *([alike] if run.variants else []),
    ]


def _network(plan: Plan) -> list[str]:
    passes, days = plan.passes, plan.pflop_days
    times = f"{passes.step / passes.forward:.1f} forward passes" + ", LPIPS among them" * bool(passes.distance)
    batch = quantity(passes.step * plan.run.batch_size, "FLOP")
    return [
        _row(f"network {plan.run.network}", f"{passes.parameters:,} parameters"),
        _row("a forward pass", f"{quantity(passes.forward, 'FLOP')} an image"),
        _row("a training step", f"{quantity(passes.step, 'FLOP')} an image ({times}), {batch} a batch"),
        _row("all steps", quantity(plan.flops, "FLOP") + f" = {days:,.3g} days of 1 PFLOP/s" * (days > 0.01)),
    ]


def _memory(plan: Plan) -> list[str]:
    run, kept = plan.run, count(plan.passes.shard, "image")
    masks = f", {quantity(plan.passes.masks, 'B')} of it masks of dropout" * (plan.passes.masks > 0)
    notes = {
        "backward pass": f"kept of {kept}, {run.precision}{masks}" + "; less when compiled" * run.compile,
        "copy of the gradients": "in RAdam",
        "sampling": f"{SAMPLED:,} images",
    }
    rows: list[Row] = [(part, size, "") for part, size in plan.memory.always.items()]
    rows += [("then, one at a time", None, "")]
    rows += [(f"  {part}", size, notes[part]) for part, size in plan.memory.in_turn.items()]
    return _sizes(
        "memory of a device", [*rows, ("tensors at the most", plan.memory.most, "and what torch and measuring take")]
    )


def _disk(plan: Plan) -> list[str]:
    rows: list[Row] = [(part, size, "") for part, size in plan.disk.items() if size]
    return _sizes("disk", [*rows, ("together", sum(plan.disk.values()), "")])


def _time(plan: Plan) -> list[str]:
    rate = plan.images_per_second
    rows = [_row("speed of a device", f"{rate:,.4g} images/s = {quantity(rate * plan.passes.step, 'FLOP/s')}")]
    rows += [_row("", plan.how)] if plan.how else []
    many = f", {plan.at_once} trainings at a time" * (plan.at_once > 1)
    return [
        *rows,
        _row("time", f"{duration(plan.hours)}{many}, without exchange between devices and without measuring"),
    ]


def _uncertain(plan: Plan) -> list[str]:
    rows = [_row(f"  {name}", value) for name, value in plan.uncertain.items()]
    return ["from memory, not from the paper [M]", *rows] if rows else []


def _row(name: str, value: str) -> str:
    return f"{name:<{COLUMN}}{value}".rstrip()


def _sizes(title: str, rows: list[Row]) -> list[str]:
    """Write sizes below each other in the unit that fits the last and largest."""
    unit, power = ("GB", 9) if rows[-1][1] >= 1e9 else ("MB", 6)
    sizes = [(name, "" if size is None else f"{size / 10**power:>8.2f}   {note}") for name, size, note in rows]
    return [f"{title}, in {unit} = 10^{power} bytes", *[_row(f"  {name}", text) for name, text in sizes]]
