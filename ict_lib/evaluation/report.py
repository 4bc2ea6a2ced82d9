"""What is measured of a trained model on images: the numbers of a run's record."""

import torch
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.digits_features import digits_features
from ict_lib.evaluation.exact import frechet_distance, sliced_wasserstein
from ict_lib.evaluation.fidelity import fidelity
from ict_lib.sampling import sample


def draw(model: ConsistencyModel, data: Dataset, num: int, sigmas: tuple[float, ...], seed: int) -> Tensor:
    """Draw images from a model; where it was trained with labels, as many of each class as the data has.

    Source: own.

    Args:
        model: usually of the averaged weights.
        data: what it was trained on.
        num: how many images.
        sigmas: noise levels, falling; one evaluation of the network each.
        seed: of the noise.

    Returns:
        Images on the CPU, clipped to [-1, 1] as any saved picture is, shape ``[num, channel, height, width]``.

    Raises:
        ValueError: if ``sigmas`` does not fall.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    label = data.labels[torch.arange(num) * len(data) // num].to(device)
    return sample(model, num, data.images.shape[1:], sigmas, generator, label).cpu().clamp(-1, 1)


def quick(model: ConsistencyModel, data: Dataset, sigma_max: float, seed: int) -> dict[str, float]:
    """Measure the Frechet distance on pixels of one-step samples, as many as the data has: the curve of a training.

    Source: own.

    Args:
        model: usually of the averaged weights.
        data: what it was trained on.
        sigma_max: noise level of the only step.
        seed: of the noise.

    Returns:
        ``frechet_pixels_1_step``, squared data units.
    """
    images = draw(model, data, len(data), (sigma_max,), seed)
    return {"frechet_pixels_1_step": frechet_distance(images, data.images)}


def measure(images: Tensor, data: Dataset, steps: str) -> dict[str, float]:
    """Measure images against all images of a data set.

    Source: own.

    Args:
        images: generated, shape ``[num, channel, height, width]``, in [-1, 1].
        data: the truth.
        steps: ends every name, such as ``1_step``.

    Returns:
        Frechet distances on pixels and on features, sliced Wasserstein distance, and torch-fidelity's metrics.
    """
    found = {
        "frechet_pixels": frechet_distance(images, data.images),
        "frechet_features": frechet_distance(digits_features(images), digits_features(data.images)),
        "sliced_wasserstein": sliced_wasserstein(images, data.images, generator=torch.Generator().manual_seed(0)),
        **fidelity(images, data.images),
    }
    return {f"{name}_{steps}": value for name, value in found.items()}
