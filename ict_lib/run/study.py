"""A study: variants of one run, trained side by side on this machine, with one table for all of them."""

import hashlib
import io
import itertools
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ict_lib import files
from ict_lib.checks import require, require_known
from ict_lib.config import Run, check_settings, identity, run_from, trainings_of
from ict_lib.data import load_dataset
from ict_lib.evaluation.measure import draw, prepare
from ict_lib.run.execute import train_as_asked
from ict_lib.run.mistakes import made
from ict_lib.run.trained import read_model
from ict_lib.training import checkpoint
from ict_lib.training.folder import LOOKS, WEIGHTS, read_result
from ict_lib.training.measuring import FINAL
from ict_lib.training.model import pick_device
from ict_lib.training.program import watch
from ict_lib.training.surroundings import code_hash

TABLE, SAMPLES = "table.jsonl", "samples"
FEW = 500  # points that are kept to be shown
MADE_WITH = ("commit", "code", "device")  # of a training's surroundings, in its row
_asked: list[int] = []  # of a process of the pool: signals that asked it to stop


@dataclass(frozen=True)
class Study:
    """What a study has left so far."""

    run: Run
    rows: list[dict[str, Any]]  # one a training: ``variant``, ``seed``, its results, and what it was made with
    folder: Path

    def result(self, key: str, variant: str) -> list[float]:
        """Return one result of every seed of a variant; refuse one that there is not, or that a training lacks."""
        require_known("variant", variant, self.run.variants)
        rows = [row for row in self.rows if row["variant"] == variant]
        for row in rows:
            require_known("result", key, row)
        return [row[key] for row in rows]


def read(name: str) -> Study:
    """Read what a study has left; if that is nothing, ``FileNotFoundError`` says the command that makes it."""
    folder = files.results_folder(name)
    manifest = files.read_json(folder / "manifest.json")
    if manifest is None:
        raise FileNotFoundError(f"study {name!r} has no record yet: `make run RUN={name}` makes it")
    return Study(run_from(manifest["run"]), files.read_lines(folder / TABLE), folder)


def execute_study(run: Run) -> Study:
    """Train what the table of a study lacks, as many at a time as there are processors; on an accelerator one.

    The table is written after each training. What is interrupted goes on where it was; a row stays as long as the
    settings that decide it are the same.
    """
    folder, settings, trainings = files.results_folder(run.name), _settings(run), trainings_of(run)
    for name, mistake, many in {(one.data, one.mistake, one.processes) for one, _ in trainings.values()}:
        require(not mistake or many == 1, "processes", many, "1 where a mistake is made, which others would not make,")
        with made(mistake):
            load_dataset(name), prepare(name)  # what measures them must be there before hours of training
    rows = {f"{row['variant']}/seed-{row['seed']}": row for row in files.read_lines(folder / TABLE)}
    code = code_hash() if run.is_preview else None  # a preview is of this code
    rows = {
        place: row
        for place, row in rows.items()
        if row["settings"] == settings.get(place) and code in (None, row["code"])
    }
    missing = sorted(settings.keys() - rows.keys(), key=lambda place: (trainings[place][1], place))  # seed by seed
    for place in () if run.is_preview else missing:
        check_settings(folder / place, identity(*trainings[place]))
    folder.joinpath(SAMPLES).mkdir(parents=True, exist_ok=True)
    _write(folder, run, rows)
    with files.hearing(_stop):
        for place, row in tqdm(_trained(run, folder, missing), total=len(missing), desc="trainings", file=sys.stderr):
            rows[place] = row
            _write(folder, run, rows)
    return read(run.name)


def at_once(run: Run, num: int) -> int:
    """Return how many of a study's ``num`` trainings go on at the same time on this machine: one on an accelerator."""
    return max(1, min(files.cores(), num)) if pick_device(run.device).type == "cpu" else 1


def _stop(number: int) -> None:
    raise files.Stopped("stopped: the same command goes on where it was", number)


