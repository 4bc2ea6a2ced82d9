"""What a run takes, counted on tensors that have a shape and a device but no memory: operations, memory, disk."""

import inspect
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.config import Run, trainings_of
from ict_lib.data import DATASETS
from ict_lib.objective import distance_between
from ict_lib.sampling import sample
from ict_lib.techniques import dropout
from ict_lib.training.checkpoint import KEEP
from ict_lib.training.model import build_model
from ict_lib.training.precision import HALF

PASSES = 4  # teacher forward, student forward, and a backward pass that costs two forward ones
SAMPLED = inspect.signature(sample).parameters["batch_size"].default  # images that are drawn at a time
RESERVE = ("empty", "new_empty", "_unsafe_view")  # torch's operations that neither read nor write numbers
FLOAT, LABEL = 4, 8  # bytes: weights, averages, gradients and moments are 32-bit in every precision


class Passes(NamedTuple):
    """What training on one shard takes, and sampling."""

    parameters: int  # numbers that are trained
    forward: int  # floating-point operations of the network's forward pass, an image
    distance: int  # likewise of the distance between two outputs; 0 but for LPIPS, as only products count
    kept: int  # bytes that the student's forward pass keeps for its backward pass, without the weights
    masks: int  # of them, those of dropout
    sampling: int  # bytes that drawing ``SAMPLED`` images holds at the most, without the weights
    shard: int  # images of the shard

    @property
    def step(self) -> int:
        """Floating-point operations of training on one image: four forward passes, and those of the distance.

        A distance's network has fixed weights and takes the gradient of one of its two images: half of its forward
        operations once more.
        """
        return PASSES * self.forward + 3 * self.distance // 2


