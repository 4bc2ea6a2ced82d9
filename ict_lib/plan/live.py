"""How much memory the tensors of a computation hold at once, whether they have memory or not."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Follow the tensors that are made inside; those that come from outside do not count.

    Source: own.

    Attributes:
        now: bytes of those that are still there.
        most: the largest that ``now`` has been.
    """

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves(args) if isinstance(leaf, Tensor)}
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage()._cdata not in before:
                self._follow(tensor.untyped_storage())
        return made

    def _follow(self, storage: Any) -> None:
        """Count a storage until it is freed."""
        name = storage._cdata
        if name not in self._sizes:
            self._sizes[name] = storage.nbytes()
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, name)

    def _forget(self, name: int) -> None:
        self.now -= self._sizes.pop(name)
