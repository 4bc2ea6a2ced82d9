"""Write a run's model for diffusers: ``python -m ict_lib export imagenet64/ct FOLDER``."""

import argparse
from pathlib import Path

from ict_lib.export.card import model_card
from ict_lib.export.pipeline import save_pipeline
from ict_lib.files import write_atomically
from ict_lib.run.record import read
from ict_lib.run.trained import trained_model


def main(given: argparse.Namespace) -> int:
    """Write the folder, and say how it is loaded."""
    folder = export(given.run, given.folder, given.seed)
    print(f'{folder}: load it with diffusers.ConsistencyModelPipeline.from_pretrained("{folder}")')
    return 0


def export(name: str, folder: Path, seed: int | None = None) -> Path:
    """Write the trained model of a run as a folder that diffusers' ``ConsistencyModelPipeline`` loads, with its card.

    The folder is made if it is missing, and returned; the seed, of the training, is otherwise the run's first. The
    error says which command makes a missing record or weights, or why diffusers cannot hold the model.
    """
    record = read(name)
    run = record.run
    seed = run.seeds[0] if seed is None else seed
    save_pipeline(folder, trained_model(name, seed), run.recipe.sigma_max, run.recipe.rho)
    write_atomically(folder / "README.md", model_card(record.manifest, exported_seed=seed).encode())
    return folder
