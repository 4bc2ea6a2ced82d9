"""A model card: what a run's manifest says, as the page that stands with its weights."""

import re
from dataclasses import asdict
from statistics import median
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ict_lib.config import MARKS
from ict_lib.data import DATASETS
from ict_lib.export.pipeline import timestep_of
from ict_lib.recipe import PRESETS
from ict_lib.run.record import spread

TASK = "unconditional-image-generation"  # the hub's name of all drawing that needs no text; labels are a tag
TAGS = ["consistency-model", "improved-consistency-training", "one-step-generation"]
ABOUT = """A consistency model: it turns noise into an image in one evaluation of a network, or in a few. From our
implementation of *Improved Techniques for Training Consistency Models*
([arXiv 2310.14189](https://arxiv.org/abs/2310.14189)) and, as preset `CT`, of *Consistency Models*
([arXiv 2303.01469](https://arxiv.org/abs/2303.01469))."""
ON_PIXELS = {"frechet_pixels": "Fréchet distance", "sliced_wasserstein": "Sliced Wasserstein distance"}
ON_FEATURES = {
    "frechet_features": "Fréchet distance",
    "fid": "FID",
    "inception_score": "Inception score",
    "kid": "KID",
    "precision": "Precision",
    "recall": "Recall",
}
EXTRACTORS = {"digits": "features of a digits classifier", "inception": "Inception's features"}


def model_card(manifest: dict[str, Any], exported_seed: int | None = None) -> str:
    """Write a run's manifest as a model card: Markdown with the YAML that the Hugging Face hub reads.

    Args:
        manifest: of a :class:`~ict_lib.run.record.Record`.
        exported_seed: for a folder of :mod:`ict_lib.export.command`, the seed whose weights it holds; None for the
            run's own folder.
    """
    exported, run = exported_seed is not None, manifest["run"]
    held = f"The weights here are of seed {exported_seed}." if exported else "![Images of one step](samples.png)"
    sources = _sources(run["sources"])
    parts = [
        f"---\n{_header(manifest, exported).to_yaml()}\n---",
        f"# {run['name']}",
        f"{ABOUT} Trained on `{run['data']}` alone, from preset `{run['preset']}`.",
        held,
        f"## Results\n\n{_results(manifest)}",
        f"## Recipe\n\n{_recipe(run)}",
        f"## Training\n\n{_training(manifest)}",
        *([f"## Where the values come from\n\n{sources}"] if sources else []),
        f"## How to sample\n\n```python\n{(_code_diffusers if exported else _code)(run)}\n```",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _header(manifest: dict[str, Any], exported: bool) -> ModelCardData:
    """Gather what the hub reads; a number on other features than Inception's has a type of its own, as it is no FID."""
    run = manifest["run"]
    data = DATASETS[run["data"]]
    prefix = "" if data.extractor == "inception" else f"{data.extractor}_"
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=data.hub_name or run["data"],
            dataset_name=run["data"],
            metric_type=prefix + name,
            metric_name=f"{_title(name, data.extractor)}, {steps}",
            metric_value=float(f"{median(values):.4g}"),
        )
        for (name, steps), values in _measured(manifest["results"]).items()
    ]
    return ModelCardData(
        license="mit",
        library_name="diffusers" if exported else "ict_lib",
        pipeline_tag=TASK,
        tags=TAGS + ["class-conditional"] * run["conditional"],
        datasets=[data.hub_name] if data.hub_name else None,
        model_name=run["name"],
        eval_results=results,
    )


