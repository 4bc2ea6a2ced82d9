"""Raw networks F(x, c_noise, label): no scalings inside."""

import inspect
from typing import Any

from torch import nn

from ict_lib.networks.mlp import ResidualMLP
from ict_lib.networks.ncsnpp import NCSNpp
from ict_lib.networks.small_unet import SmallUNet
from ict_lib.recipe import Recipe, nearest
from ict_lib.run_config import check_network_options

NETWORKS = {"mlp": ResidualMLP, "small_unet": SmallUNet, "ncsnpp": NCSNpp}


def build_network(
    name: str,
    shape: tuple[int, ...],
    recipe: Recipe,
    num_classes: int = 0,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a raw network; noise embedding, dropout and depth come from the recipe.

    Source: own.

    Args:
        name: ``mlp``, ``small_unet`` or ``ncsnpp``.
        shape: of one sample.
        recipe: the design choices; ``depth`` multiplies the network's number of blocks.
        num_classes: of the labels; 0 for none.
        options: the network's own arguments, such as ``{"width": 128}``.

    Returns:
        The network, with weights drawn from torch's default generator.

    Raises:
        ValueError: if the name or an option is unknown, with the nearest right one, or a value is refused.
    """
    if name not in NETWORKS:
        raise ValueError(f"unknown network {name!r}: {nearest(name, list(NETWORKS))}")
    check_network_options(name, options or {})
    default = inspect.signature(NETWORKS[name]).parameters["blocks"].default
    options = {"blocks": default, **(options or {})}
    options["blocks"] *= recipe.depth
    return NETWORKS[name](shape, recipe.fourier_scale, recipe.dropout, num_classes, **options)
