"""A technique's chapter at another scale: a run of iCT becomes a study, with the technique and without it."""

from typing import Any

from ict_lib.checks import require, require_known
from ict_lib.config import Run, run_from
from ict_lib.techniques.curriculum import num_scales_at

TAKEN_OUT = {  # chapter -> what it takes out of iCT, CT's choice in its place; labels as in runs/digits/ladder.yaml
    "weighting": {"ict-uniform-weighting": {"weighting": "uniform"}},
    "embedding": {"ict-fourier-16": {"fourier_scale": 16.0}, "ict-no-dropout": {"dropout": 0.0}},
    "teacher": {"ict-ema": {"teacher": "ema"}},
    "pseudo_huber": {"ict-squared-l2": {"distance": "squared_l2"}},
    "curriculum": {"ict-square-root": {"curriculum": "square_root"}},
    "noise_levels": {"ict-uniform-noise": {"noise_schedule": "uniform"}},
}


def _fair_mu0(run: Run) -> float:
    """Return mu0 of the run, or less where an EMA teacher would lag more than a hundredth of the run at the end."""
    first, last = (num_scales_at(run.recipe, step, run.steps) for step in (0, run.steps))
    most = max(1 - 100 / run.steps, 1e-6)  # decay at the end of a teacher that lags as long as that
    return min(run.recipe.mu0, round(max(most ** (last / first), 1e-6), 6))


def study_of(values: dict[str, Any], chapter: str) -> dict[str, Any]:
    """Say what makes of a run the study that a chapter shows: its ``name``, ``notebook`` and ``variants``.

    The values are a run of iCT at some scale, as its file holds it: ``fashion-mnist/ict`` becomes
    ``fashion-mnist/weighting``, with as many processes and seeds. Refused are a chapter that is none of
    :data:`TAKEN_OUT`, and a run with nothing that it could take out.
    """
    require_known("chapter", chapter, TAKEN_OUT)
    run, out = run_from(values), dict(TAKEN_OUT[chapter])
    require(not run.variants, "variants", list(run.variants), "none in a run that a chapter is to show,")
    if run.network == "adm":
        out.pop("ict-fourier-16", None)  # its features are positional
    for changes in out.values():
        for field, value in changes.items():
            require(getattr(run.recipe, field) != value, f"recipe.{field}", value, "iCT's in a run for this chapter,")
    if chapter == "teacher":
        out["ict-ema"] = out["ict-ema"] | {"mu0": _fair_mu0(run)}
    return {
        "name": "/".join([*run.name.split("/")[:-1], chapter.replace("_", "-")]),
        "notebook": f"book/{chapter}.ipynb",
        "variants": {"ict": {}, **{label: {"recipe": changes} for label, changes in out.items()}},
    }
