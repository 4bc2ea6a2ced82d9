"""A residual multilayer perceptron: the smallest network that learns the digits, and the toy mixtures in seconds."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.networks.blocks import Unrounded, zeroed
from ict_lib.techniques.dropout import Dropout
from ict_lib.techniques.embedding import FourierFeatures

EMB = 64  # channels of the noise and class embedding


class ResidualMLP(nn.Module):
    """Residual blocks on the flattened sample, each told the noise level and the class.

    A raw network F(x, c_noise, label): no scalings inside (see :class:`ict_lib.consistency.ConsistencyModel`). The last
    layer starts at zero.

    ``shape`` is that of one sample, for example ``(1, 8, 8)`` or ``(2,)``; ``fourier_scale`` is of the noise embedding;
    ``num_classes`` 0 takes no labels; ``width`` is that of the residual stream and of each block.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        fourier_scale: float,
        dropout: float = 0.0,
        num_classes: int = 0,
        width: int = 256,
        blocks: int = 4,
    ):
        super().__init__()
        num_dims = math.prod(shape)
        self.embedding = nn.Sequential(FourierFeatures(EMB, fourier_scale), Unrounded(EMB, EMB), nn.SiLU())
        self.classes = nn.Embedding(num_classes, EMB) if num_classes else None
        self.first = Unrounded(num_dims, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(Unrounded(width, num_dims))

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Map ``[batch, *shape]``, ``[batch]`` and labels ``[batch]`` to ``[batch, *shape]``."""
        emb = self.embedding(c_noise)  # [batch, EMB]
        if self.classes is not None and label is not None:
            emb = emb + self.classes(label)
        h = self.first(x.flatten(1))  # [batch, width]
        for block in self.blocks:
            h = block(h, emb)
        return self.last(F.silu(self.norm(h))).view_as(x)


class Block(nn.Module):
    """Norm, linear, plus embedding, SiLU, dropout, linear, added to the input."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.enter = nn.Linear(width, width)
        self.condition = Unrounded(EMB, width)
        self.dropout = Dropout(dropout)
        self.leave = zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        """Map ``[batch, width]`` and ``[batch, EMB]`` to ``[batch, width]``."""
        inner = self.enter(F.silu(self.norm(h))) + self.condition(emb)
        return h + self.leave(self.dropout(F.silu(inner)))
