"""CIFAR-10: 50,000 photographs of 32x32 pixels, read by torchvision, which is imported on demand."""

import os

import torch

from ict_lib.data.cache import data_folder, fetch_command
from ict_lib.data.dataset import Dataset


def load(folder: str | os.PathLike[str] | None = None) -> Dataset:
    """Load the training part, on which models are trained and FID is measured; mirror images are allowed.

    The files are pickles: every one is compared with its published MD5 before torchvision reads the first.

    Images are uint8 ``[50000, 3, 32, 32]``, labels 0 to 9. The folder, else the `data_folder`, holds
    ``cifar-10-batches-py``. Raises as `load_dataset` does.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images"; the Python version of the files.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    root = data_folder(folder)
    files = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    for path, md5 in [(root / CIFAR10.base_folder / name, md5) for name, md5 in files]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; this fetches it: {fetch_command('cifar10', root)}")
        if not check_integrity(path, md5):
            rule = f"is damaged or cut short: its MD5 is not {md5}"
            raise ValueError(f"{path} {rule}; this fetches it anew: {fetch_command('cifar10', root)}")
    found = CIFAR10(root)
    pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return Dataset(pixels, torch.tensor(found.targets), num_classes=10, name="cifar10", flip=True)
