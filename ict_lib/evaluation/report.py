"""What is measured of a trained model on images: the numbers of a run's record."""

import torch
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.digits_features import digits_features
from ict_lib.exact.distances import frechet_distance, sliced_wasserstein
from ict_lib.evaluation.fidelity import fidelity
from ict_lib.evaluation.inception_weights import inception_weights
from ict_lib.group import Alone
from ict_lib.sampling import sample

QUICK = 2048  # images of a quick evaluation at most
BLOCK = 2500  # images that are drawn from one random stream


def draw(
    model: ConsistencyModel,
    data: Dataset,
    num: int,
    sigmas: tuple[float, ...],
    seed: int,
    group: Alone | None = None,
) -> Tensor:
    """Draw images from a model; where it was trained with labels, as many of each class as the data has.

    Large numbers are drawn in blocks, each from a random stream of its own; many processes share the blocks out. The
    images do not depend on how many processes there are.

    Source: own.

    Args:
        model: usually of the averaged weights.
        data: what it was trained on.
        num: how many images.
        sigmas: noise levels, falling; one evaluation of the network each.
        seed: of the noise.
        group: of processes, each of which calls this with the same model; None draws alone.

    Returns:
        Images on the CPU, clipped to [-1, 1] as any saved picture is, shape ``[num, channel, height, width]``; none in
        the processes of higher rank than 0, which have no use for them.

    Raises:
        ValueError: if ``sigmas`` does not fall.
    """
    group, size = group or Alone(), min(num, BLOCK)
    blocks = -(-num // size)
    images: list[Tensor] = []
    for first in range(0, blocks, group.processes):
        number = min(first + group.rank, blocks - 1)  # whoever has no block left draws the last one in vain
        parts = group.gather(_block(model, data, num, size, number, sigmas, seed))
        images += [part.cpu() for part in parts[: blocks - first]] if group.rank == 0 else []
    return torch.cat(images)[:num].clamp(-1, 1) if images else torch.empty(0, *data.shape)


def _block(
    model: ConsistencyModel, data: Dataset, num: int, size: int, number: int, sigmas: tuple[float, ...], seed: int
) -> Tensor:
    """Draw one block of images, shape ``[size, channel, height, width]``, on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    if number:  # the CPU's generator looks at the last 32 bits of a seed
        generator.manual_seed(int(torch.randint(2**32, (number,), generator=generator)[-1]))
    place = torch.arange(number * size, (number + 1) * size).clamp(max=num - 1)
    label = data.labels.cpu()[place * len(data) // num].to(next(model.parameters()).device)
    return sample(model, size, data.shape, sigmas, generator, label)


def quick(model: ConsistencyModel, data: Dataset, sigma_max: float, seed: int) -> dict[str, float]:
    """Measure the Frechet distance on pixels of one-step samples, as many as real images: the curve of a training.

    Of large data sets a fixed random part counts. The number compares with itself over a training, with nothing else.

    Source: own.

    Args:
        model: usually of the averaged weights.
        data: what it was trained on.
        sigma_max: noise level of the only step.
        seed: of the noise.

    Returns:
        ``frechet_pixels_1_step``, squared data units.
    """
    mixed = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    chosen = mixed[:QUICK] if len(data) > QUICK else torch.arange(len(data))
    images = draw(model, data, len(chosen), (sigma_max,), seed)
    return {"frechet_pixels_1_step": frechet_distance(images, data.batch(chosen))}


def prepare(data: Dataset) -> None:
    """Make sure, before hours of training, that :func:`measure` will have the network that it needs.

    Source: own.

    Args:
        data: what will be trained on.

    Raises:
        RuntimeError: if Inception's weights are needed, missing and cannot be downloaded; says what to put where.
    """
    if data.name != "digits":
        inception_weights()


def measure(images: Tensor, data: Dataset, steps: str) -> dict[str, float]:
    """Measure images against all images of a data set.

    Source: own.

    Args:
        images: generated, shape ``[num, channel, height, width]``, in [-1, 1].
        data: the truth.
        steps: ends every name, such as ``1_step``.

    Returns:
        torch-fidelity's metrics, on Inception's features; of the digits, on those of their own classifier, with
        Frechet distances on pixels and on features and the sliced Wasserstein distance.

    Raises:
        RuntimeError: if Inception's weights are needed, missing and cannot be downloaded.
    """
    if data.name != "digits":
        device = "cuda" if torch.cuda.is_available() else "cpu"
        found = fidelity(images, data, extractor="inception", device=device)
        return {f"{name}_{steps}": value for name, value in found.items()}
    found = {
        "frechet_pixels": frechet_distance(images, data.images),
        "frechet_features": frechet_distance(digits_features(images), digits_features(data.images)),
        "sliced_wasserstein": sliced_wasserstein(images, data.images, generator=torch.Generator().manual_seed(0)),
        **fidelity(images, data.images),
    }
    return {f"{name}_{steps}": value for name, value in found.items()}