def _measured(results: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Return what was measured of all seeds: metric and steps, such as ``("fid", "1 step")``, to one value a seed."""
    found = {}
    for key in results[0]:
        named = re.fullmatch(r"(.+)_(\d+)_(steps?)", key)
        if named and not named[1].endswith("_std") and all(key in result for result in results):
            found[named[1], f"{named[2]} {named[3]}"] = [result[key] for result in results]
    return found


def _title(name: str, extractor: str) -> str:
    """Name a metric and what it was measured on."""
    places = (ON_PIXELS, "pixels"), (ON_FEATURES, EXTRACTORS[extractor])
    found = [f"{titles[name]}, {place}" for titles, place in places if name in titles]
    return found[0] if found else name.replace("_", " ").capitalize()


def _results(manifest: dict[str, Any]) -> str:
    """Lay out the metrics, one a line, one number of steps a column."""
    run, measured = manifest["run"], _measured(manifest["results"])
    seeds, extractor = len(run["seeds"]), DATASETS[run["data"]].extractor
    steps = list(dict.fromkeys(column for _, column in measured))
    rows = []
    for name in dict.fromkeys(name for name, _ in measured):
        cells = [measured.get((name, column), []) for column in steps]
        written = [spread(values) if len(values) > 1 else "".join(f"{v:.3g}" for v in values) for values in cells]
        rows.append([_title(name, extractor), *written])
    of_seeds = f"median over {seeds} seeds (lowest to highest)" if seeds > 1 else "one seed"
    drawn = f"{run['num_samples']:,} images; {of_seeds}. A second step is at level {run['sigma_mid']}."
    return f"{_table(['', *steps], rows)}\n\n{drawn}"


def _recipe(run: dict[str, Any]) -> str:
    """Say in which fields the recipe differs from its preset."""
    name, here = run["preset"], run["recipe"]
    preset = asdict(PRESETS[name])
    rows = [[f"`{field}`", preset[field], here[field]] for field in here if here[field] != preset[field]]
    return _table(["field", f"`{name}`", "here"], rows) if rows else f"`{name}`, unchanged."


def _training(manifest: dict[str, Any]) -> str:
    """Lay out with what the model was trained, and what that cost."""
    run, together = manifest["run"], manifest["processes"]
    rows = {
        "network": f"`{run['network']}`, options `{run['network_options']}`",
        "labels": "given to the network" if run["conditional"] else "not used",
        "steps": f"{run['steps']:,}, of {run['batch_size']:,} images each",
        "images seen": f"{manifest['images_seen']:,}, all seeds together",
        "optimiser": f"RAdam, learning rate {run['learning_rate']}",
        "sampled weights": f"moving average, decay {run['ema_decay']} a step",
        "precision": run["precision"],
        "device": manifest["device"] + f"; {together} processes together" * (together > 1),
        "time": f"{manifest['seconds']:,.0f} seconds, all seeds together",
        "memory": f"{manifest['peak_memory_bytes'] / 2**30:.1f} GiB at most",
        "commit": f"`{manifest['commit']}`",
        "versions": ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
    }
    return _table(["", ""], [[name, value] for name, value in rows.items()])


def _sources(sources: dict[str, str]) -> str:
    """List the settings by the mark that says where their values come from, each with its note."""
    lines = []
    for mark, meaning in MARKS.items():
        notes = {name: str(source).split(" ") for name, source in sources.items()}
        named = [" ".join([f"`{name}`", *note[1:]]) for name, note in notes.items() if note[0] == mark]
        lines += [f"- {meaning.capitalize()}: {', '.join(named)}."] if named else []
    return "\n".join(lines)


def _code(run: dict[str, Any]) -> str:
    """Write lines that draw images of a run in one step, and what changes for two."""
    conditional, top = run["conditional"], run["recipe"]["sigma_max"]
    label = ", label=torch.full((16,), 3)" * conditional
    return (
        "import torch\n\n" * conditional
        + "from ict_lib.run.trained import trained_model\nfrom ict_lib.sampling import sample\n\n"
        + f'model = trained_model("{run["name"]}", seed={run["seeds"][0]})\n'
        + f"images = sample(model, 16, {DATASETS[run['data']].shape}, sigmas=({top},){label})  # in [-1, 1]\n"
        + f"# in two steps: sigmas=({top}, {run['sigma_mid']})"
    )


def _code_diffusers(run: dict[str, Any]) -> str:
    """Write lines that draw images of an exported model in one step, and what changes for two."""
    recipe = run["recipe"]
    step = timestep_of(run["sigma_mid"], recipe["sigma_min"], recipe["sigma_max"], recipe["rho"])
    given = "batch_size=16" + ", class_labels=16 * [3]" * run["conditional"]
    return (
        "from diffusers import ConsistencyModelPipeline\n\n"
        'pipeline = ConsistencyModelPipeline.from_pretrained("FOLDER")\n'
        f"images = pipeline({given}).images\n"
        f"# in two steps: pipeline({given}, num_inference_steps=None, timesteps=[{step}, 0])"
    )


def _limits(manifest: dict[str, Any]) -> list[str]:
    """Say what the numbers do not mean."""
    run, commit = manifest["run"], manifest["commit"]
    num, extractor = run["num_samples"], DATASETS[run["data"]].extractor
    unused = ", ".join(f"`{name}`" for name in manifest["recipe_unused"])
    own, squared = extractor != "inception", run["recipe"]["distance"] == "squared_l2"
    said = {
        f"All but the distances on pixels are on {EXTRACTORS[extractor]}: they compare with no published number.": own,
        f"An FID of {num:,} images is higher than one of 50,000, as published: they do not compare.": not own
        and num < 50_000,
        "Images are measured against those of the training; a model that memorised them would score better.": True,
        f"Nothing is shown of other data than `{run['data']}`.": True,
        f"Nothing is shown of the recipe's {unused}: the network has no use for it.": bool(unused),
        "CT was published with LPIPS; here it has the squared distance.": run["preset"] == "CT" and squared,
        "There is one seed: how much seeds differ is not known.": len(run["seeds"]) == 1,
        f"The noise level of the second step, {run['sigma_mid']}, was given, not searched for.": True,
        "The code had changes that are in no commit.": commit.endswith("+changes"),
        "The commit of the code is not known.": commit == "unknown",
    }
    return [sentence for sentence, holds in said.items() if holds]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
