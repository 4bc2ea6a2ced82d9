"""The chapters as notebooks: the form that CONTRIBUTING.md asks for, and numbers that come from records."""

import ast
import re
from pathlib import Path

import nbformat
import pytest
import yaml

from ict_lib.config import Run, run_from

ROOT = Path(__file__).resolve().parents[1]
# What was not so, or says more than is known of a paper whose text was not at hand.
TOO_STRONG = [
    r"written from the papers?\b",
    r"from the paper alone",
    r"(?<!of iCT itself, )no public training (?!that we found)",
    r"in every published",
    r"[Ee]ach known misreading",
    r"best one-step model (?!of this table)",
    r"paper's code was never released",
]
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
PAGES = [TOC["root"], *(chapter["file"] for chapter in TOC["chapters"])]
LOOKED_UP = ("results", "glossary", "library", "references")
CHAPTERS = [page for page in PAGES if page.removeprefix("book/") not in LOOKED_UP]
SECTIONS = ["question", "predict", "explore", "when it breaks", "exercises", "check yourself"]
SECTIONS += ["summary", "references"]


def notebook(chapter):
    return nbformat.read(ROOT / f"{chapter}.ipynb", as_version=4)


def code_cells(chapter):
    return [cell for cell in notebook(chapter).cells if cell.cell_type == "code"]


def text(chapter):
    return "\n".join(cell.source for cell in notebook(chapter).cells if cell.cell_type == "markdown")


def test_the_pages_are_there():
    techniques = ["weighting", "embedding", "teacher", "pseudo_huber", "curriculum", "noise_levels"]  # as in the paper
    before, after = ["introduction", "consistency_model", "baseline"], ["ladder", "sampling", "playground"]
    names = [*before, *techniques, *after, "precision", "clinic", "reproduce", "scale", "after_ict", *LOOKED_UP]
    assert [f"book/{name}" for name in names] == PAGES


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_its_form(chapter):
    headings = " ".join(re.findall(r"^## (.*)$", text(chapter), re.MULTILINE)).lower()
    missing = [section for section in SECTIONS if section not in headings]
    assert not missing
    assert text(chapter).index("You will learn") < text(chapter).index("## ")
    minutes = int(re.search(r"About (\d+) minutes", text(chapter)).group(1))
    assert minutes <= 45


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_first_code_cell_holds_annotated_parameters(chapter):
    first = code_cells(chapter)[0]
    assert "parameters" in first.metadata.tags
    statements = ast.parse(first.source).body
    assert all(isinstance(s, ast.AnnAssign) for s in statements)  # papermill reads types from annotations alone


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_code_cells_are_short_and_exercises_folded(chapter):
    for cell in code_cells(chapter)[1:]:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        folded = {"hide-input", "remove-input"} & set(cell.metadata.get("tags", []))
        limit = 25 if folded else 15  # folded cells only draw or say
        assert len(lines) <= limit, cell.source
    after = text(chapter).split("## Exercises")[1].split("## Check yourself")[0]
    questions = len(re.findall(r"^\*\*\d\.\*\*", after, re.MULTILINE))
    solutions = [cell for cell in code_cells(chapter) if "hide-cell" in cell.metadata.get("tags", [])]
    assert questions == len(solutions) >= 3
    assert all("assert" in cell.source for cell in solutions)  # CI runs them, and they can fail


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_hint_stands_between_each_exercise_and_its_solution(chapter):
    cells = notebook(chapter).cells
    solved = [place for place, cell in enumerate(cells) if "hide-cell" in cell.metadata.get("tags", [])]
    for place in solved:
        asked = cells[place - 1].source.rpartition("\n**")[2] or cells[place - 1].source
        hint = re.search(r"<details><summary>Hint</summary>\n\n(.+?)\n\n</details>$", asked, re.DOTALL)
        assert hint, asked
        assert len(hint[1].split()) >= 6, hint[1]


