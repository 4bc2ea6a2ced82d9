"""Execute a run: train what is not trained yet, measure, and leave a record."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ict_lib.checks import require
from ict_lib.config import Run, identity, run_from
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.measure import draw, prepare
from ict_lib.files import IDENTITY, RESULT, Stopped, read_json, results_folder, write_json
from ict_lib.run import record as records
from ict_lib.run.trained import read_model
from ict_lib.training import Training, checkpoint
from ict_lib.training.folder import WEIGHTS, TrainingFolder, best_of, finished, read_metrics, read_result
from ict_lib.training.launch import Launched, launch
from ict_lib.training.measuring import FINAL, evaluate, measure_fully, write_picture
from ict_lib.training.metrics import Metrics
from ict_lib.training.model import pick_device
from ict_lib.training.surroundings import code_hash

Show = Callable[[Training | Launched], Iterable[Metrics]]


def execute(run: Run | dict[str, Any], show: Show = iter, resume: bool = True) -> records.Record:
    """Train each seed of a run, and leave its record in ``runs/<name>``.

    ``run`` may be a dict of its fields, as a run file or a notebook holds them. What is interrupted goes on where it
    was; what is finished is not trained again. Without ``resume`` all starts anew, and so does a run below ``preview``
    unless the same code has finished the same settings. ``show`` passes the metrics of a training on while it shows
    them, as :func:`ict_lib.display.progress.progress` does.

    ``ValueError`` if a field is refused, or the folder holds the same name with other settings; ``RuntimeError`` if
    what measures the images is missing, or another process works on this run.
    """
    run = run if isinstance(run, Run) else run_from(run)
    require(not run.variants, "variants", list(run.variants), "none, or execute_study,")
    require(not run.mistake, "mistake", run.mistake, "none, or execute_study,")
    data, folder = load_dataset(run.data), results_folder(run.name)
    prepare(run.data)  # what measures them must be there before hours of training, not after
    for seed in run.seeds:
        place = folder / f"seed-{seed}"
        train_as_asked(run, seed, place, data, show, resume)
    _leave_record(run, folder, data)
    return records.read(run.name)


def train_as_asked(run: Run, seed: int, place: Path, data: Dataset, show: Show = iter, resume: bool = True) -> None:
    """Train a seed unless it is finished, and measure it as is asked now."""
    kept = resume and (not run.is_preview or _is_same(place, run, seed))
    if kept and _measured_as_asked(place, run, seed, data):
        return
    try:
        _train(run, seed, place, data, show, kept)
    except Stopped as stop:
        raise Stopped("stopped: a preview begins anew", stop.args[1]) if run.is_preview else stop from None
    _measured_as_asked(place, run, seed, data)  # its last step may be from before an interruption


def _is_same(place: Path, run: Run, seed: int) -> bool:
    """Tell whether the same code has finished the same settings."""
    left = read_result(place) or {"surroundings": {}}
    return left["surroundings"].get("code") == code_hash() and read_json(place / IDENTITY) == identity(run, seed)


def _begin(run: Run, seed: int, place: Path, resume: bool, data: Dataset | None = None) -> Training | Launched:
    """Prepare one training, by as many processes as the run asks for."""
    if run.processes > 1:
        return launch(run, seed, place, resume=resume)
    return Training(run, seed, place, data=data, resume=resume, evaluate=evaluate)


def _train(run: Run, seed: int, place: Path, data: Dataset, show: Show, resume: bool) -> None:
    training, board = _begin(run, seed, place, resume, data), None
    if run.tensorboard:
        from ict_lib.display.tensorboard import TensorBoardLog  # seconds to load

        board = TensorBoardLog(place, [line for line in read_metrics(place) if line["step"] <= training.step])
    try:
        for metrics in show(training):
            if board:
                board.add(metrics.line())
    finally:
        training.close()
        if board:
            board.close()


def _measured_as_asked(place: Path, run: Run, seed: int, data: Dataset) -> bool:
    """Tell whether a seed is trained; if its images were measured otherwise than is asked now, measure them again."""
    folder = TrainingFolder(place, run, seed)
    try:
        left = finished(place, identity(run, seed))
        if left is None:
            return False
        if left["evaluation"] != folder.evaluation:
            average = read_model(place / WEIGHTS, run, seed).to(pick_device(run.device))
            kept = {key: value for key, value in left["result"].items() if not key.startswith("best_")}
            result = kept | measure_fully(average, data, run, seed) | best_of(place, run.num_samples)
            write_json(place / RESULT, left | {"evaluation": folder.evaluation, "result": result})
        return True
    finally:
        folder.release()


def _leave_record(run: Run, folder: Path, data: Dataset) -> None:
    """Write the record of a run whose trainings are finished, and delete what only they needed."""
    from ict_lib.export.card import model_card

    places = [folder / f"seed-{seed}" for seed in run.seeds]
    left = [read_result(place) for place in places]
    average = read_model(places[0] / WEIGHTS, run, run.seeds[0]).to(pick_device(run.device))
    if len(data.shape) == 3:
        write_picture(folder / "samples.png", draw(average, data, 100, (run.recipe.sigma_max,), FINAL))
    manifest = records.manifest_of(run, [one for one in left if one])
    lines = [line for place in places for line in read_metrics(place)]
    records.write(folder, manifest, lines, model_card(manifest))
    for place in places:
        checkpoint.clear(place)  # all but the milestones
