"""The playground's network in PyTorch: what its *copy as Python* trains, and what its JavaScript is held to."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ict_lib.networks.blocks import zeroed
from ict_lib.techniques.embedding import FourierFeatures

WIDTH, FEATURES = 32, 16


class PlainMLP(nn.Module):
    """Three layers of 32 with SiLU, on the point beside the Fourier features of its noise level.

    A raw network F(x, c_noise, label). Weights start normal, with standard deviation 1 / sqrt(inputs); biases and the
    last layer start at zero. ``fourier_scale`` is of the noise embedding.
    """

    def __init__(self, fourier_scale: float):
        super().__init__()
        self.embedding = FourierFeatures(FEATURES, fourier_scale)
        layers = [nn.Linear(2 + FEATURES, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)]
        for layer in layers:
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList([*layers, zeroed(nn.Linear(WIDTH, 2))])

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Map points ``[batch, 2]`` and ``[batch]`` to ``[batch, 2]``."""
        h = torch.cat([x, self.embedding(c_noise)], dim=1)
        for layer in self.layers[:-1]:
            h = F.silu(layer(h))
        return self.layers[-1](h)
