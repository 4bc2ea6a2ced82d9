"""A model card: what a run's manifest says, as the page that stands with its weights."""

import re
from dataclasses import asdict
from statistics import median
from typing import Any

import yaml

from ict_lib.data import DATASETS
from ict_lib.export.pipeline import timestep_of
from ict_lib.networks.build import unused_fields
from ict_lib.recipe import PRESETS
from ict_lib.run.record import spread

# The hub's names: of the data sets that it has, and of all drawing that needs no text (labels are a tag).
HUB = {
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "imagenet64": "ILSVRC/imagenet-1k",
}
TASK = "unconditional-image-generation"
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


def model_card(manifest: dict[str, Any], exported_seed: int | None = None) -> str:
    """Write a run's manifest as a model card: Markdown with the YAML that the Hugging Face hub reads.

    Source: own; the words in the YAML are the hub's.

    Args:
        manifest: from :func:`ict_lib.run.manifest.manifest_of`, or a record's.
        exported_seed: for a folder of :func:`ict_lib.export.save_pipeline`, the seed whose weights it holds; None for
            the run's own folder.

    Returns:
        What ``README.md`` holds.
    """
    exported, data = exported_seed is not None, manifest["training"]["data"]
    held = f"The weights here are of seed {exported_seed}." if exported else "![Images of one step](samples.png)"
    parts = [
        f"---\n{yaml.safe_dump(_header(manifest, exported), sort_keys=False, allow_unicode=True)}---",
        f"# {manifest['name']}",
        f"{ABOUT} Trained on `{data}` alone, from preset `{manifest['preset']}`.",
        held,
        f"## Results\n\n{_results(manifest)}",
        f"## Recipe\n\n{_recipe(manifest)}",
        f"## Training\n\n{_training(manifest)}",
        f"## How to sample\n\n```python\n{(_code_diffusers if exported else _code)(manifest)}\n```",
        "## Limits\n\n" + "\n".join(f"- {limit}" for limit in _limits(manifest)),
    ]
    return "\n\n".join(parts) + "\n"


def _header(manifest: dict[str, Any], exported: bool) -> dict[str, Any]:
    """Gather what the hub reads; a number on the digits' own features has a type of its own, as it is no FID."""
    training = manifest["training"]
    data = training["data"]
    prefix = "digits_" if data == "digits" else ""
    metrics = [
        {"type": prefix + name, "name": f"{_title(name, data)}, {steps}", "value": float(f"{median(values):.4g}")}
        for (name, steps), values in _measured(manifest).items()
    ]
    result = {"task": {"type": TASK}, "dataset": {"type": HUB.get(data, data), "name": data}, "metrics": metrics}
    return {
        "license": "mit",
        "library_name": "diffusers" if exported else "ict_lib",
        "pipeline_tag": TASK,
        "tags": TAGS + ["class-conditional"] * training["conditional"],
        **({"datasets": [HUB[data]]} if data in HUB else {}),
        "model-index": [{"name": manifest["name"], "results": [result]}],
    }


def _measured(manifest: dict[str, Any]) -> dict[tuple[str, str], list[float]]:
    """Return what was measured of all seeds: metric and steps, such as ``("fid", "1 step")``, to one value a seed."""
    results, found = manifest["results"], {}
    for key in results[0]:
        named = re.fullmatch(r"(.+)_(\d+)_(steps?)", key)
        if named and not named[1].endswith("_std") and all(key in result for result in results):
            found[named[1], f"{named[2]} {named[3]}"] = [result[key] for result in results]
    return found


def _title(name: str, data: str) -> str:
    """Name a metric and, of the digits, what it was measured on."""
    features = "features of a digits classifier" if data == "digits" else "Inception's features"
    places = (ON_PIXELS, "pixels"), (ON_FEATURES, features)
    found = [f"{titles[name]}, {place}" for titles, place in places if name in titles]
    return found[0] if found else name.replace("_", " ").capitalize()


def _results(manifest: dict[str, Any]) -> str:
    """Lay out the metrics, one a line, one number of steps a column."""
    measured, seeds = _measured(manifest), len(manifest["seeds"])
    steps = list(dict.fromkeys(column for _, column in measured))
    rows = []
    for name in dict.fromkeys(name for name, _ in measured):
        cells = [measured.get((name, column), []) for column in steps]
        written = [spread(values) if len(values) > 1 else "".join(f"{v:.3g}" for v in values) for values in cells]
        rows.append([_title(name, manifest["training"]["data"]), *written])
    of_seeds = f"median over {seeds} seeds (lowest to highest)" if seeds > 1 else "one seed"
    drawn = f"{manifest['num_samples']:,} images; {of_seeds}. A second step is at level {manifest['sigma_mid']}."
    return f"{_table(['', *steps], rows)}\n\n{drawn}"


