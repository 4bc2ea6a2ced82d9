"""What the passes of a network take, counted on tensors that have a shape and a device but no memory."""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.bench.arithmetic import PASSES
from ict_lib.data import Entry
from ict_lib.objective import distance_between
from ict_lib.plan.live import LiveBytes
from ict_lib.run_config import RunConfig
from ict_lib.sampling import sample
from ict_lib.techniques.distance import lpips
from ict_lib.training.model import build_model
from ict_lib.training.precision import HALF

SAMPLED = inspect.signature(sample).parameters["batch_size"].default  # images that are drawn at a time


class Passes(NamedTuple):
    """What training on one micro-batch takes, and sampling.

    Attributes:
        parameters: numbers that are trained.
        forward: floating-point operations of the network's forward pass, an image.
        distance: likewise of the distance between two outputs; 0 but for LPIPS, as only products count.
        kept: bytes that the student's forward pass keeps for its backward pass, without the weights.
        sampling: bytes that drawing ``SAMPLED`` images holds at the most, without the weights.
        micro_batch: images of the micro-batch.
    """

    parameters: int
    forward: int
    distance: int
    kept: int
    sampling: int
    micro_batch: int

    @property
    def step(self) -> int:
        """Floating-point operations of training on one image: four forward passes, and those of the distance.

        Student forward, its backward pass, which takes two, and teacher forward. A distance's network has fixed weights
        and takes the gradient of one of its two images: half of its forward operations once more.
        """
        return PASSES * self.forward + 3 * self.distance // 2


@contextmanager
def without_memory() -> Iterator[None]:
    """Let tensors have no memory, and be on a CUDA device where there is none.

    Source: own.
    """
    with FakeTensorMode(), _FusedAttention():
        yield


def count_passes(config: RunConfig, form: Entry, device: torch.device, sampled: int = SAMPLED) -> Passes:
    """Take a micro-batch through teacher, student and distance, and other images through the network, and count.

    Compiled passes keep less than is counted here: they compute some of it twice instead.

    Source: own.

    Args:
        config: of a training.
        form: of its data.
        device: where; inside of :func:`without_memory`, any.
        sampled: images that are drawn at a time.

    Returns:
        The counts.

    Raises:
        ImportError: if the distance is LPIPS and its package is missing.
    """
    size = config.batch_size // config.num_shards
    with device:
        model, distance = build_model(config, form.shape, form.num_classes), _distance(config)
    batch = _images(size, form, device)
    with FlopCounterMode(display=False) as network, torch.no_grad():
        target = model(*batch)
    with _rounding(config.precision, device), _keeping(model) as kept, FlopCounterMode(display=False) as student:
        distance(model(*batch), target)
    with torch.no_grad(), LiveBytes() as drawing:
        model.eval()(*_images(sampled, form, device))
    forward, both = network.get_total_flops(), student.get_total_flops()
    parameters = sum(p.numel() for p in model.parameters())
    return Passes(parameters, forward // size, (both - forward) // size, sum(kept.values()), drawing.most, size)


def _images(num: int, form: Entry, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Make what a model takes: images, noise levels and labels."""
    with device:
        return torch.zeros(num, *form.shape), torch.ones(num), torch.zeros(num, dtype=torch.int64)


def _distance(config: RunConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """Make the distance of a recipe; LPIPS with random weights, which take no file and cost the same."""
    recipe = config.recipe
    if recipe.distance != "lpips":
        return lambda x, y: distance_between(recipe, x, y)
    from lpips import LPIPS  # 2 s to import: only for those who ask for this distance

    # version 0.0 leaves out the scaling of the pixels, whose numbers would have memory
    with warnings.catch_warnings(action="ignore"):  # torchvision's, about arguments that the package gives it
        network = LPIPS(net="vgg", version="0.0", pretrained=False, pnet_rand=True, verbose=False)
    network.eval().requires_grad_(False)
    return lambda x, y: lpips(x, y, network)


@contextmanager
def _keeping(model: nn.Module) -> Iterator[dict[int, int]]:
    """Collect the bytes that autograd keeps, by their storage; the model's own are not counted."""
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor  # held by autograd: so no other storage gets this address meanwhile

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


@contextmanager
def _rounding(precision: str, device: torch.device) -> Iterator[None]:
    """Do what :func:`ict_lib.training.precision.passing` does, also where the device is missing."""
    kind = device.type
    before = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    try:
        torch.set_autocast_enabled(kind, precision in HALF)
        torch.set_autocast_dtype(kind, HALF.get(precision, before[1]))
        yield
    finally:
        torch.set_autocast_enabled(kind, before[0])
        torch.set_autocast_dtype(kind, before[1])
        torch.clear_autocast_cache()


class _FusedAttention(TorchFunctionMode):
    """Call the kernel that a CUDA device would take for attention; where there is none, torch takes another."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is not F.scaled_dot_product_attention or args[0].device.type != "cuda":
            return function(*args, **(kwargs or {}))
        if args[0].element_size() == 2:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args)[0]
        return torch.ops.aten._scaled_dot_product_efficient_attention(*args, None, True)[0]
