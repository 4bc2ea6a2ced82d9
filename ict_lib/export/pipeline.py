"""A folder that diffusers' ``ConsistencyModelPipeline`` loads, written by diffusers itself."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ict_lib.checks import require
from ict_lib.consistency import ConsistencyModel
from ict_lib.export.unet import unet_config, unet_weights
from ict_lib.grid import karras_sigmas

NUM_SCALES = 1281  # levels that the pipeline's whole-numbered timesteps can name: the paper's finest grid
INDEX = "model_index.json"


def save_pipeline(folder: Path, model: ConsistencyModel, sigma_max: float = 80.0, rho: float = 7.0) -> None:
    """Write a model as a folder that diffusers' ``ConsistencyModelPipeline`` loads.

    The pipeline gives what :func:`ict_lib.sampling.sample` gives from the same noise, clipped to [-1, 1]; its first
    step is at noise level ``sigma_max``, in data units, and ``rho`` spaces the grid that gives its timesteps. The
    folder is made if it is missing; each of its files is whole or not there, and the index comes last.

    The model, usually of averaged weights, is an ADM with ``embedding_scale`` 1000; another is refused with the option
    that would make it possible. ``RuntimeError`` if diffusers is not installed.
    """
    config = unet_config(model.network)
    _check_levels(model.sigma_min, sigma_max)
    try:
        from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel  # seconds
    except ImportError as error:
        raise RuntimeError(f"the export needs a package ({error}): {sys.executable} -m pip install diffusers") from None
    with torch.device("meta"):
        unet = UNet2DModel(**config)
    unet.load_state_dict(unet_weights(model.network.state_dict()), assign=True)
    scheduler = CMStochasticIterativeScheduler(
        NUM_SCALES, model.sigma_min, sigma_max, sigma_data=model.sigma_data, rho=rho, clip_denoised=False
    )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".") as aside:
        ConsistencyModelPipeline(unet, scheduler).save_pretrained(aside)
        files = filter(Path.is_file, Path(aside).rglob("*"))
        for path in sorted(files, key=lambda path: path.name == INDEX):
            target = folder / path.relative_to(aside)
            target.parent.mkdir(exist_ok=True)
            path.replace(target)


def timestep_of(sigma: float, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> int:
    """Find the pipeline's timestep, 0 .. 1280, of the nearest noise level: 0 is ``sigma_max``, and they grow downwards.

    Two steps are ``pipeline(num_inference_steps=None, timesteps=[timestep_of(0.821), 0])``.
    """
    require(sigma_min <= sigma <= sigma_max, "sigma", sigma, f"{sigma_min} <= sigma <= {sigma_max}")
    levels = karras_sigmas(NUM_SCALES, sigma_min, sigma_max, rho)
    return NUM_SCALES - 1 - int((levels - sigma).abs().argmin())


def _check_levels(low: float, high: float) -> None:
    """Refuse levels between which diffusers cannot sample."""
    require(low < high, "sigma_max", high, f"more than sigma_min = {low}")
    # diffusers ends every sampling of several steps with the root of this, in float32: rounding must not make it NaN.
    rest = torch.tensor(low, dtype=torch.float32) ** 2 - low**2
    rule = "for diffusers a level whose square in float32 does not round down, such as 0.002,"
    require(bool(rest >= 0), "sigma_min", low, rule)
