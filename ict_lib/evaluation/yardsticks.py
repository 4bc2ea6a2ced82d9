"""Sets of images whose distance from the data tells what a distance is worth: from no learning to a perfect memory."""

import torch
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import POINTS, load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.data.small import TOYS
from ict_lib.evaluation.extractor import features_of
from ict_lib.evaluation.measure import draw
from ict_lib.exact.distances import frechet_distance, sliced_wasserstein


def yardsticks(untrained: ConsistencyModel, data: Dataset, num: int, seed: int = 0) -> dict[str, Tensor]:
    """Make images by what is known without training, the worst first; a model should beat all but the last.

    In [-1, 1], each ``[num, channel, height, width]``: ``untrained network``, with its initial weights, in one step
    from sigma = 80; ``mean image``; ``clipped Gaussian`` with the data's mean and covariance; ``bootstrap``, the data
    drawn with replacement. All of the data must fit into memory.
    """
    generator, images = torch.Generator().manual_seed(seed), data.images.cpu()
    flat = images.flatten(1).double()  # [n, d]
    mean = flat.mean(dim=0)
    _, scale, axes = torch.linalg.svd(flat - mean, full_matrices=False)
    noise = torch.randn(num, len(scale), generator=generator, dtype=torch.float64)
    gaussian = mean + noise * scale / (len(flat) - 1) ** 0.5 @ axes  # [num, d]
    again = torch.randint(len(images), (num,), generator=generator)
    return {
        "untrained network": draw(untrained, data, num, (80.0,), seed),
        "mean image": mean.to(images).view(1, *data.shape).expand(num, *data.shape),
        "clipped Gaussian": gaussian.clamp(-1, 1).to(images).view(num, *data.shape),
        "bootstrap": images[again],
    }


def fresh_distance(name: str, num: int = POINTS) -> float:
    """Measure fresh points of a toy as a record measures a model's: what a perfect model would have."""
    data, fresh = load_dataset(name).images, TOYS[name](num, torch.Generator().manual_seed(1))
    return sliced_wasserstein(fresh, data, generator=torch.Generator().manual_seed(0))


def halves(data: Dataset, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Split the data into two random halves: how far apart two samples of the truth are."""
    return _split(data.images.cpu(), seed)


def _split(rows: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    mixed = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    return tuple(rows[mixed].tensor_split(2))


def fresh_frechet(data: Dataset, num: int, features: bool = True) -> float:
    """Estimate the Frechet distance that ``num`` fresh images would have from all of a small data set.

    It is on features, or else on pixels. No fresh ones are left, so it is that of two halves, the mean of 20 splits,
    carried over :func:`to_sizes`.
    """
    images = data.images.cpu()
    seen = features_of(images, data.name) if features else images
    apart = sum(frechet_distance(*_split(seen, seed)) for seed in range(20)) / 20
    return to_sizes(apart, (len(data) // 2, len(data) - len(data) // 2), (num, len(data)))


def to_sizes(distance: float, measured: tuple[int, int], wanted: tuple[int, int]) -> float:
    """Carry the Frechet distance of two samples of one distribution over to samples of other sizes.

    To first order it falls with 1/n + 1/m, as the errors of means and covariances do.
    """
    return distance * sum(1 / size for size in wanted) / sum(1 / size for size in measured)
