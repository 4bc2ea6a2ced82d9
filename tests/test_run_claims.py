"""The table of claims: what nobody has run says so, and a record fills its row by itself."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from ict_lib.config import run_from
from ict_lib.files import run_names
from ict_lib.run import record
from ict_lib.run.claims import NOT_RUN, claims

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book" / "claims.csv"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the committed claims and the records of the digits."""
    (tmp_path / "ict_lib").mkdir()
    (tmp_path / "pyproject.toml").touch()
    for name in ("digits/ict", "digits/ct", "digits/ct-verbatim"):
        shutil.copytree(ROOT / "runs" / name, tmp_path / "runs" / name, ignore=shutil.ignore_patterns("seed-*"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row_of(rows, **wanted):
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def leave(project, name, results, **changes):
    """A record, as a cluster would leave it."""
    run = run_from({"name": name, "seeds": list(range(len(results))), **changes})
    surroundings = {"device": "8 x NVIDIA H100"}
    left = [{"result": {"seconds": 1.0, "images_seen": 1024, "peak_memory_bytes": 1} | one} for one in results]
    manifest = record.manifest_of(run, [one | {"surroundings": surroundings} for one in left])
    folder = project / "runs" / name
    folder.mkdir(parents=True)
    record.write(folder, manifest, [], "card")


# Values from the paper


def test_the_papers_values_stand_in_the_table_with_their_marks():
    """The poster's row of iCT on ImageNet 64x64, and the abstract's 2.51."""
    table = pd.DataFrame(claims(BOOK)).set_index(["system", "data", "NFE", "metric"]).paper
    poster = pd.read_csv(ROOT / "book" / "poster.csv", dtype=str)
    for system in ("iCT", "iCT-deep", "CT (LPIPS)"):
        for _, line in poster[poster.system == system].iterrows():
            assert table[system, "ImageNet 64x64", line.NFE, "FID"] == f"{line.FID} [A]"
    assert table["iCT-deep", "CIFAR-10", "1", "FID"] == "2.51 [A]"


# Invariants


def test_every_claim_names_a_run_that_can_be_made():
    assert {row["again"].removeprefix("make run RUN=") for row in claims(BOOK)} <= set(run_names(ROOT))


def test_what_nobody_has_run_says_so_and_a_record_fills_its_row(project):
    asked = {"system": "iCT", "data": "CIFAR-10", "NFE": "1"}
    before = row_of(claims(BOOK), **asked)
    assert (before["here"], before["seeds"], before["device"]) == (NOT_RUN, "", "")
    results = [{"fid_1_step": value, "fid_2_steps": value - 0.5} for value in (3.0, 2.9, 3.2)]
    leave(project, "cifar10/ict", results, data="cifar10", network="ncsnpp", num_samples=50_000)
    after = claims(BOOK)
    assert row_of(after, **asked) == before | {
        "here": "3.00 (2.90 to 3.20)",
        "seeds": "3",
        "protocol": "50,000 samples, Inception's features",
        "images seen": "1,024 a seed",
        "device": "8 x NVIDIA H100",
    }
    assert row_of(after, **{**asked, "NFE": "2"})["here"] == "2.50 (2.40 to 2.70)"


def test_one_seed_has_no_spread(project):
    leave(project, "cifar10/ict", [{"fid_1_step": 3.0, "fid_2_steps": 2.0}], data="cifar10", network="ncsnpp")
    assert row_of(claims(BOOK), system="iCT", data="CIFAR-10", NFE="1")["here"] == "3.00"


# Independent reference


def test_our_side_is_what_the_manifest_says():
    manifest = json.loads((ROOT / "runs/digits/ict/manifest.json").read_text())
    values = sorted(result["frechet_features_1_step"] for result in manifest["results"])
    row = row_of(claims(BOOK), system="iCT", data="digits", NFE="1")
    assert row["here"] == f"{values[1]:#.3g} ({values[0]:#.3g} to {values[-1]:#.3g})"
    assert row["protocol"] == "10,000 samples, features of a digits classifier"


# Errors


def test_a_record_without_the_result_is_refused(project):
    leave(project, "cifar10/ict", [{"kid_1_step": 3.0}], data="cifar10", network="ncsnpp")
    with pytest.raises(ValueError, match="no result 'fid_1_step'"):
        claims(BOOK)
