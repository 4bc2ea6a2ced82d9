"""What is computed of a set of images for an FID; of a reference set once, kept under a name made of the content."""

import hashlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ict_lib.data.cache import cache_folder
from ict_lib.data.dataset import Dataset
from ict_lib.files import write_atomically

Network = Callable[[Tensor], tuple[Tensor, Tensor]]  # uint8 levels -> features and logits
MOST = 50_000  # images whose features are all kept, 0.4 GB of Inception's; of a larger set a fixed random part
BATCH = 64


@torch.no_grad()
def summarise(network: Network, levels: Tensor, device: str) -> dict[str, Tensor]:
    r"""Compute mean and covariance of the features of all images, batch by batch, and keep the features of some.

    .. math:: \Sigma = \frac{1}{n - 1} \Big( \sum_i f_i f_i^T - n \mu \mu^T \Big)

    torch-fidelity would hold all features at once, twice: 42 GB for ImageNet.

    The network maps uint8 levels ``[batch, channel, height, width]`` on the device to features ``[batch, dim]`` and
    logits ``[batch, classes]``. ``mean`` ``[dim]`` and ``covariance`` ``[dim, dim]`` are float64; ``features`` and
    ``logits`` are those of the images that :func:`some_of` chooses, in their order; all on the CPU.
    """
    num, total, squares = len(levels), 0.0, 0.0
    features, logits = [], []
    for part, wanted in zip(levels.split(BATCH), some_of(num).split(BATCH), strict=True):
        found, logit = network(part.to(device))
        exact = found.double()
        total, squares = total + exact.sum(dim=0), squares + exact.T @ exact
        features.append(found.cpu()[wanted])
        logits.append(logit.cpu()[wanted])
    mean = total / num
    covariance = (squares - num * mean[:, None] * mean) / (num - 1)
    moments = {"mean": mean.cpu(), "covariance": covariance.cpu()}
    return {**moments, "features": torch.cat(features), "logits": torch.cat(logits)}


def some_of(num: int) -> Tensor:
    """Choose ``MOST`` of many images, the same each time, and all of few: bool ``[num]``."""
    chosen = torch.zeros(num, dtype=torch.bool)
    chosen[torch.randperm(num, generator=torch.Generator().manual_seed(0))[:MOST]] = True
    return chosen


def kept(data: Dataset, weights: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read what was computed of a reference set, or compute it and keep it; without logits, which no metric wants.

    The file is named by the set's checksum, the name of the extractor's published weights and torch-fidelity's version.
    """
    content = f"{data.checksum()} {weights} {version('torch-fidelity')} {MOST} fp32"
    path = cache_folder() / "fidelity" / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.safetensors"
    with suppress(OSError, SafetensorError):  # missing or damaged
        return load_file(path)
    summary = {name: tensor for name, tensor in compute().items() if name != "logits"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(summary))
    except OSError as error:
        warnings.warn(f"the features of {data.name} cannot be kept in {path.parent}: {error}", stacklevel=2)
    return summary
