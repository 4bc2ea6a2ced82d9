"""What a run still needs on this machine: looked for, never fetched."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from ict_lib.data import DATASETS
from ict_lib.evaluation.fidelity import inception_weights
from ict_lib.networks.lpips import vgg16_weights
from ict_lib.run.needs import check_device, lacking, standing
from ict_lib.scale.estimate import Plan

CPU = 1e15  # floating-point operations that a CPU does in a few hours: a run of no more needs no other device


def missing(plan: Plan, folder: Path) -> list[str]:
    """List what has to be done on this machine before a run can start.

    Args:
        plan: of the run.
        folder: that the results go to; it need not exist.

    Returns:
        One line a thing, with the command where there is one; empty if nothing is missing.
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
