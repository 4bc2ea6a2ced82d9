"""Raw networks F(x, c_noise, label): no scalings inside."""

import inspect
from typing import Any

from torch import nn

from ict_lib.checks import nearest
from ict_lib.networks.adm import ADM
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.networks.ncsnpp import NCSNpp
from ict_lib.networks.options import check_network_options
from ict_lib.networks.small_unet import SmallUNet
from ict_lib.recipe import Recipe

NETWORKS = {"mlp": ResidualMLP, "small_unet": SmallUNet, "ncsnpp": NCSNpp, "adm": ADM}
FROM_THE_RECIPE = ("fourier_scale", "dropout")  # arguments of networks that are fields of a recipe


def build_network(
    name: str,
    shape: tuple[int, ...],
    recipe: Recipe,
    num_classes: int = 0,
    options: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a raw network; noise embedding, dropout and depth come from the recipe, as far as the network takes them.

    Source: own.

    Args:
        name: ``mlp``, ``small_unet``, ``ncsnpp`` or ``adm``.
        shape: of one sample.
        recipe: the design choices; ``depth`` multiplies the number of blocks. :func:`unused_fields` names what the
            network does not take.
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
    taken = inspect.signature(NETWORKS[name]).parameters
    choices = {field: getattr(recipe, field) for field in FROM_THE_RECIPE if field in taken}
    options = {"blocks": taken["blocks"].default, **(options or {})}
    options["blocks"] *= recipe.depth
    return NETWORKS[name](shape, num_classes=num_classes, **choices, **options)


def unused_fields(name: str) -> list[str]:
    """Name the recipe's fields that a network has no use for; a run's record says so.

    Source: own.

    Args:
        name: of the network.

    Returns:
        Such as ``["fourier_scale"]`` for a network whose embedding is positional.
    """
    taken = inspect.signature(NETWORKS[name]).parameters
    return [field for field in FROM_THE_RECIPE if field not in taken]
