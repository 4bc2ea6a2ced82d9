"""Handwritten digits of 8x8 pixels: real images that come with scikit-learn, so nothing is downloaded."""

import os

import torch

from ict_lib.data.dataset import Dataset


def load(folder: str | os.PathLike[str] | None = None) -> Dataset:
    r"""Load the 1,797 digits of scikit-learn, which carries them inside its own package: they need no folder.

    .. math:: x = p / 8 - 1, \quad p \in \{0, \dots, 16\}

    Source: UCI "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), test part.

    Returns:
        Images, float32 ``[1797, 1, 8, 8]``, with 17 grey levels in [-1, 1] (-1 is paper, 1 is ink), and labels, 0 to 9.
    """
    from sklearn.datasets import load_digits  # 1.5 s to import: only for those who ask for the digits

    digits = load_digits()
    images = torch.as_tensor(digits.images, dtype=torch.float32, device="cpu")  # [1797, 8, 8], 0 .. 16
    labels = torch.as_tensor(digits.target, dtype=torch.int64, device="cpu")
    return Dataset(pixels=images[:, None] / 8 - 1, labels=labels, num_classes=10, name="digits")
