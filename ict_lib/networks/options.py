"""What each network may be asked for, known without loading torch."""

from typing import Any

from ict_lib.checks import nearest, require

SIZES = {"channels": int, "multipliers": list, "blocks": int}  # of every U-Net
ATTENTION = {"attention_resolutions": list}
CHOICES = {"head_channels": int, "dropout_resolution": int, "adaptive_norm": bool, "embedding_scale": float}
# The networks' own options and their types.
NETWORK_OPTIONS = {
    "mlp": {"width": int, "blocks": int},
    "small_unet": SIZES,
    "ncsnpp": SIZES | ATTENTION,
    "adm": SIZES | ATTENTION | CHOICES | {"groups": int},
}
NEEDED = {
    int: "a positive whole number",
    list: "a list of positive whole numbers",
    float: "a positive number",
    bool: "true or false",
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
        require(_fits(value, known[name]), name, value, NEEDED[known[name]])


def _fits(value: Any, kind: type) -> bool:
    """Tell a value of the type; a whole number passes for a float, and True for no number."""
    if kind is list:
        return isinstance(value, list | tuple) and bool(value) and all(_fits(one, int) for one in value)
    if kind is bool:
        return type(value) is bool
    return type(value) in (int, kind) and 0 < value < float("inf")