def choices(chapter):
    """The choices of each question by its name, in the order of the page: (right, what it says, its answer) each."""
    form = r'<details class="choice( right)?" name="([a-z0-9-]+)"><summary>(.*?)</summary>\n\n(.*?)\n\n</details>'
    found = {}
    for right, name, says, answer in re.findall(form, text(chapter), re.DOTALL):
        found.setdefault(name, []).append((bool(right), says, answer))
    assert sum(map(len, found.values())) == text(chapter).count('class="choice'), "one is written in another form"
    return found


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_question_has_one_right_choice_and_wrong_ones_that_name_a_misconception(chapter):
    for name, group in choices(chapter).items():
        assert [right for right, *_ in group].count(True) == 1, name
        assert 3 <= len(group) <= 5, name
        for letter, (right, says, answer) in zip("abcde", group, strict=False):
            assert says.startswith(f"({letter}) "), (name, says)
            assert not re.search(r"[$`*_]", says), f"{name}: {says}"  # shown as they are written
            assert answer.startswith("Yes" if right else "No"), (name, says)  # heard, and read in JupyterLab
            assert len(answer.split()) >= 8, (name, answer)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_each_predict_has_choices_and_three_questions_stand_before_the_summary(chapter):
    names = list(choices(chapter))
    predicts = re.findall(r"^## Predict$|^\*\*Predict\.\*\*", text(chapter), re.MULTILINE)
    assert names == ["predict", *(f"predict-{n}" for n in range(2, len(predicts) + 1)), "check-1", "check-2", "check-3"]
    assert text(chapter).split("## Check yourself")[1].split("\n## ")[1].startswith("Summary")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_summary_leads_to_the_next_page(chapter):
    summary = parts(chapter)[0].split("## Summary")[1]
    following = PAGES[PAGES.index(chapter) + 1].removeprefix("book/")
    assert re.findall(r"[Nn]ext\b[^[]*\[[^]]+\]\((\w+)\.ipynb\)", summary)[-1:] == [following]


def test_no_letter_is_mostly_the_right_one():
    groups = [group for chapter in CHAPTERS for group in choices(chapter).values()]
    places = [[right for right, *_ in group].index(True) for group in groups]
    assert max(map(places.count, places)) <= len(places) / 2


def test_each_test_that_a_page_names_is_there():
    tests = "\n".join(path.read_text("utf8") for path in (ROOT / "tests").glob("test_*.py"))
    named = {name for chapter in CHAPTERS for name in re.findall(r"`(test_\w+)`", text(chapter))}
    assert len(named) >= 15  # the clinic's
    assert not [name for name in named if f"def {name}(" not in tests]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_nothing_that_hangs_papermill_is_used(chapter):
    source = "\n".join(cell.source for cell in code_cells(chapter))
    for banned in ("interact", "Output(", "Play(", "tqdm.auto", "tqdm.notebook"):
        assert banned not in source


def test_the_run_notebook_holds_a_short_run_of_its_own():
    """What a run file leaves out comes from ``Run`` alone, so that a file and the page cannot disagree."""
    namespace = {}
    exec(code_cells("book/reproduce")[0].source, {}, namespace)
    shown = run_from(namespace["run"])
    assert shown.name == "preview"  # what git ignores
    assert shown.steps < Run().steps
    for path in (ROOT / "runs").rglob("*.yaml"):
        assert "steps" in yaml.safe_load(path.read_text("utf8"))["run"], path


@pytest.mark.parametrize("page", PAGES)
def test_a_name_of_the_library_means_one_thing_on_a_page(page):
    """No cell gives it to something else, so that cells can be executed again in any order."""
    nodes = [node for cell in code_cells(page) for node in ast.walk(ast.parse(cell.source))]
    brought = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module.startswith("ict_lib")]
    names = {alias.asname or alias.name for node in brought for alias in node.names}
    given = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    given |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    given |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    assert not names & given


@pytest.mark.parametrize("page", PAGES)
def test_one_rule_says_whether_seeds_part_two_variants(page):
    """``apart`` of the ladder's figures, and nothing that a page writes out."""
    source = "\n".join(cell.source for cell in code_cells(page))
    assert not re.findall(r"max\(\w+\) < min\(\w+\)|> min\(max\(.*", source)
    assert "def apart" not in source
    assert not re.findall(r"^ *apart = .*", source, re.MULTILINE)


