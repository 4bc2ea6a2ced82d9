"""A plan: what a run takes, before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ict_lib.checks import require
from ict_lib.data.stand_in import FORMS
from ict_lib.plan.cost import Memory, disk, memory
from ict_lib.plan.marks import Setting, settings_of
from ict_lib.plan.passes import Passes, count_passes, without_memory
from ict_lib.plan.speed import Speed
from ict_lib.run import check, parameters_of
from ict_lib.run.record import project_root
from ict_lib.run_config import RunConfig
from ict_lib.run_file import find_run

DAY = 24 * 3600


@dataclass(frozen=True)
class Plan:
    """What a run takes.

    Source: own.

    Attributes:
        name: of the run.
        config: of its first training.
        trainings: how many there are, one a seed.
        devices: that train together.
        passes: what the passes of one micro-batch take.
        memory: of one device.
        disk: part -> bytes.
        uncertain: settings that stand in the run file from memory, and that no change has replaced.
        images_per_second: of one device; None if it is not known.
        speed: how that was measured; None if it was given, or is not known.
    """

    name: str
    config: RunConfig
    trainings: int
    devices: int
    passes: Passes
    memory: Memory
    disk: dict[str, int]
    uncertain: list[Setting]
    images_per_second: float | None = None
    speed: Speed | None = None

    @property
    def images(self) -> int:
        """Images that all trainings see."""
        return self.trainings * self.config.steps * self.config.batch_size

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
        return self.images / self.devices / self.images_per_second / 3600 if self.images_per_second else None

    def at(self, speed: Speed) -> "Plan":
        """Return the same plan with a speed that was measured."""
        return replace(self, images_per_second=speed.images_per_second, speed=speed)


def plan_of(
    run_name: str,
    devices: int | None = None,
    images_per_second: float | None = None,
    changes: Sequence[str] = (),
    root: Path | None = None,
) -> Plan:
    """Work out what a run takes; nothing is trained, and no data are needed.

    Source: own.

    Args:
        run_name: such as ``cifar10/ict``.
        devices: that train together; None takes the run's own number.
        images_per_second: of one device, for the hours.
        changes: to the run file, ``name=value`` each.
        root: top of the project; None takes the one around the current folder.

    Returns:
        The plan.

    Raises:
        ValueError: if the run is unknown, a change is refused, or the devices cannot share a batch equally.
    """
    fast = images_per_second
    require(fast is None or fast > 0, "images_per_second", fast, "images_per_second > 0")
    root = root or project_root()
    words = [*changes, *([f"processes={devices}", "nodes=1"] if devices is not None else [])]
    run = check(parameters_of(run_name, words, root), root)
    config = run.configs()[0]
    with without_memory():
        passes = count_passes(config, FORMS[config.data], torch.device("cuda"))
    changed = {word.partition("=")[0] for word in changes}
    marked = settings_of(find_run(run_name, root).read_text())
    uncertain = [setting for setting in marked if setting.mark == "M" and setting.name not in changed]
    sizes = memory(config, passes), disk(config, len(run.seeds), passes)
    return Plan(run.name, config, len(run.seeds), run.all_processes, passes, *sizes, uncertain, fast)
