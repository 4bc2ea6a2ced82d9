"""Export a finished run's model: ``python -m ict_lib.export digits/adm-small FOLDER``."""

import argparse
from pathlib import Path

from ict_lib.export.pipeline import save_pipeline
from ict_lib.files import write_atomically
from ict_lib.run.manifest import run_of
from ict_lib.export.card import model_card
from ict_lib.run.record import read
from ict_lib.run.trained import trained_model


def main(arguments: list[str] | None = None) -> None:
    """Write the trained model of a run as a folder that diffusers' ConsistencyModelPipeline loads."""
    parser = argparse.ArgumentParser(prog="python -m ict_lib.export", description=main.__doc__)
    parser.add_argument("run", help="name of a finished run, such as digits/adm-small")
    parser.add_argument("folder", type=Path, help="gets the network, the scheduler and a model card")
    parser.add_argument("--seed", type=int, help="of the training; otherwise the run's first")
    given = parser.parse_args(arguments)
    try:
        manifest = read(given.run).manifest
        run = run_of(manifest)
        seed = run.seeds[0] if given.seed is None else given.seed
        recipe = run.config.recipe
        save_pipeline(given.folder, trained_model(given.run, seed), recipe.sigma_max, recipe.rho)
        write_atomically(given.folder / "README.md", model_card(manifest, exported_seed=seed).encode())
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(f'{given.folder}: load it with diffusers.ConsistencyModelPipeline.from_pretrained("{given.folder}")')


if __name__ == "__main__":
    main()
