"""ADM in the words of diffusers' ``UNet2DModel``: its sizes, and the names of its weights."""

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from ict_lib.checks import require
from ict_lib.networks.adm import ADM
from ict_lib.networks.blocks import Attention, group_norm

SCALE = 1000.0  # of c_noise: diffusers feeds the network 1000 ln(sigma) / 4
# Our names of weights to theirs, one rule after the other; of ``qkv`` they make ``to_q``, ``to_k`` and ``to_v``.
RULES = (
    (r"^embedding\.0\.", "time_embedding.linear_1."),
    (r"^embedding\.2\.", "time_embedding.linear_2."),
    (r"^classes\.", "class_embedding."),
    (r"^first\.", "conv_in."),
    (r"^last\.0\.", "conv_norm_out."),
    (r"^last\.2\.", "conv_out."),
    (r"^shrink\.(\d+)\.", r"down_blocks.\1.downsamplers.0."),
    (r"^grow\.(\d+)\.", r"up_blocks.\1.upsamplers.0."),
    (r"^(down|up)\.(\d+)\.(\d+)\.attention\.", r"\1_blocks.\2.attentions.\3."),
    (r"^(down|up)\.(\d+)\.(\d+)\.", r"\1_blocks.\2.resnets.\3."),
    (r"^middle\.(\d+)\.attention\.", r"mid_block.attentions.\1."),
    (r"^middle\.(\d+)\.", r"mid_block.resnets.\1."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.leave\.", r"\1.to_out.0."),
    (r"\.enter\.0\.", ".norm1."),
    (r"\.enter\.[23]\.", ".conv1."),  # 3 where the resolution changes before it
    (r"\.condition\.", ".time_emb_proj."),
    (r"\.leave\.0\.", ".norm2."),
    (r"\.leave\.3\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def unet_config(network: nn.Module) -> dict[str, Any]:
    """Describe an ADM by the arguments of ``UNet2DModel``; dropout, which sampling lacks, is left out.

    A network for which diffusers has no word is refused with the option that would make it possible.
    """
    groups = _check_exportable(network)
    attends = [isinstance(blocks[0].attention, Attention) for blocks in network.down]
    middle = network.middle[0]
    return {
        "sample_size": network.shape[1],
        "in_channels": network.shape[0],
        "out_channels": network.shape[0],
        "down_block_types": ["AttnDownBlock2D" if here else "ResnetDownsampleBlock2D" for here in attends],
        "up_block_types": ["AttnUpBlock2D" if here else "ResnetUpsampleBlock2D" for here in reversed(attends)],
        "block_out_channels": [blocks[0].leave[-1].out_channels for blocks in network.down],
        "layers_per_block": len(network.down[0]),
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "attention_head_dim": middle.attention.head_channels,
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups,
        "norm_eps": middle.enter[0].eps,
        "resnet_time_scale_shift": "scale_shift" if middle.adaptive else "default",
        "num_class_embeds": network.classes.num_embeddings if network.classes else None,
    }


def unet_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy an ADM's weights under the names of ``UNet2DModel``; in attention 1x1 convolutions become matrices."""
    made = {}
    for name, value in state.items():
        for ours, theirs in RULES:
            name = re.sub(ours, theirs, name)
        names = [name.replace(".qkv.", f".to_{part}.") for part in ("qkv" if ".qkv." in name else "q")]
        value = value.flatten(1) if "attentions." in name and value.ndim == 4 else value
        parts = [part.clone(memory_format=torch.contiguous_format) for part in value.chunk(len(names))]
        made |= zip(names, parts, strict=True)
    return made


def _check_exportable(network: nn.Module) -> int:
    """Refuse what diffusers has no word for; return the number of groups of all normalisations."""
    rule = "for diffusers' layers and noise embedding: adm with the option embedding_scale: 1000"
    require(isinstance(network, ADM), "network", type(network).__name__, rule)
    require(network.embedding.scale == SCALE, "embedding_scale", network.embedding.scale, "for diffusers 1000")
    _, height, width = network.shape
    require(height == width, "shape", network.shape, "for diffusers' pipeline a square image")
    first = network.first.out_channels / network.embedding.channels
    require(first == 1, "multipliers[0]", first, "for diffusers, which embeds into as many channels, 1")
    normalised = network.middle[0].attention.normalise_qk
    require(not normalised, "normalise_qk", normalised, "for diffusers false")
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    found = sorted({norm.num_groups for norm in norms})
    option = group_norm(math.gcd(*(norm.num_channels for norm in norms))).num_groups
    rule = f"for diffusers one number for all, which the option groups: {option} would give,"
    require(len(found) == 1, "the groups of the normalisations", found, rule)
    return found[0]