class LiveBytes(TorchDispatchMode):
    """Follow the tensors that are made inside, with memory or without: bytes ``now``, and the ``most`` so far."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
        made = function(*args, **(kwargs or {}))
        storages = [leaf.untyped_storage() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        for storage in storages:
            if storage._cdata not in before | self._sizes.keys():
                self._sizes[storage._cdata] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata)
        self.most = max(self.most, self.now)
        return made

    def _forget(self, name: int) -> None:
        self.now -= self._sizes.pop(name)


class Traffic(TorchDispatchMode):
    """Count the ``operations`` inside, but views and what only reserves memory, and the ``bytes`` they read and write.

    What is changed in place counts as both; an operation on a list of tensors, such as RAdam's, as one.
    """

    def __init__(self):
        super().__init__()
        self.operations = self.bytes = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        if not (function.is_view or function.__name__.startswith(RESERVE)):
            used = tree_leaves([args, kwargs, args[:1] if made is None else made])  # None: of lists, changed in place
            self.operations += 1
            self.bytes += sum(leaf.nbytes for leaf in used if isinstance(leaf, Tensor))
        return made


@contextmanager
def without_memory() -> Iterator[None]:
    """Let tensors have no memory, and be on a CUDA device where there is none."""
    with FakeTensorMode(), _FusedAttention():
        yield


def count_passes(run: Run, device: str = "cuda", sampled: int = SAMPLED) -> Passes:
    """Take a shard through teacher, student and distance, and other images through the network, and count.

    Compiled passes keep less than is counted here: they compute some of it twice instead. Products and convolutions
    count, a multiplication and an addition as two; what is done element by element does not. ``ImportError`` if the
    distance is LPIPS and its package is missing.
    """
    size, form = run.shard_size, DATASETS[run.data]
    with torch.device(device):
        model, perceptual = build_model(run, form.shape, form.num_classes), _perceptual(run)
        batch, drawn = ((torch.zeros(n, *form.shape), torch.ones(n), torch.zeros(n).long()) for n in (size, sampled))
    x, _, label = batch
    dropout.find_places(model, x, label)
    with FlopCounterMode(display=False) as network, torch.no_grad():
        target = model(*batch)
    with _rounding(run.precision, device), LiveBytes() as student, FlopCounterMode(display=False) as both:
        with dropout.shared_mask(None, x, label, model):
            masks = student.now
            loss = distance_between(run.recipe, model(*batch), target, perceptual)
        kept = student.now
    del loss, target
    with torch.no_grad(), LiveBytes() as drawing:
        model.eval()(*drawn)
    parameters, forward = sum(p.numel() for p in model.parameters()), network.get_total_flops()
    distances = (both.get_total_flops() - forward) // size
    return Passes(parameters, forward // size, distances, kept, masks, drawing.most, size)


class Memory(NamedTuple):
    """What a device holds while it trains, in bytes; without the work space and the gaps between tensors."""

    always: dict[str, int]  # part -> bytes, there all the time
    in_turn: dict[str, int]  # part -> bytes, of which no two are there at once

    @property
    def most(self) -> int:
        """Bytes at the peak."""
        return sum(self.always.values()) + max(self.in_turn.values())


def memory(run: Run, passes: Passes) -> Memory:
    """Say what a device holds; the copy of the gradients is one that RAdam makes."""
    weights, data = FLOAT * passes.parameters, DATASETS[run.data]
    always = {
        "weights": weights,
        "teacher": weights if run.recipe.teacher == "ema" else 0,
        "moving average": weights,
        "gradients": weights,
        "RAdam's moments": 2 * weights,
        "data set": LABEL * data.num if data.packed else data_bytes(run.data),  # packed, it stays in its file
    }
    in_turn = {"backward pass": passes.kept, "copy of the gradients": weights, "sampling": passes.sampling}
    return Memory({part: size for part, size in always.items() if size}, in_turn)


def disk(run: Run, passes: Passes) -> dict[str, int]:
    """Say what a run has on the disk at the most, part -> bytes: a checkpoint is written before the oldest goes."""
    one, seeds, trainings = checkpoint_bytes(run, passes), len(run.seeds), len(trainings_of(run))
    milestones = -(-run.steps // run.milestone_every) if run.milestone_every else 0
    return {
        "newest checkpoints": (KEEP * seeds + 1) * one,
        "milestones": milestones * seeds * one,
        "weights": (2 if run.measure_every else 1) * trainings * FLOAT * passes.parameters,  # the last, and the best
        "data set": data_bytes(run.data),
    }


def checkpoint_bytes(run: Run, passes: Passes) -> int:
    """Return the size of a checkpoint: student, average, both moments and, if it is another, the teacher."""
    return FLOAT * passes.parameters * (5 if run.recipe.teacher == "ema" else 4)


def data_bytes(name: str) -> int:
    """Return the size of a data set whose numbers are bytes, with its labels."""
    form = DATASETS[name]
    return form.num * (torch.Size(form.shape).numel() + LABEL)


def _perceptual(run: Run) -> nn.Module | None:
    """Make the network of LPIPS, if it is the distance; its random weights take no file and cost the same."""
    if run.recipe.distance != "lpips":
        return None
    from lpips import LPIPS  # 2 s to import: only for those who ask for this distance

    # version 0.0 leaves out the scaling of the pixels, whose numbers would have memory
    with warnings.catch_warnings(action="ignore"):  # torchvision's, about arguments that the package gives it
        network = LPIPS(net="vgg", version="0.0", pretrained=False, pnet_rand=True, verbose=False)
    return network.eval().requires_grad_(False)


def _rounding(precision: str, kind: str) -> torch.autocast:
    """Do what :func:`ict_lib.training.precision.passing` does, also where the device is missing."""
    context = torch.autocast(kind, HALF.get(precision), enabled=False)
    context._enabled = precision in HALF  # not handed over, as torch would refuse that without the device
    return context


class _FusedAttention(TorchFunctionMode):
    """Call the kernel that a CUDA device would take for attention; where there is none, torch takes another."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention or args[0].device.type != "cuda":
            return function(*args, **(kwargs or {}))
        if args[0].element_size() == 2:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args)[0]
        return torch.ops.aten._scaled_dot_product_efficient_attention(*args, None, True)[0]
