"""A folder that diffusers' ``ConsistencyModelPipeline`` loads, written and read: safetensors and JSON, no diffusers."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ict_lib.checks import require
from ict_lib.consistency import ConsistencyModel
from ict_lib.export.unet_config import adm_from, unet_config
from ict_lib.export.unet_weights import from_unet, to_unet
from ict_lib.files import write_atomically
from ict_lib.grid import karras_sigmas
from ict_lib.networks.options import OPTION_RULES

NUM_SCALES = 1281  # levels that the pipeline's whole-numbered timesteps can name: the paper's finest grid
INDEX, PIPELINE = "model_index.json", "ConsistencyModelPipeline"
UNET, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER, SCHEDULER_CLASS = "scheduler/scheduler_config.json", "CMStochasticIterativeScheduler"


def save_pipeline(folder: str | Path, model: ConsistencyModel, sigma_max: float = 80.0, rho: float = 7.0) -> None:
    """Write a model as a folder that diffusers' ``ConsistencyModelPipeline`` loads.

    The pipeline gives what :func:`ict_lib.sampling.sample` gives from the same noise, clipped to [-1, 1].

    Source: own; the form is that of diffusers.

    Args:
        folder: made if it is missing; its index is written last.
        model: of the weights to sample, usually the averaged ones; its network is an ADM with ``embedding_scale`` 1000.
        sigma_max: noise level of the first step, data units.
        rho: spacing of the grid that gives the pipeline's timesteps.

    Raises:
        ValueError: if diffusers cannot hold the model; says why, and which option would make it possible.
    """
    config, scheduler = unet_config(model.network), _scheduler_config(model, sigma_max, rho)
    weights = {name: value.detach().cpu().contiguous() for name, value in to_unet(model.network.state_dict()).items()}
    files = {
        UNET: _json(config),
        SCHEDULER: _json(scheduler),
        WEIGHTS: safetensors.torch.save(weights, {"format": "pt"}),
        INDEX: _json(
            {
                "_class_name": PIPELINE,
                "unet": ["diffusers", config["_class_name"]],
                "scheduler": ["diffusers", SCHEDULER_CLASS],
            }
        ),
    }
    for name, content in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)


def load_pipeline(folder: str | Path) -> ConsistencyModel:
    """Read a folder of a ``ConsistencyModelPipeline`` whose network is an ADM.

    Source: own.

    Args:
        folder: that :func:`save_pipeline` wrote, or diffusers.

    Returns:
        The model, float32, on the CPU, in evaluation mode; without dropout.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if a file is damaged or is of another kind of model; names the file and what is needed.
    """
    folder = Path(folder)
    _read_json(folder / INDEX, PIPELINE)
    config, scheduler = _read_json(folder / UNET, "UNet2DModel"), _read_json(folder / SCHEDULER, SCHEDULER_CLASS)
    weights = _read_weights(folder / WEIGHTS)
    fits, needed = OPTION_RULES[float]
    try:
        for name in ("sigma_data", "sigma_min"):
            require(fits(scheduler.get(name)), name, scheduler.get(name), needed)
        network = adm_from(config)
        network.load_state_dict(from_unet(weights, network), assign=True)
    except ValueError as error:
        raise ValueError(f"{folder} holds no model of ours: {error}") from None
    return ConsistencyModel(network, scheduler["sigma_data"], scheduler["sigma_min"]).eval()


def timestep_of(sigma: float, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> int:
    """Find the pipeline's timestep whose noise level is nearest: 0 is ``sigma_max``, and they grow downwards.

    Two steps are ``pipeline(num_inference_steps=None, timesteps=[timestep_of(0.821), 0])``.

    Source: own, after diffusers' ``CMStochasticIterativeScheduler``.

    Args:
        sigma: noise level, data units.
        sigma_min: lowest of the grid.
        sigma_max: highest.
        rho: its spacing.

    Returns:
        The timestep, in 0 .. 1280.

    Raises:
        ValueError: if ``sigma`` lies outside of the grid.
    """
    require(sigma_min <= sigma <= sigma_max, "sigma", sigma, f"{sigma_min} <= sigma <= {sigma_max}")
    levels = karras_sigmas(NUM_SCALES, sigma_min, sigma_max, rho)
    return NUM_SCALES - 1 - int((levels - sigma).abs().argmin())


def _scheduler_config(model: ConsistencyModel, sigma_max: float, rho: float) -> dict[str, Any]:
    """Describe the scalings and the grid; nothing is clipped between two steps, as in our sampling."""
    low = model.sigma_min
    require(low < sigma_max, "sigma_max", sigma_max, f"more than sigma_min = {low}")
    # diffusers ends every sampling of several steps with the root of this, in float32: rounding must not make it NaN.
    rest = torch.tensor(low, dtype=torch.float32) ** 2 - low**2
    rule = "for diffusers a level whose square in float32 does not round down, such as 0.002,"
    require(bool(rest >= 0), "sigma_min", low, rule)
    return {
        "_class_name": SCHEDULER_CLASS,
        "num_train_timesteps": NUM_SCALES,
        "sigma_min": low,
        "sigma_max": sigma_max,
        "sigma_data": model.sigma_data,
        "rho": rho,
        "s_noise": 1.0,
        "clip_denoised": False,
    }


def _json(content: dict[str, Any]) -> bytes:
    """Write JSON as diffusers does: sorted, two blanks deep."""
    return (json.dumps(content, indent=2, sort_keys=True) + "\n").encode()


def _read_json(path: Path, kind: str) -> dict[str, Any]:
    """Read JSON that describes an object of one class of diffusers."""
    try:
        content = json.loads(_existing(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    found = content.get("_class_name") if isinstance(content, dict) else None
    if found != kind:
        raise ValueError(f"{path} describes {found!r}: {kind!r} is needed")
    return content


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read safetensors."""
    try:
        return safetensors.torch.load_file(_existing(path))
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _existing(path: Path) -> Path:
    """Refuse a path where no file is."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a folder of diffusers' {PIPELINE}, with safetensors, is needed")
    return path
