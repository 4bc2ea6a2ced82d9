"""A plan: what a run takes, and what this machine lacks for it; no data are needed, and nothing is fetched or kept."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ict_lib.checks import require
from ict_lib.config import Run, read_run, run_from, trainings_of
from ict_lib.data import DATASETS
from ict_lib.evaluation.fidelity import inception_weights
from ict_lib.files import project_root
from ict_lib.networks.lpips import vgg16_weights
from ict_lib.run.needs import check_device, lacking, standing
from ict_lib.run.study import at_once
from ict_lib.scale.cost import Memory, Passes, count_passes, disk, memory, without_memory
from ict_lib.training.model import pick_device

DAY = 24 * 3600
CPU = 1e15  # floating-point operations that a CPU does in a few hours: a run of no more needs no other device


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
        if not self.images_per_second:
            return None
        num = len(trainings_of(self.run))
        rounds = math.ceil(num / self.at_once)
        return self.images / num * rounds / self.run.processes / self.images_per_second / 3600

    @property
    def at_once(self) -> int:
        """Trainings of a study that go on at the same time, each as fast as one; U-Nets share the cores."""
        study = self.run.variants and self.run.network == "mlp" and self.run.processes == 1
        return at_once(self.run, len(trainings_of(self.run))) if study else 1


def plan_of(run_name: str, images_per_second: float | None = None, changes: Sequence[str] = ()) -> Plan:
    """Work out what a run such as ``cifar10/ict`` takes, with changes to its file, ``name=value`` each.

    The hours come from ``images_per_second``, of one of the devices that train together, the run's ``processes``.
    """
    fast = images_per_second
    require(fast is None or fast > 0, "images_per_second", fast, "images_per_second > 0")
    file, values = (read_run(run_name, some, project_root()) for some in ([], changes))
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


def missing(plan: Plan, folder: Path) -> list[str]:
    """List what has to be done on this machine before a run can start: one line a thing, with the command if any.

    The folder, that the results go to, need not exist.
    """
    place = standing(folder)
    return [*_files(plan), *lacking(plan.run, place), *_devices(plan), *_disk(plan, place)]


def fault(load: Callable[[], object]) -> str | None:
    """Say what is wrong with a file that something needs, by the error's message; None if nothing is."""
    try:
        load()
    except (OSError, ValueError) as error:
        return str(error)
    return None


def lacks_vgg16(plan: Plan) -> str | None:
    """Say what is wrong with the weights of LPIPS, if the run needs them; None if nothing is."""
    return fault(lambda: vgg16_weights(download=False)) if plan.run.recipe.distance == "lpips" else None


def _files(plan: Plan) -> Iterator[str]:
    """Look for the data set, and for the weights of other networks."""
    entry = DATASETS[plan.run.data]
    if wrong := fault(lambda: entry.load(None)):
        yield f"data set: {wrong}"
    if entry.extractor == "inception" and (wrong := fault(lambda: inception_weights(download=False))):
        yield f"Inception, for the FID: {wrong}"
    if wrong := lacks_vgg16(plan):
        yield f"VGG16, for LPIPS: {wrong}"


def _devices(plan: Plan) -> Iterator[str]:
    """Compare the CUDA devices with what is asked for."""
    if wrong := fault(lambda: check_device(plan.run.device, plan.run.processes)):
        yield wrong
        return
    if plan.run.device == "cpu" or pick_device(plan.run.device).type not in ("cpu", "cuda"):
        return
    here = torch.cuda.device_count()
    if here < plan.run.processes and plan.flops > CPU:
        yield f"devices: this machine has {here} of the {plan.run.processes} CUDA devices"
    used = [torch.cuda.get_device_properties(number) for number in range(min(here, plan.run.processes))]
    for name, size in {(one.name, one.total_memory) for one in used}:
        if size < plan.memory.most:
            sizes = f"{size / 1e9:.0f} GB, and {plan.memory.most / 1e9:.0f} GB are wanted"
            yield f"memory: {name} has {sizes}; a smaller micro_batch wants less"


def _disk(plan: Plan, place: Path) -> Iterator[str]:
    """Compare what is free in a folder with what the run will write."""
    free, needed = shutil.disk_usage(place).free, sum(plan.disk.values()) - plan.disk["data set"]
    if free < needed:
        yield f"disk: {place} has {free / 1e9:.0f} GB free, and {needed / 1e9:.0f} GB are needed"
