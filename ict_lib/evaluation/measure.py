"""What is measured of a trained model on images: the numbers of a run's record."""

import torch
from torch import Tensor

from ict_lib.checks import require, whole
from ict_lib.consistency import ConsistencyModel
from ict_lib.data import DATASETS
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.extractor import features_of
from ict_lib.evaluation.fidelity import fidelity, inception_weights, to_uint8
from ict_lib.exact.distances import frechet_distance, nearest_ratio, share_on_data, sliced_wasserstein
from ict_lib.group import Alone
from ict_lib.sampling import sample
from ict_lib.training.precision import multiplying
from ict_lib.training.streams import stream

QUICK = 2048  # images of a quick evaluation at most
REFERENCE = 10_000  # images at most that a small extractor's features are compared with
NEAREST = 2000  # images at most whose nearest datum is sought
BLOCK = 2500  # images at most that are drawn from one random stream


@multiplying("fp32")
def draw(
    model: ConsistencyModel,
    data: Dataset,
    num: int,
    sigmas: tuple[float, ...],
    seed: int,
    group: Alone | None = None,
    levels: bool = False,
) -> Tensor:
    """Draw images from a model; of one that was trained with labels as many of each class as the data have, mixed.

    One evaluation of the network for each of the falling ``sigmas``; computed in fp32, whatever the training's
    precision is. Large numbers are drawn in blocks, each from a random stream of its own; the processes of a group,
    each of which calls this with the same model, share the blocks out. The images do not depend on how many processes
    there are.

    They are on the CPU, clipped to [-1, 1] as any saved picture is, ``[num, channel, height, width]``; as 8-bit
    ``levels``, if asked for, a quarter to exchange and all that Inception looks at; or points ``[num, 2]``; none in the
    processes of higher rank than 0, which have no use for them. ``num < 1``, a network of other classes than the data,
    and levels of what is not finite are a ValueError.
    """
    require(whole(num, 1), "num", num, "1 or more")
    group, blocks = group or Alone(), max(1, -(-num // BLOCK))
    size, labels = -(-num // blocks), _labels(model, data, num, stream(seed, 1))
    images: list[Tensor] = []
    for first in range(0, blocks, group.processes):
        number = min(first + group.rank, blocks - 1)  # whoever has no block left draws the last one in vain
        place = torch.arange(number * size, (number + 1) * size).clamp(max=num - 1)  # the last block may be too long
        label = labels if labels is None else labels[place].to(next(model.parameters()).device)
        part = sample(model, size, data.shape, sigmas, stream(seed, 0, number), label)
        parts = group.gather(to_uint8(part) if levels else part)
        images += [part.cpu() for part in parts[: blocks - first]]
    drawn = torch.cat(images)[:num] if images else torch.empty(0, *data.shape)
    return drawn.clamp(-1, 1) if len(data.shape) == 3 and not levels else drawn


def _labels(model: ConsistencyModel, data: Dataset, num: int, generator: torch.Generator) -> Tensor | None:
    """Spread labels ``[num]`` over the classes as the data do, mixed; None if the network has no classes."""
    classes = getattr(model.network, "classes", None)
    if classes is None:
        return None
    same = classes.num_embeddings == data.num_classes
    require(same, "num_classes of the data", data.num_classes, f"{classes.num_embeddings}, as the network has,")
    spread = data.labels.cpu().sort().values[torch.arange(num) * len(data) // num]
    return spread[torch.randperm(num, generator=generator)]


def quick(
    model: ConsistencyModel, data: Dataset, sigma_max: float, seed: int, group: Alone | None = None
) -> dict[str, float]:
    """Measure ``frechet_pixels_1_step``, squared data units, of as many images as the data have: a training's curve.

    Of points it is ``sliced_wasserstein_1_step``, data units.

    Of large data sets a fixed random part counts. The number compares with itself over a training, with nothing else.
    """
    chosen = _some(data, QUICK)
    images = draw(model, data, len(chosen), (sigma_max,), seed, group)
    if len(images) == 0:  # a process of higher rank than 0
        return {}
    if len(data.shape) == 1:
        lines = torch.Generator().manual_seed(0)
        return {"sliced_wasserstein_1_step": sliced_wasserstein(images, data.batch(chosen), generator=lines)}
    return {"frechet_pixels_1_step": frechet_distance(images, data.batch(chosen))}


def _some(data: Dataset, most: int) -> Tensor:
    """Choose all images of a small data set, in their order, and a random part of a large one, the same each time."""
    mixed = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    return mixed[:most] if len(data) > most else torch.arange(len(data))


def extractor_of(name: str) -> str:
    """Name the extractor on whose features a data set, or a stand-in of it, is compared."""
    entry = DATASETS.get(name.removeprefix("stand-in of "))
    return entry.extractor if entry else "inception"


def prepare(name: str) -> None:
    """Make sure, before hours of training, that :func:`measure` will have the network that a data set needs.

    A RuntimeError says what to put where, if Inception's weights are needed, missing and cannot be downloaded.
    """
    if extractor_of(name) == "inception":
        inception_weights()


def measure(images: Tensor, data: Dataset, steps: str, fid_alone: bool = False) -> dict[str, float]:
    """Measure images against a data set; where a small classifier gives the features, against 10,000 of it at most.

    Images are 10 or more, finite, ``[num, channel, height, width]``, in [-1, 1]; or 8-bit levels, for Inception.
    ``steps``, such as ``1_step``, ends every name of a number. ``fid_alone`` leaves out all else of images, which takes
    minutes.

    It gives what :func:`~ict_lib.evaluation.fidelity.fidelity` does, and raises so; with a small extractor also Frechet
    distances on pixels and on features that are not rounded to 8 bits, and the sliced Wasserstein distance; of points
    the latter alone, and the :func:`~ict_lib.exact.distances.share_on_data`; of both the
    :func:`~ict_lib.exact.distances.nearest_ratio`.
    """
    extractor = extractor_of(data.name)
    real = data if extractor == "inception" else data.batch(_some(data, REFERENCE))
    found = {} if extractor == "none" else fidelity(images, real, extractor, fid_alone)
    if extractor == "none" or (extractor != "inception" and not fid_alone):
        found = _distances(images, real, data, extractor) | found
    return {f"{name}_{steps}": value for name, value in found.items()}


def _distances(images: Tensor, real: Tensor, data: Dataset, extractor: str) -> dict[str, float]:
    """Measure points, or images that are not rounded to 8 bits; a copy may be of any of the data, not of a part."""
    sliced = sliced_wasserstein(images, real, generator=torch.Generator().manual_seed(0))
    whole, most = real, NEAREST
    if len(data) > len(real):  # each is compared with more
        whole, most = data.batch(torch.arange(len(data))), NEAREST // 4
    nearest = nearest_ratio(images, whole, most)
    if extractor == "none":
        return {"sliced_wasserstein": sliced, "on_data": share_on_data(images, real), "nearest": nearest}
    pixels, features = frechet_distance(images, real), [features_of(each, extractor) for each in (images, real)]
    found = {"frechet_pixels": pixels, "frechet_features": frechet_distance(*features)}
    return found | {"sliced_wasserstein": sliced, "nearest": nearest}
