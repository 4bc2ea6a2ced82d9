"""The networks by name."""

import inspect
from typing import Any

from torch import nn

from ict_lib.checks import require_known
from ict_lib.networks.adm import ADM
from ict_lib.networks.mlp import ResidualMLP
from ict_lib.networks.ncsnpp import NCSNpp
from ict_lib.networks.options import check_network_options
from ict_lib.networks.small_unet import SmallUNet
from ict_lib.recipe import Recipe

NETWORKS = {"mlp": ResidualMLP, "small_unet": SmallUNet, "ncsnpp": NCSNpp, "adm": ADM}
FROM_THE_RECIPE = ("fourier_scale", "dropout")  # arguments of networks that are fields of a recipe


def build_network(
    name: str, shape: tuple[int, ...], recipe: Recipe, num_classes: int = 0, options: dict[str, Any] | None = None
) -> nn.Module:
    """Build a raw network; its weights are drawn from torch's default generator.

    Args:
        name: one of ``NETWORKS``.
        shape: of one sample.
        recipe: gives the noise embedding and dropout, as far as the network takes them (:func:`unused_fields`);
            ``depth`` multiplies the number of blocks.
        num_classes: of the labels; 0 for none.
        options: the network's own arguments, such as ``{"width": 128}``.

    Raises:
        ValueError: if the name or an option is unknown, with the nearest right one, or a value is refused.
    """
    require_known("network", name, NETWORKS)
    check_network_options(name, options or {})
    taken = inspect.signature(NETWORKS[name]).parameters
    choices = {field: getattr(recipe, field) for field in FROM_THE_RECIPE if field in taken}
    options = {"blocks": taken["blocks"].default, **(options or {})}
    options["blocks"] *= recipe.depth
    return NETWORKS[name](shape, num_classes=num_classes, **choices, **options)


def unused_fields(name: str) -> list[str]:
    """Name the recipe's fields that a network has no use for, such as ``["fourier_scale"]``; a run's record says so."""
    return [field for field in FROM_THE_RECIPE if field not in inspect.signature(NETWORKS[name]).parameters]
