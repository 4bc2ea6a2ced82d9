"""A model card: what a run's manifest says, laid out by ``card.md`` as the page that stands with its weights."""

import re
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import StrictUndefined, Template

from ict_lib.config import MARKS
from ict_lib.data import DATASETS, FEATURES
from ict_lib.export.pipeline import timestep_of
from ict_lib.recipe import PRESETS
from ict_lib.run.record import spread

TASK = "unconditional-image-generation"  # the hub's name of all drawing that needs no text; labels are a tag
TAGS = ["consistency-model", "improved-consistency-training", "one-step-generation"]
TITLES = {  # of metrics, with a place for what they were measured on
    "frechet_pixels": "Fréchet distance, pixels",
    "sliced_wasserstein": "Sliced Wasserstein distance",
    "on_data": "Share of samples on the data",
    "nearest": "Distance to the nearest datum, that of the data is 1",
    "frechet_features": "Fréchet distance, {}",
    "fid": "FID, {}",
    "inception_score": "Inception score, {}",
    "kid": "KID, {}",
    "precision": "Precision, {}",
    "recall": "Recall, {}",
}


def model_card(manifest: dict[str, Any], exported_seed: int | None = None) -> str:
    """Write the manifest of a record as a model card: Markdown with the YAML that the Hugging Face hub reads.

    ``exported_seed`` is that whose weights the folder of an export holds; None is for the run's own folder.
    """
    run = manifest["run"]
    data, recipe, preset = DATASETS[run["data"]], run["recipe"], asdict(PRESETS[run["preset"]])
    measured = _measured(manifest["results"], FEATURES[data.extractor])
    columns = list(dict.fromkeys(steps for _, _, steps in measured))
    titles = dict.fromkeys(title for _, title, _ in measured)
    cells = {(title, steps): spread(values) for (_, title, steps), values in measured.items()}
    template = Path(__file__).with_name("card.md").read_text("utf8")
    return Template(template, trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True).render(
        manifest,
        head=_head(run, measured, "ict_lib" if exported_seed is None else "diffusers").to_yaml(),
        data=data,
        features=FEATURES[data.extractor],
        exported_seed=exported_seed,
        columns=columns,
        rows=[[title, *(cells.get((title, steps), "") for steps in columns)] for title in titles],
        changed=[(name, preset[name], here) for name, here in recipe.items() if here != preset[name]],
        sources=_sources(run["sources"]),
        timestep=timestep_of(run["sigma_mid"], recipe["sigma_min"], recipe["sigma_max"], recipe["rho"]),
    )


def _measured(results: list[dict[str, Any]], features: str) -> dict[tuple[str, str, str], list[float]]:
    """Return what was measured of all seeds: metric, title and steps (``"2 steps"``), to one value a seed."""
    found = {}
    for key in results[0]:
        named = re.fullmatch(r"(.+)(?<!_std)_(\d+)_(steps?)", key)
        if named and all(key in result for result in results):
            name, *steps = named.groups()
            title = TITLES.get(name, name.replace("_", " ").capitalize()).format(features)
            found[name, title, " ".join(steps)] = [result[key] for result in results]
    return found


def _head(run: dict[str, Any], measured: dict[tuple[str, str, str], list[float]], library: str) -> ModelCardData:
    """Gather what the hub reads; a number on other features than Inception's has a type of its own, as it is no FID."""
    data = DATASETS[run["data"]]
    prefix = "" if data.extractor in ("inception", "none") else f"{data.extractor}_"
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=data.hub_name or run["data"],
            dataset_name=run["data"],
            metric_type=prefix + name,
            metric_name=f"{title}, {steps}",
            metric_value=float(f"{median(values):.4g}"),
        )
        for (name, title, steps), values in measured.items()
    ]
    return ModelCardData(
        license="mit",
        library_name=library,
        pipeline_tag=TASK,
        tags=TAGS + ["class-conditional"] * run["conditional"],
        datasets=[data.hub_name] if data.hub_name else None,
        model_name=run["name"],
        eval_results=results,
    )


def _sources(sources: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Sort the settings by the mark that says where their values come from, each with its note."""
    notes = {name: str(source).partition(" ")[::2] for name, source in sources.items()}
    found = [
        (meaning.capitalize(), [f"`{name}` {note}".strip() for name, (mark, note) in notes.items() if mark == here])
        for here, meaning in MARKS.items()
    ]
    return [(meaning, named) for meaning, named in found if named]
