"""What is computed of the reference set of an FID: once, and kept under a name made of the content."""

import hashlib
import os
from pathlib import Path

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Images
from torch_fidelity.utils import create_feature_extractor, resolve_feature_layer_for_metric
from torch_fidelity.utils_torch import torch_atomic_save

from ict_lib.data.cache import cache_folder
from ict_lib.data.dataset import Dataset

MOST = 50_000  # images whose features are all kept; of a larger set these are a fixed random part


def some_of(levels: Tensor, most: int) -> Tensor:
    """Choose a fixed random part of a large set, in its order; all of a small one.

    Source: own.

    Args:
        levels: shape ``[num, channel, height, width]``.
        most: how many at most.

    Returns:
        Levels, shape ``[min(num, most), channel, height, width]``.
    """
    if len(levels) <= most:
        return levels
    chosen = torch.randperm(len(levels), generator=torch.Generator().manual_seed(0))[:most].sort().values
    return levels[chosen]


def cache_options(data: Dataset, weights: Path, folder: str | os.PathLike[str] | None, most: int) -> dict[str, object]:
    """Tell torch-fidelity where to keep what it computes of a reference set, so that it is computed once.

    Source: own.

    Args:
        data: the reference set.
        weights: file of the extractor.
        folder: of the cache; see `cache_folder` for where it is otherwise.
        most: images that count, at most.

    Returns:
        Options of torch-fidelity. The name holds the images' checksum, the weights' and torch-fidelity's version.
    """
    with weights.open("rb") as file:
        network = hashlib.file_digest(file, "sha256").hexdigest()
    content = hashlib.sha256(f"{data.checksum()} {network} {torch_fidelity.__version__}".encode()).hexdigest()[:24]
    part = f"-{most}" if len(data) > most else ""
    root = cache_folder(folder) / "fidelity"
    return {"cache": True, "cache_root": str(root), "input2_cache_name": f"{data.name}{part}-{content}"}


@torch.no_grad()
def keep_statistics(images: Images, extractor: str, options: dict[str, object]) -> None:
    r"""Compute mean and covariance of the features of a large set, image by image, where torch-fidelity will look.

    .. math:: \Sigma = \frac{1}{n - 1} \Big( \sum_i f_i f_i^T - n \mu \mu^T \Big)

    torch-fidelity would hold all features at once, twice: 42 GB for ImageNet. This needs one batch.

    Source: Heusel et al. 2017; the names of the files are torch-fidelity's.

    Args:
        images: each uint8 ``[3, height, width]``.
        extractor: torch-fidelity's name of it.
        options: for torch-fidelity, with `cache_options`.
    """
    layer = resolve_feature_layer_for_metric("fid", feature_extractor=extractor)
    path = Path(str(options["cache_root"])) / f"{options['input2_cache_name']}-{extractor}-stat-fid-{layer}.pt"
    if path.exists():
        return
    device = "cuda" if options["cuda"] else "cpu"
    others = {key: value for key, value in options.items() if key not in ("feature_extractor", "cuda")}
    network = create_feature_extractor(extractor, [layer], cuda=device == "cuda", verbose=False, **others)
    loader = DataLoader(images, batch_size=int(str(options["batch_size"])))
    total, squares = 0.0, 0.0
    for batch in loader:
        features = network(batch.to(device))[0].double()  # [batch, features]
        total, squares = total + features.sum(dim=0), squares + features.T @ features
    mean = total / len(images)
    covariance = (squares - len(images) * mean[:, None] * mean) / (len(images) - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch_atomic_save({"mu": mean.cpu().float().numpy(), "sigma": covariance.cpu().numpy()}, str(path))
