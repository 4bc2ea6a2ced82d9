"""A run's record: `ict_lib.run.record`; and those that are kept beside the run files."""

import json
import runpy
import shutil
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

import pytest
import torch

from ict_lib.checks import difference
from ict_lib.config import identity, read_run, run_from, trainings_of
from ict_lib.files import results_folder
from ict_lib.recipe import CT
from ict_lib.run.record import exists, manifest_of, read, spread, table, write
from ict_lib.run.study import TABLE
from ict_lib.run.study import read as read_study
from ict_lib.techniques.curriculum import num_scales_at
from ict_lib.training.surroundings import device_name, peak_memory, versions

ROOT = Path(__file__).resolve().parents[1]
LEFT = {path.parent for path in (ROOT / "runs").rglob("manifest.json")}
KEPT = sorted(folder for folder in LEFT if "preview" not in folder.parts)  # what the pages make is no record
STUDIES = [folder for folder in KEPT if (folder / TABLE).exists()]
RECORDED = [folder for folder in KEPT if folder not in STUDIES]
MADE_WITH = {
    "versions": {"python": "3.11", "torch": "2.0"},
    "device": "CPU, 1 thread",
    "commit": 40 * "a",
    "code": 16 * "b",
    "data_checksum": "c",
    "processes": 1,
}
RESULTS = [
    {"seed": 0, "seconds": 1.5, "images_seen": 100, "peak_memory_bytes": 5, "frechet": 3.0},
    {"seed": 1, "seconds": 2.5, "images_seen": 100, "peak_memory_bytes": 9, "frechet": 1.0},
    {"seed": 2, "seconds": 1.0, "images_seen": 100, "peak_memory_bytes": 7, "frechet": 1.25},
]
METRICS = [
    {"seed": 0, "step": 1, "loss": 0.1},
    {"seed": 1, "step": 1, "loss": 1 / 3},
    {"seed": 0, "step": 2, "loss": 1},
]


def made(results=RESULTS, **changes):
    """A manifest of made-up numbers."""
    run = run_from({"name": "a", "preset": "CT", "seeds": [0, 1, 2], "steps": 7, **changes})
    return manifest_of(run, [{"result": result, "surroundings": MADE_WITH} for result in results])


@pytest.fixture
def written(project):
    """The folder of a record in a project of its own."""
    folder = project / "runs" / "a"
    folder.mkdir(parents=True)
    write(folder, made(), METRICS, "A card.\n")
    return folder


# Value: what is read is what was written


def test_round_trip(written):
    record = read("a")
    assert (record.name, record.folder, record.manifest) == ("a", written, made())
    assert record.run == run_from({"name": "a", "preset": "CT", "seeds": [0, 1, 2], "steps": 7})
    assert record.result("frechet") == [3.0, 1.0, 1.25]
    assert record.metrics == METRICS
    assert record.of_seed(0) == [METRICS[0], METRICS[2]]


def test_the_files_are_such_that_anybody_reads_them(written):
    assert json.loads((written / "manifest.json").read_text()) == made()
    assert [json.loads(line) for line in (written / "metrics.jsonl").read_text().splitlines()] == METRICS
    assert (written / "README.md").read_text() == "A card.\n"
    assert sorted(path.name for path in written.iterdir()) == ["README.md", "manifest.json", "metrics.jsonl"]


def test_the_manifest_says_all_that_a_repetition_needs():
    found = made(recipe={"dropout": 0.1}, network_options={"width": 8}, conditional=True, sigma_mid=1.0)
    assert json.loads(json.dumps(found)) == found
    assert found["run"]["recipe"] == {**asdict(CT), "dropout": 0.1}
    assert found["run"]["network_options"] == {"width": 8}
    assert {name: found[name] for name in MADE_WITH} == MADE_WITH
    assert (found["seconds"], found["images_seen"], found["peak_memory_bytes"]) == (5.0, 300, 9)
    assert found["results"] == RESULTS


def test_a_seed_that_was_trained_elsewhere_says_so_itself():
    run, elsewhere = run_from({"seeds": [0, 1]}), MADE_WITH | {"device": "NVIDIA H200"}
    left = [{"result": r, "surroundings": s} for r, s in zip(RESULTS, (MADE_WITH, elsewhere), strict=False)]
    found = manifest_of(run, left)
    assert found["device"] == "CPU, 1 thread"
    assert found["results"] == [RESULTS[0], {**RESULTS[1], "surroundings": elsewhere}]


