"""What is known of each data set before it is there, and random bytes of that form: to plan, and to measure speed."""

from typing import NamedTuple

import torch

from ict_lib.checks import nearest
from ict_lib.data.dataset import Dataset


class Form(NamedTuple):
    """How many images, the shape of one ``(channel, height, width)``, how many classes, and whether it is mirrored."""

    num: int
    shape: tuple[int, int, int]
    num_classes: int
    flip: bool


FORMS = {
    "digits": Form(1_797, (1, 8, 8), 10, False),
    "fashion_mnist": Form(60_000, (1, 32, 32), 10, False),
    "cifar10": Form(50_000, (3, 32, 32), 10, True),
    "imagenet64": Form(1_281_167, (3, 64, 64), 1_000, True),
}


def stand_in(name: str, num: int | None = None) -> Dataset:
    """Make a data set of random bytes in the form of a real one: as fast to train on, and nothing to learn.

    Source: own.

    Args:
        name: of the real one.
        num: images; None makes as many as the real one has, which is 16 GB for ImageNet.

    Returns:
        The same bytes each time.

    Raises:
        ValueError: if the name is unknown, with the nearest right one.
    """
    if name not in FORMS:
        raise ValueError(f"no data set {name!r}: {nearest(name, list(FORMS))}")
    form, generator = FORMS[name], torch.Generator().manual_seed(0)
    num = form.num if num is None else num
    pixels = torch.randint(256, (num, *form.shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(form.num_classes, (num,), generator=generator)
    return Dataset(pixels, labels, form.num_classes, f"stand-in of {name}", form.flip)
