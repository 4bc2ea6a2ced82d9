"""The weights of ADM under the names of diffusers' ``UNet2DModel``, and back."""

import re

import torch
from torch import Tensor

from ict_lib.networks.adm import ADM

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


def to_unet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename an ADM's weights as diffusers does; in attention 1x1 convolutions become matrices.

    Source: own.

    Args:
        state: of an ADM.

    Returns:
        The state of a ``UNet2DModel``, which shares the memory.
    """
    made = {}
    for name, value in state.items():
        names = _their_names(name)
        value = value[..., 0, 0] if ".attention." in name and value.ndim == 4 else value
        made |= zip(names, value.chunk(len(names)), strict=True)
    return made


def from_unet(state: dict[str, Tensor], network: ADM) -> dict[str, Tensor]:
    """Rename the weights of a ``UNet2DModel`` as ours.

    Source: own.

    Args:
        state: of a ``UNet2DModel``.
        network: of the same form, on any device.

    Returns:
        The state of ``network``, float32.

    Raises:
        ValueError: if a weight is missing, is not the network's or has another shape.
    """
    ours = network.state_dict()
    needed = {name: tuple(value.shape) for name, value in to_unet(ours).items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in needed.keys() | found.keys() if needed.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{len(wrong)} weights do not fit the network, such as {name!r}: its shape is "
            f"{found.get(name, 'missing')}, {needed.get(name, 'no such weight')} is needed"
        )
    return {
        name: torch.cat([state[theirs].float() for theirs in _their_names(name)]).reshape(value.shape)
        for name, value in ours.items()
    }


def _their_names(name: str) -> list[str]:
    """Translate the name of a weight: to one name, or to three of queries, keys and values."""
    for ours, theirs in RULES:
        name = re.sub(ours, theirs, name)
    return [name.replace(".qkv.", f".to_{part}.") for part in ("qkv" if ".qkv." in name else "q")]
