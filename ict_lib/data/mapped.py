"""Images that stay in a file: gathered by index from a memory map, a batch ahead if the caller says which."""

import os
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


class MappedPixels:
    """Rows of a ``.npy`` file, uint8 ``[num, channel, height, width]``; what is read depends on the indices alone.

    Args:
        path: the file.
        checksum: SHA-256 that stands for the content.
        pin: gather into pinned memory, from which a CUDA device copies without waiting.

    Attributes:
        tensor: the whole map. Copy-on-write: a change stays in this process and never reaches the file.

    Raises:
        ValueError: if the file holds something else, or is shorter than it says.
    """

    def __init__(self, path: str | os.PathLike[str], checksum: str, pin: bool = False):
        array = np.load(path, mmap_mode="c", allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim != 4:
            raise ValueError(f"{path} must be uint8 [num, channel, height, width], got {array.dtype} {array.shape}")
        self.tensor, self.checksum = torch.from_numpy(array), checksum
        self.shape, self.dtype = self.tensor.shape, self.tensor.dtype
        self._path, self._pin = path, pin
        self._ahead: tuple[Tensor, Future[Tensor]] | None = None
        self._reader: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self.tensor)

    def to(self, device: torch.device | str) -> "MappedPixels":
        """Prepare for a device: the images stay where they are, batches for CUDA come in pinned memory."""
        return MappedPixels(self._path, self.checksum, torch.device(device).type == "cuda")

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Gather images ``[batch, channel, height, width]`` into new memory of the CPU.

        Raises:
            IndexError: if an index is out of range.
        """
        ahead, self._ahead = self._ahead, None
        if ahead is not None and torch.equal(ahead[0], indices.cpu()):
            return ahead[1].result()
        return self._gather(indices.cpu())

    def prefetch(self, indices: Tensor) -> None:
        """Gather in the background what will be asked for next; another call replaces this, a wrong guess is unused."""
        self._reader = self._reader or ThreadPoolExecutor(max_workers=1, thread_name_prefix="ict-prefetch")
        indices = indices.cpu().clone()
        self._ahead = indices, self._reader.submit(self._gather, indices)

    def _gather(self, indices: Tensor) -> Tensor:
        rows = torch.empty(len(indices), *self.shape[1:], dtype=torch.uint8, pin_memory=self._pin)
        return torch.index_select(self.tensor, 0, indices, out=rows)
