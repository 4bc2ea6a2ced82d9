"""A technique's chapter at another scale: `ict_lib.run.chapter`, and the chapters themselves."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import papermill
import pytest

from ict_lib.config import read_run, run_from, variants_of
from ict_lib.recipe import CT
from ict_lib.run.chapter import TAKEN_OUT, study_of
from ict_lib.run.notebook import asked, checked
from ict_lib.techniques.teacher import lag
from tests.test_run_execute import TINY

ROOT = Path(__file__).resolve().parents[1]
SCALES = ["digits", "fashion-mnist", "cifar10", "imagenet64"]


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch):
    monkeypatch.chdir(ROOT)


# Value: the study that a chapter shows


@pytest.mark.parametrize("chapter", TAKEN_OUT)
@pytest.mark.parametrize("scale", SCALES)
def test_each_chapter_runs_at_each_scale_with_one_change_at_a_time(scale, chapter):
    whole, run = run_from(read_run(f"{scale}/ict", [], ROOT)), checked(asked(f"{scale}/ict", [], chapter=chapter))
    assert (run.name, run.notebook) == (f"{scale}/{chapter.replace('_', '-')}", f"book/{chapter}.ipynb")
    assert (run.data, run.steps, run.processes, run.seeds) == (whole.data, whole.steps, whole.processes, whole.seeds)
    first, *out = variants_of(run).items()
    assert first[0] == "ict"
    assert out
    for _, one in (first, *out):
        before, after = asdict(whole.recipe), asdict(one.recipe)
        changed = [field for field in before if before[field] != after[field] and field != "mu0"]
        assert [after[field] for field in changed] == [getattr(CT, field) for field in changed]
        assert len(changed) == (one is not first[1])


@pytest.mark.parametrize("scale", SCALES)
def test_trap_20_the_teachers_average_keeps_up_in_a_run_this_short(scale):
    run = run_from(asked(f"{scale}/ict", [], chapter="teacher"))
    ict, ema = variants_of(run).values()
    assert ict.recipe.mu0 == 0.9
    assert 0 < lag(ema.recipe, run.steps) <= 0.0101 * run.steps
    published = lag(replace(ema.recipe, mu0=0.9), run.steps) <= 0.01 * run.steps
    assert (ema.recipe.mu0 == 0.9) == published
    short = study_of(read_run(f"{scale}/ict", ["steps=3"], ROOT), "teacher")["variants"]["ict-ema"]["recipe"]
    assert 0 < short["mu0"] < 1e-5


def test_a_run_file_without_a_name_becomes_a_study_too(tmp_path):
    (tmp_path / "own.yaml").write_text("run: {preset: ICT}")
    assert run_from(asked(str(tmp_path / "own.yaml"), [], chapter="weighting")).name == "weighting"


def test_a_chapters_study_is_that_of_the_changed_run():
    run = run_from(asked("fashion-mnist/ict", ["steps=2000"], chapter="teacher"))
    ema = variants_of(run)["ict-ema"]
    assert ema.steps == 2000
    assert lag(ema.recipe, 2000) <= 0.0101 * 2000
    with pytest.raises(ValueError, match=r"recipe\.weighting is 'uniform'"):
        asked("digits/ict", ["recipe.weighting=uniform"], chapter="weighting")


def test_labels_are_those_of_the_ladder():
    """So that a chapter lays both side by side without a list of its own."""
    ladder = variants_of(run_from(read_run("digits/ladder", [], ROOT)))
    for variants in TAKEN_OUT.values():
        for label, changes in variants.items():
            assert {field: getattr(ladder[label].recipe, field) for field in changes} == changes


def test_a_change_and_a_dry_run_come_after():
    run = run_from(asked("digits/ict", ["name=digits/mine", "batch_size=16"], chapter="weighting"))
    assert (run.name, run.batch_size, list(run.variants)) == ("digits/mine", 16, ["ict", "ict-uniform-weighting"])
    dry = run_from(asked("cifar10/ict", [], dry=True, chapter="pseudo_huber"))
    assert (dry.name, dry.steps, dry.notebook) == ("preview/cifar10/pseudo-huber", 3, "book/pseudo_huber.ipynb")
    assert list(dry.variants) == ["ict", "ict-squared-l2"]


def test_features_that_a_network_does_not_have_are_not_taken_out():
    assert list(asked("imagenet64/ict", [], chapter="embedding")["variants"]) == ["ict", "ict-no-dropout"]
    assert list(asked("cifar10/ict", [], chapter="embedding")["variants"])[1] == "ict-fourier-16"


# The chapters themselves, as papermill executes them


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of its own around the real library, chapters and records, so that no test touches real results."""
    folder = tmp_path_factory.mktemp("chapters")
    for name in ("pyproject.toml", "ict_lib", "book", "_config.yml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "runs").mkdir()
    for path in (ROOT / "runs").iterdir():
        if path.name != "preview":
            (folder / "runs" / path.name).symlink_to(path)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("chapter", TAKEN_OUT)
def test_a_chapter_shows_another_scale_beside_the_small_one(chapter, project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    values = {**TINY, "name": "tiny/ict", "steps": 4, "log_every": 2, "evaluate_every": 4, "checkpoint_every": 4}
    given = {"run": {**values, **study_of(values, chapter)}}
    cells = json.loads((ROOT / "book" / f"{chapter}.ipynb").read_text("utf8"))["cells"]
    (first,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    space = {}
    exec("".join(first["source"]), space)
    if "points" in space:  # the page's own small study, smaller still
        given["points"] = {**space["points"], "steps": 60, "log_every": 5, "evaluate_every": 60}
    options = {"cwd": str(project), "kernel_name": "python3", "progress_bar": False}
    made = papermill.execute_notebook(str(ROOT / "book" / f"{chapter}.ipynb"), None, given, **options)
    shown = "\n".join(
        "".join(output["data"].get("text/markdown", ""))
        for cell in made.cells if cell.cell_type == "code" for output in cell.outputs if "data" in output
    )  # fmt: skip
    assert "**At another scale.** 4 steps of 32 samples of digits" in shown
    for label in given["run"]["variants"]:
        assert f"\n| `{label}` | " in shown
    name = f"tiny/{chapter.replace('_', '-')}"
    assert (project / "runs" / name / "table.jsonl").read_text("utf8").count("\n") == len(given["run"]["variants"])


# Errors


@pytest.mark.parametrize(
    ("name", "changes", "chapter", "said"),
    [
        ("digits/ict", [], "wieghting", "did you mean 'weighting'"),
        ("digits/ct", [], "weighting", "recipe.weighting"),
        ("digits/ladder", [], "weighting", "variants"),
    ],
)
def test_what_a_chapter_cannot_show_is_refused(name, changes, chapter, said):
    with pytest.raises(ValueError, match=said):
        asked(name, changes, chapter=chapter)
