"""What each network may be asked for, known without loading torch."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ict_lib.checks import nearest, require

# The networks' own options and their defaults, those of the classes; a list here is a tuple there.
NETWORK_OPTIONS = {
    "mlp": {"width": 256, "blocks": 4},
    "small_unet": {"channels": 32, "multipliers": [1, 2], "blocks": 2},
    "ncsnpp": {"channels": 128, "multipliers": [2, 2, 2], "blocks": 4, "attention_resolutions": [16]},
    "adm": {
        "channels": 192,
        "multipliers": [1, 2, 3, 4],
        "blocks": 3,
        "attention_resolutions": [32, 16, 8],
        "head_channels": 64,
        "dropout_resolution": 16,
        "adaptive_norm": False,
        "embedding_scale": 1.0,
        "groups": 32,
        "normalise_qk": False,
    },
}
MOST = {"blocks": 1000, "multipliers": 1000, "embedding_scale": 1e6}  # of other numbers 65,536: far beyond any network
NEEDED = {
    int: "a positive whole number",
    list: "a list of positive whole numbers",
    float: "a positive number",
    bool: "true or false",
}


def check_network_options(network: str, options: dict[str, Any]) -> None:
    """Refuse an option that the network does not have, or a value of another type, not above 0, or far too large.

    Raises:
        ValueError: with the nearest right name, or what is needed.
    """
    known = NETWORK_OPTIONS[network]
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown option {name!r} of network {network!r}: {nearest(name, known)}")
        kind, most = type(known[name]), MOST.get(name, 65_536)
        rule = NEEDED[kind] if kind is bool else f"{NEEDED[kind]}, {most:,.0f} at most,"
        require(_fits(value, kind, most), name, value, rule)


def _fits(value: Any, kind: type, most: float) -> bool:
    """Tell a value of the type and in its range; a whole number passes for a float, and True for no number."""
    if kind is list:
        return isinstance(value, list | tuple) and 0 < len(value) <= 16 and all(_fits(one, int, most) for one in value)
    if kind is bool:
        return type(value) is bool
    return type(value) in (int, kind) and 0 < value <= most


def check_fit(network: str, options: dict[str, Any], shape: Sequence[int]) -> None:
    """Refuse sizes that do not fit together, or not to samples of a shape; what is no U-Net fits to all.

    Raises:
        ValueError: with the size, and what is needed.
    """
    taken = NETWORK_OPTIONS[network] | options
    if "multipliers" in taken:
        names = "attention_resolutions", "head_channels", "dropout_resolution"
        more = {name: taken[name] for name in names if name in taken}
        sizes = taken["channels"], taken["multipliers"], taken["blocks"]
        plan_levels(shape, *sizes, divisor=8 if network == "small_unet" else 4, **more)


class Level(NamedTuple):
    """One resolution: channels, rate of dropout, and the blocks, each told by its attention."""

    width: int  # channels
    dropout: float  # rate
    # for each block on the way down, channels of a head of the attention that follows; 0 for no attention
    down: list[int]
    up: list[int]  # the same on the way up, with one block more


def plan_levels(
    shape: Sequence[int],
    channels: int,
    multipliers: Sequence[int],
    blocks: int,
    dropout: float = 0.0,
    attention_resolutions: Sequence[int] | None = None,
    head_channels: int | None = None,
    dropout_resolution: float = math.inf,
    divisor: int = 4,
) -> list[Level]:
    """Return the levels of a U-Net, from the highest resolution to the lowest, and refuse what does not fit.

    Args:
        shape: of one image, ``(channel, height, width)``.
        channels: that the multipliers multiply.
        multipliers: of the channels, one a level.
        blocks: residual blocks a level on the way down; one more on the way up.
        dropout: rate.
        attention_resolutions: heights of the feature maps that have attention; None for the lowest alone.
        head_channels: of one head of attention; None for a single head.
        dropout_resolution: height of the largest feature map that has dropout.
        divisor: of the channels.

    Raises:
        ValueError: if the image cannot be halved often enough, ``channels`` is no multiple of ``divisor``,
            ``blocks < 1``, attention or dropout is wanted at a height that no feature map has, or ``head_channels``
            does not divide the channels with attention.
    """
    halvings = 2 ** (len(multipliers) - 1)
    fits = len(shape) == 3 and shape[1] % halvings == shape[2] % halvings == 0
    require(blocks >= 1, "blocks", blocks, "at least one")
    require(fits, "shape", tuple(shape), f"(channel, height, width), both sides divisible by {halvings},")
    require(channels >= divisor and channels % divisor == 0, "channels", channels, f"a multiple of {divisor}")
    heights = [shape[1] >> level for level in range(len(multipliers))]
    attends = heights[-1:] if attention_resolutions is None else attention_resolutions
    require(set(attends) <= set(heights), "attention_resolutions", attends, f"of {heights}, the network's,")
    rule = f"{heights[-1]}, the lowest, or more"
    require(dropout_resolution >= heights[-1], "dropout_resolution", dropout_resolution, rule)
    levels = []
    for height, multiplier in zip(heights, multipliers, strict=True):
        width = channels * multiplier
        head = (head_channels or width) if height in attends else 0
        rate = dropout if height <= dropout_resolution else 0.0
        levels.append(Level(width, rate, blocks * [head], (blocks + 1) * [head]))
    divided = {level.width for level in levels if level.down[0] or level is levels[-1]}
    whole = head_channels is None or not any(width % head_channels for width in divided)
    require(whole, "head_channels", head_channels, f"a divisor of {sorted(divided)}, the channels with attention,")
    return levels
