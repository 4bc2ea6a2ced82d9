"""Keep a run's weights for the page: ``python -m ict_lib live digits/live`` writes them in half precision, for git."""

import argparse
import json
from pathlib import Path

import safetensors.torch

from ict_lib.checks import require, require_finite
from ict_lib.commands import check_plain
from ict_lib.data import DATASETS
from ict_lib.display.live_model import MOST_BYTES, kept
from ict_lib.files import write_atomically
from ict_lib.run.record import read
from ict_lib.run.trained import trained_model

RECIPE = ("sigma_data", "sigma_min", "sigma_max", "rho")  # what the page is told of it


def main(given: argparse.Namespace) -> int:
    """Keep the weights, and say where."""
    path = keep_half(given.run, given.seed)
    print(f"{path}: {path.stat().st_size:,} bytes")
    return 0


def keep_half(name: str, seed: int | None = None) -> Path:
    """Write the averaged weights of a run in half precision beside its record; the seed is otherwise the run's first.

    A network that the page cannot compute is refused, and so is a file of more than 0.7 MB.
    """
    run = read(name).run
    check_plain(run)
    half = {key: value.half() for key, value in trained_model(name, seed).state_dict().items()}
    for key, value in half.items():
        require_finite(f"{key} in half precision", value)
    about = {key: getattr(run.recipe, key) for key in RECIPE} | {"sigma_mid": run.sigma_mid}
    about |= {"name": name, "seed": run.seeds[0] if seed is None else seed, "shape": DATASETS[run.data].shape}
    content = safetensors.torch.save(half, {"about": json.dumps(about)})
    require(len(content) <= MOST_BYTES, "bytes of the weights", len(content), f"{MOST_BYTES} or less, for a page,")
    write_atomically(kept(name), content)
    return kept(name)