def _write(folder: Path, run: Run, rows: dict[str, dict[str, Any]]) -> None:
    """Write what is asked, and the rows of it that are there: none that another run of this name has left."""
    files.write_atomically(folder / TABLE, files.json_lines(rows[place] for place in _settings(run) if place in rows))
    files.write_json(folder / "manifest.json", {"run": run.to_dict()})


def _settings(run: Run) -> dict[str, str]:
    """Map the folder of each training of a study to a short hash of all that decides its row, in order."""
    found = {}
    for place, (one, seed) in trainings_of(run).items():
        decisive = json.dumps([identity(one, seed), one.num_samples, one.sigma_mid], sort_keys=True)
        found[place] = hashlib.sha256(decisive.encode()).hexdigest()[:12]
    return found


def _trained(run: Run, folder: Path, places: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Train, a seed of all variants before the next seed, and yield each row as it is there.

    One that fails keeps none of the others from its end: what failed, and why, is a ``RuntimeError`` after the last.
    """
    workers = at_once(run, len(places))
    context, each = multiprocessing.get_context("spawn"), None if run.is_preview else 1  # one peak of memory each
    with ProcessPoolExecutor(workers, context, _heed, (workers, os.getpid()), max_tasks_per_child=each) as pool:
        try:
            yield from _in_turn(lambda place: pool.submit(_train, run.to_dict(), folder, place), places, workers)
        except BaseException:
            for process in multiprocessing.active_children():
                process.terminate()  # each writes a checkpoint
            pool.shutdown(cancel_futures=True)
            raise


def _in_turn(begin: Callable[[str], Future], places: list[str], workers: int) -> Iterator[tuple[str, Any]]:
    """Begin another as soon as one ends: none waits in the pool, where it would begin after a stop."""
    left, under_way, failed = iter(places), {}, []
    while True:
        under_way |= {begin(place): place for place in itertools.islice(left, workers - len(under_way))}
        if not under_way:
            break
        done = next(as_completed(under_way))
        place = under_way.pop(done)
        try:
            yield place, done.result()
        except BrokenExecutor:  # one was killed, perhaps for its memory: so might be those that follow
            raise
        except Exception as error:
            failed += [f"{place}: {type(error).__name__}: {error}"]
            tqdm.write(f"failed: {failed[-1]}", file=sys.stderr)
    if failed:
        raise RuntimeError(f"{len(failed)} of {len(places)} trainings failed: {'; '.join(failed)}")


def _heed(workers: int, parent: int) -> None:
    """Let a process of the pool end with its caller, begin nothing after a signal, and share the cores."""
    watch(parent)
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    for number in files.SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _asked.append(number))


def _train(values: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """Train one variant with one seed, in a process of the pool; leave its samples and return its row."""
    run, place = run_from(values), folder / name
    one, seed = trainings_of(run)[name]
    label = Path(name).parent.name
    with made(one.mistake), files.hearing(_stop):
        if _asked:
            _stop(_asked[0])
        data = load_dataset(one.data)
        train_as_asked(one, seed, place, data)
        left = read_result(place)
        if seed == one.seeds[0]:
            _keep_samples(one, place, folder / SAMPLES / label)
    checkpoint.clear(place, milestones=True)
    surroundings = {name: left["surroundings"][name] for name in MADE_WITH}
    return {"variant": label, "settings": _settings(run)[name], **left["result"], **surroundings}


def _keep_samples(run: Run, place: Path, path: Path) -> None:
    """Keep samples of a training, from the same noise for every variant.

    Of images it is the last look; of points, half precision ``[2, 500, 2]``, in one step and in two.
    """
    last = place / LOOKS / f"step-{run.steps:09d}.png"
    if last.exists():
        files.write_atomically(path.with_name(f"{path.name}.png"), last.read_bytes())
        return
    model, data, content = read_model(place / WEIGHTS, run, run.seeds[0]), load_dataset(run.data), io.BytesIO()
    top, mid = run.recipe.sigma_max, run.sigma_mid
    drawn = [draw(model, data, FEW, sigmas, FINAL).half().numpy() for sigmas in ((top,), (top, mid))]
    np.save(content, np.stack(drawn))
    files.write_atomically(path.with_name(f"{path.name}.npy"), content.getvalue())
