"""A technique at another scale, beside the study of the digits that its chapter shows."""

from ict_lib.display.figures.ladder import worth
from ict_lib.run.record import spread
from ict_lib.run.study import Study

RESULTS = {  # the first that a study has is what its variants are compared by
    "frechet_features_1_step": "Fréchet distance on features, 1 step",
    "fid_1_step": "FID, 1 step",
    "sliced_wasserstein_1_step": "sliced Wasserstein distance, 1 step",
}


def result_of(study: Study) -> tuple[str, str]:
    """Name the result by which a study's variants are compared, and say what it is."""
    return next((key, words) for key, words in RESULTS.items() if all(key in row for row in study.rows))


def beside(study: Study | None, small: Study, chapter: str) -> str:
    """Write what a technique is worth at two scales, as Markdown.

    The other study is what ``make run RUN=fashion-mnist/ict CHAPTER=weighting`` leaves for a chapter of that file name;
    None says how to get one. ``small`` has variants of the same labels.
    """
    if study is None:
        folder = f"runs/fashion-mnist/{chapter.replace('_', '-')}"
        return f"""*At another scale.* `make run RUN=fashion-mnist/ict CHAPTER={chapter}` trains iCT there with this
technique and without it, and leaves this page with both scales side by side in `{folder}`; `digits/ict`,
`cifar10/ict` and `imagenet64/ict` likewise ([Running at scale](scale.ipynb) says what they take)."""
    head, rule = [""], ["---"]
    for one in (study, small):
        head += [f"{one.run.name}: {result_of(one)[1]}", "without / with"]
        rule += ["---"] * 2
    rows = []
    for label in study.run.variants:
        cells = [f"`{label}`"]
        for one in (study, small):
            key = result_of(one)[0]
            cells += [spread(one.result(key, label)), worth(one, label, "ict", key) if label != "ict" else ""]
        rows.append(cells)
    seeds = min(len(one.result(result_of(one)[0], "ict")) for one in (study, small))
    note = "" if seeds > 1 else " One seed does not say what is chance."
    scale = f"{study.run.steps:,} steps of {study.run.batch_size} samples of {study.run.data}, {study.run.network}"
    lines = [f"**At another scale.** {scale}. Above 1 the technique helps.{note}", ""]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))])
