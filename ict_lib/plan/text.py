"""A plan as text for a terminal."""

from ict_lib.plan.estimate import Plan
from ict_lib.plan.passes import SAMPLED

COLUMN = 30
YEAR = 8766  # hours
UNITS = (("years", 2 * YEAR, YEAR), ("days", 48, 24), ("hours", 2, 1), ("minutes", 0, 1 / 60))  # name, from, hours
Row = tuple[str, int | None, str]


def text_of(plan: Plan, unmeasured: str = "not measured") -> str:
    """Write a plan down.

    Source: own.

    Args:
        plan: of a run.
        unmeasured: what to say of the time where the speed is not known.

    Returns:
        Lines with units, in blocks.
    """
    time = _time(plan) if plan.hours else [_row("time", unmeasured)]
    blocks = [_heading(plan), _network(plan), _memory(plan), _disk(plan), time, _uncertain(plan)]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def quantity(number: float, unit: str) -> str:
    """Write a large number with three digits and the prefix of its unit.

    Source: own.

    Args:
        number: at least 0.
        unit: without prefix.

    Returns:
        Such as ``42.5 GFLOP``.
    """
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if number < 999.5:
            return f"{number:.3g} {prefix}{unit}"
        number /= 1000
    return f"{number:,.3g} Z{unit}"


def duration(hours: float) -> str:
    """Write a number of hours with three digits, in the unit that fits.

    Source: own.

    Args:
        hours: more than 0.

    Returns:
        Such as ``11.4 hours``.
    """
    name, size = next((name, size) for name, least, size in UNITS if hours >= least)
    return f"{hours / size:,.3g} {name}"


def count(number: int, thing: str, more: str = "s") -> str:
    """Write a number of things.

    Source: own.

    Args:
        number: at least 0.
        thing: one of them.
        more: what the plural appends.

    Returns:
        Such as ``8 devices``.
    """
    return f"{number:,} {thing}{more * (number != 1)}"


def _heading(plan: Plan) -> list[str]:
    config = plan.config
    each = f"{config.steps:,} steps of {count(config.batch_size, 'image')}"
    shards = count(config.num_shards // plan.devices, "micro-batch", "es")
    share = f"{shards} of {count(plan.passes.micro_batch, 'image')} a step"
    return [
        f"{plan.name}: {f'{plan.trainings} trainings, each of ' * (plan.trainings > 1)}{each}",
        f"on {count(plan.devices, 'device')}, {'each ' * (plan.devices > 1)}{share}",
    ]


def _network(plan: Plan) -> list[str]:
    passes, days = plan.passes, plan.pflop_days
    times = f"{passes.step / passes.forward:.1f} forward passes" + ", LPIPS among them" * bool(passes.distance)
    batch = quantity(passes.step * plan.config.batch_size, "FLOP")
    return [
        _row(f"network {plan.config.network}", f"{passes.parameters:,} parameters"),
        _row("a forward pass", f"{quantity(passes.forward, 'FLOP')} an image"),
        _row("a training step", f"{quantity(passes.step, 'FLOP')} an image ({times}), {batch} a batch"),
        _row("all steps", quantity(plan.flops, "FLOP") + f" = {days:,.3g} days of 1 PFLOP/s" * (days > 0.01)),
    ]


def _memory(plan: Plan) -> list[str]:
    config, kept = plan.config, count(plan.passes.micro_batch, "image")
    notes = {
        "backward pass": f"kept of {kept}, {config.precision}" + "; less when compiled" * config.compile,
        "copy of the gradients": "exchanged, then in RAdam",
        "sampling": f"{SAMPLED:,} images",
    }
    rows: list[Row] = [(part, size, "") for part, size in plan.memory.always.items()]
    rows += [("then, one at a time", None, "")]
    rows += [(f"  {part}", size, notes[part]) for part, size in plan.memory.in_turn.items()]
    return _sizes("memory of a device", [*rows, ("together at the most", plan.memory.most, "and CUDA's work space")])


def _disk(plan: Plan) -> list[str]:
    rows: list[Row] = [(part, size, "") for part, size in plan.disk.items() if size]
    return _sizes("disk", [*rows, ("together", sum(plan.disk.values()), "")])


def _time(plan: Plan) -> list[str]:
    speed, rate = plan.speed, plan.images_per_second
    rows = [_row("speed of a device", f"{rate:,.4g} images/s = {quantity(rate * plan.passes.step, 'FLOP/s')}")]
    if speed:
        steps = f"{count(speed.steps, 'step')} of {count(speed.batch, 'image')}"
        peak = f"; {speed.peak_memory / 1e9:.1f} GB held" if speed.peak_memory else ""
        how = f"{speed.precision}{', compiled' * speed.compiled}{peak}"
        rows += [_row("", f"measured on {speed.device}: {steps}, {how}")]
    return [*rows, _row("time", f"{duration(plan.hours)}, without exchange between devices and without measuring")]


def _uncertain(plan: Plan) -> list[str]:
    rows = [_row(f"  {setting.name}", f"{setting.value}   {setting.note}") for setting in plan.uncertain]
    return ["from memory, not from the paper [M]", *rows] if rows else []


def _row(name: str, value: str) -> str:
    return f"{name:<{COLUMN}}{value}".rstrip()


def _sizes(title: str, rows: list[Row]) -> list[str]:
    """Write sizes below each other in the unit that fits the last and largest."""
    unit, power = ("GB", 9) if rows[-1][1] >= 1e9 else ("MB", 6)
    sizes = [(name, "" if size is None else f"{size / 10**power:>8.2f}   {note}") for name, size, note in rows]
    return [f"{title}, in {unit} = 10^{power} bytes", *[_row(f"  {name}", text) for name, text in sizes]]
