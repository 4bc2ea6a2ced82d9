"""ADM described in the words of diffusers' ``UNet2DModel``, and built from such a description."""

import math
from typing import Any

import torch
from torch import nn

from ict_lib.checks import require
from ict_lib.networks.adm import ADM
from ict_lib.networks.blocks import Attention, group_norm
from ict_lib.networks.options import OPTION_RULES

SCALE = 1000.0  # of c_noise: diffusers feeds the network 1000 ln(sigma) / 4
# What is so in every ADM; ``class_embed_type`` of None is a table of classes.
ALWAYS = {
    "_class_name": "UNet2DModel",
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "class_embed_type": None,
    "mid_block_type": "UNetMidBlock2D",
    "mid_block_scale_factor": 1,
    "add_attention": True,
    "downsample_type": "resnet",
    "upsample_type": "resnet",
    "act_fn": "silu",
    "norm_eps": 1e-5,
}


def unet_config(network: nn.Module) -> dict[str, Any]:
    """Describe a network in the words of diffusers' ``UNet2DModel``; dropout, which sampling lacks, is left out.

    Source: own; the words are those of diffusers.

    Args:
        network: an ADM, on any device.

    Returns:
        What ``unet/config.json`` holds.

    Raises:
        ValueError: if diffusers has no word for the network; says why, and which option would make it possible.
    """
    groups = _check_exportable(network)
    attends = [isinstance(blocks[0].attention, Attention) for blocks in network.down]
    middle = network.middle[0]
    return {
        **ALWAYS,
        "sample_size": network.shape[1],
        "in_channels": network.shape[0],
        "out_channels": network.shape[0],
        "down_block_types": ["AttnDownBlock2D" if here else "ResnetDownsampleBlock2D" for here in attends],
        "up_block_types": ["AttnUpBlock2D" if here else "ResnetUpsampleBlock2D" for here in reversed(attends)],
        "block_out_channels": _widths(network),
        "layers_per_block": len(network.down[0]),
        "attention_head_dim": middle.attention.head_channels,
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups,
        "resnet_time_scale_shift": "scale_shift" if middle.adaptive else "default",
        "num_class_embeds": network.classes.num_embeddings if network.classes else None,
    }


def adm_from(config: dict[str, Any]) -> ADM:
    """Build the network that a ``unet/config.json`` describes.

    Source: own.

    Args:
        config: as :func:`unet_config` makes it, or diffusers for a network of the same form.

    Returns:
        The network, on the meta device.

    Raises:
        ValueError: if a word is missing, or the network is no ADM; names the word, its value and what is needed.
    """
    _check_sizes(config)
    size, widths, kinds = config["sample_size"], config["block_out_channels"], config["down_block_types"]
    with torch.device("meta"):
        network = ADM(
            (config["in_channels"], size, size),
            num_classes=config.get("num_class_embeds") or 0,
            channels=widths[0],
            multipliers=tuple(width // widths[0] for width in widths),
            blocks=config["layers_per_block"],
            attention_resolutions=tuple(size >> i for i, kind in enumerate(kinds) if kind == "AttnDownBlock2D"),
            head_channels=config["attention_head_dim"],
            dropout_resolution=size,
            adaptive_norm=config.get("resnet_time_scale_shift") == "scale_shift",
            embedding_scale=SCALE,
            groups=config["norm_num_groups"],
        )
    for name, needed in unet_config(network).items():
        require(config.get(name, needed) == needed, name, config.get(name), f"{needed!r} (else it is no ADM)")
    return network


def _check_sizes(config: dict[str, Any]) -> None:
    """Refuse a description in which a size is missing, or of the wrong type."""
    is_count, count = OPTION_RULES[int]
    for name in ("sample_size", "in_channels", "layers_per_block", "attention_head_dim", "norm_num_groups"):
        require(is_count(config.get(name)), name, config.get(name), count)
    classes = config.get("num_class_embeds")
    require(classes is None or is_count(classes), "num_class_embeds", classes, f"null or {count}")
    widths, kinds = config.get("block_out_channels"), config.get("down_block_types")
    whole = isinstance(widths, list) and bool(widths) and all(is_count(n) and n % widths[0] == 0 for n in widths)
    require(whole, "block_out_channels", widths, "a list of whole multiples of its first")
    named = isinstance(kinds, list) and len(kinds) == len(widths)
    require(named, "down_block_types", kinds, f"a list of {len(widths)} names")


def _widths(network: ADM) -> list[int]:
    """Return the channels of every resolution."""
    return [blocks[0].leave[-1].out_channels for blocks in network.down]


def _check_exportable(network: nn.Module) -> int:
    """Refuse what diffusers has no word for; return the number of groups of all normalisations."""
    possible = "the network adm with the option embedding_scale: 1000 can be exported"
    if not isinstance(network, ADM):
        raise ValueError(
            f"network is {type(network).__name__}: diffusers' UNet2DModel has neither its layers nor its embedding "
            f"of the noise level; {possible}"
        )
    if network.embedding_scale != SCALE:
        raise ValueError(f"embedding_scale is {network.embedding_scale}: diffusers multiplies by 1000; {possible}")
    _, height, width = network.shape
    require(height == width, "shape", network.shape, "for diffusers' pipeline a square image")
    first, channels = _widths(network)[0], network.channels
    require(first == channels, "multipliers[0]", first / channels, "for diffusers, which embeds into as many, 1")
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    groups = {norm.num_groups for norm in norms}
    if len(groups) > 1:
        option = group_norm(math.gcd(*(norm.num_channels for norm in norms))).num_groups
        raise ValueError(
            f"the normalisations have {sorted(groups)} groups, and diffusers knows one number for all; the option "
            f"groups: {option} would give it"
        )
    return groups.pop()
