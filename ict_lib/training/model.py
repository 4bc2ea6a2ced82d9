"""The model of a run, the device that it is on, and its weights as a file that anybody can read."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from ict_lib.checks import require
from ict_lib.config import Run
from ict_lib.consistency import ConsistencyModel
from ict_lib.evaluation.extractor import one_thread
from ict_lib.files import write_atomically
from ict_lib.networks.build import build_network
from ict_lib.networks.lpips import perceptual
from ict_lib.objective import distance_between
from ict_lib.techniques import dropout
from ict_lib.training.precision import multiplying, passing
from ict_lib.training.step import Learner
from ict_lib.training.streams import WEIGHTS, stream

MOST_APART = 0.1  # of the output, by rounding: teacher and student are two programs. Two masks make it several tenths


def build_model(run: Run, shape: tuple[int, ...], num_classes: int, seed: int | None = None) -> ConsistencyModel:
    """Build the model of a run, on the CPU, with weights that the seed decides; None takes the run's first.

    ``shape`` is that of one sample. ``num_classes`` counts if the run is conditional.
    """
    classes, seed = num_classes if run.conditional else 0, run.seeds[0] if seed is None else seed
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream(seed, 0, WEIGHTS).initial_seed())
        network = build_network(run.network, shape, run.recipe, classes, run.network_options)
    return ConsistencyModel(network, run.recipe.sigma_data, run.recipe.sigma_min)


def build_learner(run: Run, shape: tuple[int, ...], num_classes: int, seed: int, device: torch.device) -> Learner:
    """Build the models of a training and their optimizer, on a device; what the distance lacks is noticed now.

    On an accelerator a teacher whose dropout mask is not the student's, as :func:`passes_apart` finds, is refused.
    """
    distance_between(run.recipe, *torch.zeros(2, 1, *shape, device=device), perceptual)
    student = arrange(build_model(run, shape, num_classes, seed).to(device))
    learner = Learner(student, run.recipe, run.learning_rate, run.precision, perceptual)
    label = torch.zeros(1, dtype=torch.long, device=device) if run.conditional else None
    dropout.find_places(student, torch.zeros(1, *shape, device=device), label)  # now, so that it is not compiled
    if run.compile:
        compile_passes(learner.student, learner.teacher)
    if device.type != "cpu" and run.recipe.dropout:
        apart = passes_apart(learner, (run.shard_size, *shape), num_classes if run.conditional else 0)
        rule = f"less than {MOST_APART} of it, or they have two dropout masks: compile=false may help,"
        require(apart < MOST_APART, "the difference of teacher and student at one input", round(apart, 3), rule)
    return learner


def passes_apart(learner: Learner, shape: tuple[int, ...], num_classes: int = 0) -> float:
    """Let teacher and student see one input of a shape, ``[batch, ...]``; return their distance over the output's norm.

    A new network's output is zero: meanwhile the layers that start so have random weights.
    """
    random, device = torch.Generator().manual_seed(0), learner.weights[0].device
    x = 80 * torch.randn(shape, generator=random).to(device)
    sigma = torch.full(shape[:1], 80.0, device=device)  # whose output is the network's
    label = torch.arange(shape[0], device=device) % num_classes if num_classes else None
    models, masks = (learner.student, learner.teacher), torch.Generator(device).manual_seed(0)
    shared = dropout.shared_mask(masks, x, label, *models)
    with multiplying(learner.precision), passing(learner.precision, device), _opened(*models), shared:
        with torch.no_grad():
            target = learner.teacher(x, sigma, label)
        output = learner.student(x, sigma, label).detach()
    return float((output - target).norm() / target.norm())


@contextlib.contextmanager
def _opened(*models: ConsistencyModel) -> Iterator[None]:
    """Give the layers that are zero random weights for a while, the same in all models."""
    blank = [[p.data for p in model.parameters() if p.ndim > 1 and not p.any()] for model in dict.fromkeys(models)]
    random = torch.Generator().manual_seed(0)
    for alike in zip(*blank, strict=True):
        drawn = torch.randn(alike[0].shape, generator=random) * (len(alike[0]) / alike[0].numel()) ** 0.5
        for weight in alike:
            weight.copy_(drawn)
    yield
    for weight in itertools.chain(*blank):
        weight.zero_()


def pick_device(name: str) -> torch.device:
    """Turn ``auto`` into the accelerator of this machine, or the CPU; a CUDA device becomes this process's own."""
    if name != "auto":
        device = torch.device(name)
        if device.type == "cuda" and device.index is not None and torch.cuda.is_available():
            torch.cuda.set_device(device)  # whom synchronising, peak memory and Inception ask for
        return device
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def arrange(model: ConsistencyModel) -> ConsistencyModel:
    """Lay the weights out as CUDA convolutes fastest: the channels of one position side by side."""
    cuda = next(model.parameters()).device.type == "cuda"
    return model.to(memory_format=torch.channels_last) if cuda else model


def compile_passes(*models: ConsistencyModel) -> None:
    """Let ``torch.compile`` make one program of each pass of the models, in place."""
    torch.compiler.reset()  # it would count the programs of earlier trainings, and stop at eight
    for model in dict.fromkeys(models):
        model.network.compile()


def threads_for(run: Run, device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Let the MLP compute on one thread of a CPU: several would wait for each other longer than they work."""
    return one_thread() if run.network == "mlp" and device.type == "cpu" else contextlib.nullcontext()


def save_weights(path: Path, model: nn.Module, notes: dict[str, str] | None = None) -> None:
    """Write a model's weights as safetensors, all of them or none; notes are kept in the file's header."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state, notes))


def load_weights(path: Path, model: nn.Module) -> None:
    """Read what :func:`save_weights` wrote into a model, in place; ``RuntimeError`` if it has another architecture."""
    model.load_state_dict(safetensors.torch.load(Path(path).read_bytes()))
