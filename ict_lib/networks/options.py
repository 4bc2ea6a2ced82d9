"""What each network may be asked for, known without loading torch."""

from typing import Any

from ict_lib.checks import nearest, require

SIZES = {"channels": int, "multipliers": list, "blocks": int}  # of every U-Net
# The networks' own options and their types.
NETWORK_OPTIONS = {
    "mlp": {"width": int, "blocks": int},
    "small_unet": SIZES,
    "ncsnpp": SIZES | {"attention_resolutions": list},
    "adm": SIZES
    | {"attention_resolutions": list, "head_channels": int, "dropout_resolution": int}
    | {"adaptive_norm": bool, "embedding_scale": float, "groups": int},
}


def _is_count(value: Any) -> bool:
    """Tell a positive whole number; True is none."""
    return type(value) is int and value > 0


# For each type of option: what fits, and how to say it.
RULES = {
    int: (_is_count, "a positive whole number"),
    list: (
        lambda v: isinstance(v, list | tuple) and bool(v) and all(map(_is_count, v)),
        "a list of positive whole numbers",
    ),
    float: (lambda v: type(v) in (int, float) and 0 < v < float("inf"), "a positive number"),
    bool: (lambda v: type(v) is bool, "true or false"),
}


def check_network_options(network: str, options: dict[str, Any]) -> None:
    """Refuse an option that the network does not have, or a value of another type or not above 0.

    Raises:
        ValueError: with the nearest right name, or the type that is needed.
    """
    known = NETWORK_OPTIONS[network]
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"unknown option {name!r} of network {network!r}: {nearest(name, known)}")
        fits, needed = RULES[known[name]]
        require(fits(value), name, value, needed)