def test_measured_numbers_are_not_typed():
    """No decimal number in the prose about experiments: those come through ``say`` from a record."""
    for chapter in ("book/teacher", "book/playground", "book/reproduce", "book/scale", "book/precision"):
        seen = text(chapter).split("## The experiment")[1].split("## When it breaks")[0]
        prose = re.sub(r"\$.*?\$|`.*?`|\]\(.*?\)", "", seen, flags=re.DOTALL)
        assert not re.findall(r"\d+\.\d+", prose), chapter


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_jupyterlab_shows_what_the_page_shows(chapter):
    """No directive, role, label or substitution of MyST's own, which JupyterLab shows as raw text."""
    prose = re.sub(r"(?s)(?<!`)```(?!\{).*?```|\$\$.*?\$\$|\$[^$]*\$", "", text(chapter))
    assert not re.findall(r"```\{.*|:::.*|\{[a-zA-Z:-]+\}`.*|^\([\w-]+\)=.*|\{\{.*|\[\^.*|^% .*", prose, re.MULTILINE)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_still_figure_is_said_in_words(chapter):
    """``still`` takes the words; a picture that is shown otherwise gets its words from the cell."""
    for cell in code_cells(chapter):
        assert "plt.show()" not in cell.source, cell.source
        assert len(cell.source.split("plt.subplots(")) <= len(re.findall(r"\bstill\(", cell.source)) + 1, cell.source


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_claims_have_a_source_that_can_be_followed(chapter):
    """The works at the end are linked from the text before them, where the claim is made."""
    before, after = (set(re.findall(r"\]\(references\.ipynb#([\w-]+)\)", part)) for part in parts(chapter))
    assert before
    assert before <= after
    assert "arxiv.org" not in text(chapter)  # one place says where a work is


def parts(chapter):
    """The text before the references, and they."""
    return text(chapter).split("## References")


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "tests/README.md", "book", "ict_lib", "runs"])
def test_no_claim_says_more_than_is_known(path):
    place = ROOT / path
    files = (
        [place] if place.is_file() else [p for p in place.rglob("*") if p.suffix in {".ipynb", ".py", ".yaml", ".md"}]
    )
    for file in files:
        words = " ".join(file.read_text("utf8").replace('\\n"', "").replace('"', "").split()).replace(", ,", ",")
        assert not [claim for claim in TOO_STRONG if re.search(claim, words)], file


def test_what_a_run_decides_is_not_typed_on_the_page_that_every_run_executes():
    seen = (
        text("book/reproduce").split("## What the recorded runs show")[0]
        + text("book/reproduce").split("## The code")[1]
    )
    prose = re.sub(r"\$.*?\$|`.*?`|\(http.*?\)", "", seen.split("## Exercises")[0], flags=re.DOTALL)
    assert not re.findall(r"1,?281|\b64\b|0\.\d+|6,?000|[Tt]hree seeds|\b11\b", prose)


@pytest.mark.parametrize("url", ["", "https://example.org/project", "https://github.com/someone/project"])
def test_pages_say_how_to_get_there_before_they_say_make(url, tmp_path, monkeypatch):
    (tmp_path / "_config.yml").write_text(f"repository: {{url: '{url}'}}\n")
    (cell,) = [cell.source for cell in code_cells("book/introduction") if '["repository"]' in cell.source]
    said = []
    exec(cell, {"yaml": yaml, "project_root": lambda: tmp_path, "say": said.append})
    assert "make book" in said[0]
    assert f"git clone {url}" in said[0] if url else "no address" in said[0]
    assert ("!git clone" in said[0]) == ("github" in url)  # Colab opens nothing else
    for chapter in CHAPTERS[1:]:
        if "`make " in text(chapter):
            first = text(chapter).index("`make ")
            assert "(introduction.ipynb)" in text(chapter)[: first + 200], chapter
