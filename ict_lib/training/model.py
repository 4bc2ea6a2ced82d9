"""The model of a run, and the device that it is on."""

import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.networks.build import build_network
from ict_lib.run_config import RunConfig


def build_model(config: RunConfig, shape: tuple[int, ...], num_classes: int) -> ConsistencyModel:
    """Build the model that a run's configuration names, with weights that its seed decides.

    Source: own.

    Args:
        config: of the run.
        shape: of one sample.
        num_classes: of the data; used if the run is conditional.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: if the network refuses an option.
    """
    recipe = config.recipe
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        classes = num_classes if config.conditional else 0
        network = build_network(config.network, shape, recipe, classes, config.network_options)
    return ConsistencyModel(network, recipe.sigma_data, recipe.sigma_min)


def pick_device(name: str) -> torch.device:
    """Turn ``auto`` into the accelerator of this machine, or the CPU.

    Source: own.

    Args:
        name: ``auto`` or torch's name of a device.

    Returns:
        The device.
    """
    if name != "auto":
        return torch.device(name)
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def arrange(trained: set[ConsistencyModel], average: ConsistencyModel, compiled: bool) -> None:
    """Lay the weights out in memory as the device likes them best, and compile what is trained, if that is wanted.

    CUDA convolutes fastest where the channels of one position lie side by side. Compiled dropout would draw its mask
    from a stream of its own, another for the teacher than for the student; it is told to draw as without compilation.

    Source: own.

    Args:
        trained: student and teacher, changed in place.
        average: the averaged weights, changed in place; sampling does not compile them.
        compiled: whether to compile.
    """
    if next(average.parameters()).device.type == "cuda":
        for model in (*trained, average):
            model.to(memory_format=torch.channels_last)
    for model in trained if compiled else ():
        model.network.compile(options={"fallback_random": True})
