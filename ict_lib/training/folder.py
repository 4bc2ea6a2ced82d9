"""What a training leaves in its folder: metrics, checkpoints, looks, weights, and at its end a result."""

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

from filelock import BaseFileLock
from safetensors import safe_open
from torch import nn

from ict_lib import files
from ict_lib.checks import difference, require
from ict_lib.config import EVALUATION, Run, check_settings, identity
from ict_lib.files import IDENTITY, RESULT, WEIGHTS
from ict_lib.training import checkpoint
from ict_lib.training.metrics import Metrics
from ict_lib.training.model import save_weights

METRICS, LOOKS, BEST = "metrics.jsonl", "looks", "best.safetensors"


class TrainingFolder:
    """The folder of one training, whose only writer is this process until ``release``.

    ``RuntimeError`` if another process trains there.
    """

    def __init__(self, path: Path, run: Run, seed: int):
        self.path, self.identity = path, identity(run, seed)
        self.evaluation = {name: getattr(run, name) for name in EVALUATION}
        self._lock: BaseFileLock | None = files.hold(path)

    def release(self) -> None:
        """Let others write here; a second time changes nothing, so that nobody else's hold ends."""
        if self._lock:
            self._lock.release()
        self._lock = None

    def begin(self, resume: bool, surroundings: dict[str, Any]) -> dict[str, Any] | None:
        """Read the newest good checkpoint, or clear the folder where there is none or it is not wanted.

        Refused are other settings, with the difference, and a training that is finished, whose checkpoints are gone.
        """
        done = resume and finished(self.path, self.identity)
        state = checkpoint.load_latest(self.path) if resume else None
        if state is None:
            rule = "another name, or a new start (ANEW=1 of make run, resume=False in Python),"
            require(not done, str(self.path), "finished", rule)
            self.empty()
            return None
        changed = difference(state["surroundings"], surroundings)
        if changed:
            warnings.warn(f"{self.path} goes on in changed surroundings: {changed}", stacklevel=2)
        self._cut(state["last"])
        return state

    def append(self, metrics: Metrics) -> None:
        """Add one line of metrics."""
        with files.naming(self.path / METRICS), (self.path / METRICS).open("ab") as file:
            file.write(files.json_lines([metrics.line()]))
            file.flush()
            os.fsync(file.fileno())  # as the checkpoint that follows

    def finish(self, metrics: Metrics, average: nn.Module, surroundings: dict[str, Any]) -> None:
        """Keep the weights that are sampled, and after them the result, which says that the training is finished."""
        save_weights(self.path / WEIGHTS, average)
        result = metrics.result() | best_of(self.path, self.evaluation["num_samples"])
        made = {"evaluation": self.evaluation, "surroundings": surroundings}
        files.write_json(self.path / RESULT, {**made, "result": result})

    def _cut(self, last: dict[str, Any] | None) -> None:
        """Drop lines and looks after the last one, which will be made again; add it if an interruption kept it out."""
        step = last["step"] if last else 0
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        missing = last and not (kept and kept[-1]["step"] == step)
        lines = [*kept, Metrics(**last).line()] if missing else kept
        files.write_atomically(self.path / METRICS, files.json_lines(lines))
        for look in (self.path / LOOKS).glob("step-" + 9 * "[0-9]" + ".png"):
            if int(look.stem.removeprefix("step-")) > step:
                look.unlink()

    def empty(self) -> None:
        """Delete everything that an earlier training has left."""
        checkpoint.clear(self.path, milestones=True)
        for name in (RESULT, WEIGHTS, BEST, METRICS):
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / LOOKS, ignore_errors=True)
        files.write_json(self.path / IDENTITY, self.identity)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of metrics of a training's folder; what has no step is none."""
    return [line for line in files.read_lines(path / METRICS) if "step" in line]


def finished(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Return what a finished training has left: ``result``, ``surroundings`` and ``evaluation``; None before.

    What was made with other settings, finished or not, is refused with the difference.
    """
    check_settings(path, settings)
    return read_result(path)


def read_result(path: Path) -> dict[str, Any] | None:
    """Read what a finished training has left in a folder, whatever its settings; None where there is none."""
    return files.read_json(path / RESULT) if (path / WEIGHTS).is_file() else None


def best_of(path: Path, num_samples: int) -> dict[str, float]:
    """Read ``best_step`` and ``best_fid_1_step`` of the best weights in a folder; nothing where there are none.

    Nothing either where that was measured on another number of samples: such FIDs do not compare. The best of many
    measurements looks better than it is: it was chosen by the number that is reported.
    """
    if not (path / BEST).exists():
        return {}
    with safe_open(path / BEST, "pt") as file:
        notes = file.metadata()
    if notes.get("num_samples") != str(num_samples):
        return {}
    return {"best_step": int(notes["step"]), "best_fid_1_step": float(notes["fid_1_step"])}