@pytest.mark.parametrize(("network", "unused"), [("mlp", []), ("ncsnpp", []), ("adm", ["fourier_scale"])])
def test_the_manifest_names_what_the_network_did_not_take_from_the_recipe(network, unused):
    assert made(network=network)["recipe_unused"] == unused


def test_trap_20_the_manifest_states_the_lag_of_an_ema_teacher_as_a_share_of_the_training():
    assert made(steps=6000)["teacher_lag"] == pytest.approx(717.3 / 6000, rel=1e-3)
    assert made(steps=6000, recipe={"mu0": 0.01})["teacher_lag"] < 0.003
    assert made(preset="ICT", steps=6000)["teacher_lag"] == 0


# Value: the records that are kept


@pytest.mark.parametrize("folder", RECORDED, ids=lambda path: path.name)
def test_a_record_was_made_by_its_run_file(folder):
    name = folder.relative_to(ROOT / "runs").as_posix()
    record, asked = read(name), run_from(read_run(name, [], ROOT))
    assert record.name == record.run.name == name
    assert [result["seed"] for result in record.manifest["results"]] == record.run.seeds == asked.seeds
    for seed in asked.seeds:
        assert difference(identity(record.run, seed), identity(asked, seed)) == ""
    assert (record.run.num_samples, record.run.sigma_mid) == (asked.num_samples, asked.sigma_mid)
    assert "+changes" not in record.manifest["commit"]
    assert {line["seed"] for line in record.metrics} == set(asked.seeds)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_a_studys_table_was_made_by_its_run_file_and_is_whole(folder):
    name = folder.relative_to(ROOT / "runs").as_posix()
    study, asked = read_study(name), run_from(read_run(name, [], ROOT))
    rows = {f"{row['variant']}/seed-{row['seed']}": row for row in study.rows}
    assert list(rows) == list(trainings_of(asked))
    for place, (run, seed) in trainings_of(asked).items():
        assert difference(identity(trainings_of(study.run)[place][0], seed), identity(run, seed)) == ""
    assert not any("+changes" in row["commit"] for row in study.rows)
    kept = {path.stem for path in (folder / "samples").iterdir()}
    assert kept == set(asked.variants)


def test_every_run_of_the_digits_has_a_record():
    names = {path.stem for path in (ROOT / "runs" / "digits").glob("*.yaml")}
    assert names == {folder.name for folder in KEPT if folder.parent.name == "digits"}


def test_what_was_trained_twice_gave_the_same_numbers():
    """By different commits, at different times; on processors of one kind they agree to the last bit."""

    def key(run, seed):
        """The settings, with the ends of the curriculum said, named or not."""
        ends = [num_scales_at(run.recipe, step, run.steps) for step in (0, run.steps)]
        same = replace(run, recipe=replace(run.recipe, s0=None, s1=None))
        return json.dumps([ends, identity(same, seed), run.num_samples], sort_keys=True)

    made = {}
    for folder in RECORDED:
        record = read(folder.relative_to(ROOT / "runs").as_posix())
        for seed, result in zip(record.run.seeds, record.manifest["results"], strict=True):
            made.setdefault(key(record.run, seed), []).append(result)
    for folder in STUDIES:
        study = read_study(folder.relative_to(ROOT / "runs").as_posix())
        for row, (one, seed) in zip(study.rows, trainings_of(study.run).values(), strict=True):
            made.setdefault(key(one, seed), []).append(row)
    pairs = [(first, other) for first, *others in made.values() for other in others]
    assert len(pairs) >= 5
    for first, other in pairs:
        measured = "frechet_features_1_step" if "fid_1_step" in first else "sliced_wasserstein_1_step"
        assert first[measured] == pytest.approx(other[measured], rel=1e-4)


def test_the_recorded_ict_reaches_the_bar():
    record = read("digits/ict")
    assert len(record.run.seeds) == 3
    assert median(record.result("frechet_pixels_1_step")) <= 0.45  # the split-half floor of the real digits is 0.28
    assert record.run.preset == "ICT"


# Invariant: whole or not there


def test_a_reader_never_sees_half_a_record(project, monkeypatch):
    """Interrupted at any of its writes, the manifest is the old one, or absent; it says that a record is there."""
    folder = results_folder("a")
    folder.mkdir(parents=True)
    real = Path.replace
    for before in (None, made()):
        for allowed in range(3):
            left = iter(range(allowed))

            def replace(self, target, left=left):
                if next(left, None) is None:
                    raise OSError("interrupted")
                return real(self, target)

            with monkeypatch.context() as patched:
                patched.setattr(Path, "replace", replace)
                with pytest.raises(OSError, match="interrupted"):
                    write(folder, made(steps=8), METRICS, "")
            assert exists("a") == (before is not None)
            assert before is None or read("a").manifest == before
        write(folder, made(), METRICS, "")


