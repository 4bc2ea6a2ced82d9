"""Trained weights as safetensors: readable by anybody, and nothing in them is code."""

from pathlib import Path

import safetensors.torch
from torch import nn

from ict_lib.files import write_atomically


def save_weights(path: Path, model: nn.Module, notes: dict[str, str] | None = None) -> None:
    """Write a model's weights, all of them or none.

    Source: own.

    Args:
        path: of the file, ``.safetensors``.
        model: on any device.
        notes: kept in the file's header.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, safetensors.torch.save(state, notes))


def load_weights(path: Path, model: nn.Module) -> None:
    """Read weights into a model of the same architecture, in place.

    Source: own.

    Args:
        path: of a file that :func:`save_weights` wrote.
        model: from :func:`ict_lib.training.loop.build_model`, for example.

    Raises:
        FileNotFoundError: if there is no such file.
        RuntimeError: if the file holds another architecture.
    """
    model.load_state_dict(safetensors.torch.load(Path(path).read_bytes()))