def _recipe(manifest: dict[str, Any]) -> str:
    """Say in which fields the recipe differs from its preset."""
    name, here = manifest["preset"], manifest["recipe"]
    preset = asdict(PRESETS[name])
    rows = [[f"`{field}`", preset[field], here[field]] for field in here if here[field] != preset.get(field)]
    return _table(["field", f"`{name}`", "here"], rows) if rows else f"`{name}`, unchanged."


def _training(manifest: dict[str, Any]) -> str:
    """Lay out with what the model was trained, and what that cost."""
    training = manifest["training"]
    together = manifest.get("processes", 1) * manifest.get("nodes", 1)
    rows = {
        "network": f"`{training['network']}`, options `{training['network_options']}`",
        "labels": "given to the network" if training["conditional"] else "not used",
        "steps": f"{training['steps']:,}, of {training['batch_size']:,} images each",
        "images seen": f"{manifest['images_seen']:,}, all seeds together",
        "optimiser": f"RAdam, learning rate {training['learning_rate']}",
        "sampled weights": f"moving average, decay {training['ema_decay']} a step",
        "precision": training.get("precision", "fp32"),
        "device": manifest["device"] + f"; {together} processes together" * (together > 1),
        "time": f"{manifest['seconds']:,.0f} seconds, all seeds together",
        "memory": f"{manifest['peak_memory_bytes'] / 2**30:.1f} GiB at most",
        "commit": f"`{manifest['commit']}`",
        "versions": ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
    }
    return _table(["", ""], [[name, value] for name, value in rows.items()])


def _code(manifest: dict[str, Any]) -> str:
    """Write lines that draw images of a run in one step, and what changes for two."""
    training, top = manifest["training"], manifest["recipe"]["sigma_max"]
    label = ", label=torch.full((16,), 3)" * training["conditional"]
    return (
        "import torch\n\n" * training["conditional"]
        + "from ict_lib.sampling import sample\nfrom ict_lib.run.trained import trained_model\n\n"
        + f'model = trained_model("{manifest["name"]}", seed={manifest["seeds"][0]})\n'
        + f"images = sample(model, 16, {DATASETS[training['data']].shape}, sigmas=({top},){label})  # in [-1, 1]\n"
        + f"# in two steps: sigmas=({top}, {manifest['sigma_mid']})"
    )


def _code_diffusers(manifest: dict[str, Any]) -> str:
    """Write lines that draw images of an exported model in one step, and what changes for two."""
    recipe = manifest["recipe"]
    step = timestep_of(manifest["sigma_mid"], recipe["sigma_min"], recipe["sigma_max"], recipe["rho"])
    given = "batch_size=16" + ", class_labels=16 * [3]" * manifest["training"]["conditional"]
    return (
        "from diffusers import ConsistencyModelPipeline\n\n"
        'pipeline = ConsistencyModelPipeline.from_pretrained("FOLDER")\n'
        f"images = pipeline({given}).images\n"
        f"# in two steps: pipeline({given}, num_inference_steps=None, timesteps=[{step}, 0])"
    )


def _limits(manifest: dict[str, Any]) -> list[str]:
    """Say what the numbers do not mean."""
    training, num, commit = manifest["training"], manifest["num_samples"], manifest["commit"]
    data, unused = training["data"], ", ".join(f"`{name}`" for name in unused_fields(training["network"]))
    squared = manifest["preset"] == "CT" and manifest["recipe"]["distance"] == "squared_l2"
    said = {
        "All but the distances on pixels are on the features of a small classifier of the digits: they compare with "
        "no published number.": data == "digits",
        f"An FID of {num:,} images is higher than one of 50,000, as published: they do not compare.": data != "digits"
        and num < 50_000,
        "Images are measured against those of the training; a model that memorised them would score better.": True,
        "Nothing is shown of CIFAR-10 or ImageNet 64.": data in ("digits", "fashion_mnist"),
        f"Nothing is shown of the recipe's {unused}: the network has no use for it.": bool(unused),
        "CT was published with LPIPS; here it has the squared distance.": squared,
        "There is one seed: how much seeds differ is not known.": len(manifest["seeds"]) == 1,
        f"The noise level of the second step, {manifest['sigma_mid']}, was given, not searched for.": True,
        "The code had changes that are in no commit.": commit.endswith("+changes"),
        "The commit of the code is not known.": commit == "unknown",
    }
    return [sentence for sentence, holds in said.items() if holds]


def _table(head: list[str], rows: list[list[Any]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)