# Independent slow reference


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([3.0, 1.0, 1.25], "1.25 (1.00 to 3.00)"),
        ([2.0], "2.00"),  # one seed has no spread
        ([1.0, 2.0], "1.50 (1.00 to 2.00)"),
        ([0.0123456, 0.02, 1234.5], "0.0200 (0.0123 to 1.23e+03)"),
        ([123.4, 99.96, 0.0], "100 (0.00 to 123)"),
        ([-1.0, -2.0, -3.0], "-2.00 (-3.00 to -1.00)"),
    ],
)
def test_spread_is_the_median_between_the_extremes(values, said):
    assert spread(values) == said


def test_the_middle_of_many_seeds():
    values = torch.rand(101, generator=torch.Generator().manual_seed(0)).tolist()
    assert spread(values).startswith(f"{sorted(values)[50]:#.3g} (")


def test_a_table_has_a_row_a_run_in_the_order_asked(project):
    for name, factor in (("b", 2), ("a", 1)):
        results_folder(name).mkdir(parents=True)
        scaled = [{**result, "frechet": factor * result["frechet"]} for result in RESULTS]
        write(results_folder(name), made(scaled, name=name), [], "")
    assert table(["b", "a"], {"distance": "frechet", "time": "seconds"}) == [
        {"run": "b", "distance": "2.50 (2.00 to 6.00)", "time": "1.50 (1.00 to 2.50)", "seeds": 3},
        {"run": "a", "distance": "1.25 (1.00 to 3.00)", "time": "1.50 (1.00 to 2.50)", "seeds": 3},
    ]


# What a record is made with


def test_device_memory_and_versions_have_names_and_units():
    threads = torch.get_num_threads()
    assert device_name(torch.device("cpu")) == f"CPU, {threads} thread{'s' * (threads > 1)}"
    assert 1e7 < peak_memory() < 1e12
    assert torch.__version__.startswith(versions()["torch"])


def test_the_commit_is_that_of_git_and_says_where_the_library_differs_from_it(tmp_path):
    library = tmp_path / "ict_lib"
    (library / "training").mkdir(parents=True)
    module = Path(shutil.copy(ROOT / "ict_lib" / "training" / "surroundings.py", library / "training"))
    (tmp_path / "README.md").touch()

    def found():
        copied = runpy.run_path(str(module))
        return copied["commit"](), copied["code_hash"]()

    def git(*words):
        words = ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    assert found()[0] == "unknown"
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    head, code = found()
    assert head == git("rev-parse", "HEAD")
    (tmp_path / "README.md").write_text("changed")
    (library / ".#new.py").symlink_to("who@machine.1234")  # as Emacs leaves beside a file that is not saved
    assert found()[1] == code
    (library / ".#new.py").unlink()
    assert found() == (head, code)
    (library / "new.py").write_text("changed")
    assert found()[0] == f"{head}+changes"
    assert found()[1] != code


# Errors


def test_a_missing_record_names_the_command_that_makes_it(project):
    assert not exists("digits/ict")
    for ask in (lambda: read("digits/ict"), lambda: table(["digits/ict"], {"time": "seconds"})):
        with pytest.raises(FileNotFoundError, match="'digits/ict' has no record yet: `make run RUN=digits/ict`"):
            ask()


def test_a_missing_result_names_those_there_are(written):
    with pytest.raises(ValueError, match=r"run 'a' has no result 'fid'; it has seed, seconds, .*, frechet"):
        read("a").result("fid")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda manifest: manifest.pop("run"), "'run'"),
        (lambda manifest: manifest["run"].update(stpes=3), "unknown parameter 'stpes': did you mean 'steps'"),
        (lambda manifest: manifest["run"]["recipe"].update(dropuot=0.1), "did you mean 'dropout'"),
        (lambda manifest: manifest["run"].update(network="vgg"), "network is 'vgg'"),
    ],
)
def test_what_is_no_manifest_of_a_run_is_refused(written, damage, said):
    manifest = made()
    damage(manifest)
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=f"the manifest in .* is none that `make run` wrote: .*{said}"):
        read("a")


def test_a_study_has_no_record_of_this_kind(written):
    manifest = made()
    manifest["run"]["variants"] = {"a": {}}
    (written / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="this is a study"):
        read("a")


@pytest.mark.parametrize("text", ["", "[]", '{"run": 3}', '{"results": '])
def test_what_is_no_manifest_at_all_is_refused(written, text):
    (written / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="is none that `make run` wrote"):
        read("a")
