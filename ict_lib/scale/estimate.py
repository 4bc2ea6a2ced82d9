"""A plan: what a run takes, before anything is trained; no data are needed, and nothing is downloaded or kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ict_lib.checks import require
from ict_lib.config import Run, read_run, run_from, trainings_of
from ict_lib.files import project_root
from ict_lib.scale.cost import Memory, Passes, count_passes, disk, memory, without_memory

DAY = 24 * 3600


@dataclass(frozen=True)
class Plan:
    """What a run takes; all trainings of a study with the network of the run without a variant."""

    run: Run  # whose ``processes`` are the devices that train together
    passes: Passes  # what the passes of one shard take
    memory: Memory  # of one device, bytes
    disk: dict[str, int]  # part -> bytes
    # setting that stands in the run file from memory, and that no change replaced -> its value and note
    uncertain: dict[str, str]
    images_per_second: float | None = None  # of one device; None if it is not known
    how: str = ""  # that was measured; empty if it was given, or is not known

    @property
    def images(self) -> int:
        """Images that all trainings see."""
        return sum(one.steps * one.batch_size for one, _ in trainings_of(self.run).values())

    @property
    def flops(self) -> int:
        """Floating-point operations of all trainings; sampling and measuring are not among them."""
        return self.images * self.passes.step

    @property
    def pflop_days(self) -> float:
        """The same in days of 10^15 operations a second."""
        return self.flops / 1e15 / DAY

    @property
    def hours(self) -> float | None:
        """Hours of training, if the devices share it without loss; None if the speed is not known."""
        return self.images / self.run.processes / self.images_per_second / 3600 if self.images_per_second else None


def plan_of(
    run_name: str,
    devices: int | None = None,
    images_per_second: float | None = None,
    changes: Sequence[str] = (),
) -> Plan:
    """Work out what a run takes.

    Args:
        run_name: such as ``cifar10/ict``.
        devices: that train together; None takes the run's own number.
        images_per_second: of one device, for the hours.
        changes: to the run file, ``name=value`` each.

    Raises:
        ValueError: if the run is unknown, a change is refused, or the devices cannot share a batch equally.
    """
    fast = images_per_second
    require(fast is None or fast > 0, "images_per_second", fast, "images_per_second > 0")
    processes = [] if devices is None else [f"processes={devices}"]
    file, values = (read_run(run_name, some, project_root()) for some in ([], [*changes, *processes]))
    run, uncertain = run_from(values), _uncertain(values, file)
    with without_memory():
        passes = count_passes(run)
    return Plan(run, passes, memory(run, passes), disk(run, passes), uncertain, fast)


def _uncertain(values: dict, file: dict) -> dict[str, str]:
    """Gather what a run says from memory [M] and no change replaced: a value of the file or the note."""
    found = {}
    for name, source in values.get("sources", {}).items():
        mark, _, note = source.partition(" ")
        value = _value(values, name)
        if mark == "M" and value == _value(file, name):
            found[name] = f"{value}   {note}".strip()
    return found


def _value(values: dict, name: str) -> Any:
    outer, _, inner = name.partition(".")
    value = values.get(outer, "")
    return value.get(inner, "") if isinstance(value, dict) else value
