"""The training loop, of one process or of each of many: it yields metrics and holds the models; it prints nothing."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ict_lib.config import Run
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.group import Alone
from ict_lib.networks.lpips import perceptual
from ict_lib.objective import LossOutput, distance_between
from ict_lib.techniques.teacher import lag
from ict_lib.training import checkpoint
from ict_lib.training.batches import Batches
from ict_lib.training.folder import TrainingFolder
from ict_lib.training.metrics import Metrics, lines_left
from ict_lib.training.model import arrange, build_model, compile_passes, pick_device, threads_for
from ict_lib.training.precision import multiplying
from ict_lib.training.step import Learner, fit
from ict_lib.training.surroundings import peak_memory, surroundings

MOST_LAG = 0.01  # of a training; CT's was 0.001
PARTS = ("student", "teacher", "average", "optimizer", "scaler")  # of a learner, in a checkpoint


def train(run_config: Run, resume: bool = True, seed: int | None = None, folder: Path | None = None) -> "Training":
    """Prepare one training of a run, as :class:`Training` does; iterate over the result to run it.

    Source: [iCT] arXiv:2310.14189; [CT] arXiv:2303.01469, algorithm "consistency training".
    """
    return Training(run_config, seed, folder, resume=resume)


class Training(Iterator[Metrics]):
    """A training under way: an iterator of metrics, with the models as they are now.

    Interrupted at any moment, and made again with the same folder, it goes on from the newest good checkpoint, and its
    weights end as if nothing had happened.

    Args:
        run: everything that the training needs.
        seed: None takes the run's first.
        folder: for checkpoints, metrics, weights and result; None leaves nothing.
        group: of processes that train together, each with a ``Training`` of its own; None trains alone.
        data: what it trains on; None loads what the run names.
        resume: go on from a checkpoint; False deletes what is in the folder.
        evaluate: called after the last step of each line of metrics, in all processes, with the training and the number
            of steps since the line before; what it returns becomes part of the line.

    Attributes:
        step: steps taken.
        learner: holds ``student``, ``teacher``, ``average`` (the weights to sample) and ``optimizer``, which are
            attributes of the training too.
        last: the newest metrics; None before the first.

    Raises:
        ValueError: if the processes cannot share the batch equally, or the folder holds a training with other settings,
            with the difference, or one that is finished and whose checkpoints are gone.
        RuntimeError: if another process trains in the folder.
    """

    def __init__(
        self,
        run: Run,
        seed: int | None = None,
        folder: Path | str | None = None,
        group: Alone | None = None,
        data: Dataset | None = None,
        resume: bool = True,
        evaluate: Callable[["Training", int], dict[str, float]] | None = None,
    ):
        self.run, self.seed, self.group = run, run.seeds[0] if seed is None else seed, group or Alone()
        self.device, self.evaluate = pick_device(run.device), evaluate
        self.data = (data or load_dataset(run.data)).to(self.device)
        self.batches = Batches(self.data, run, self.seed, self.group, self.device)
        self.learner = self._learner()
        self.student, self.teacher = self.learner.student, self.learner.teacher
        self.average, self.optimizer = self.learner.average, self.learner.optimizer
        self.step, self.seconds, self.last, self._steps = 0, 0.0, None, None
        self._closed = self._interrupted = False
        self.place = Path(folder) if folder else None
        self.folder = TrainingFolder(self.place, run, self.seed) if folder and self.group.rank == 0 else None
        if folder:
            self._begin(resume)

    def __len__(self) -> int:
        """Return how many records are still to come."""
        return lines_left(self.run, self.step)

    def __next__(self) -> Metrics:
        """Train until the next record is due."""
        if self.done or self._closed:
            raise StopIteration
        if self._interrupted:  # perhaps in the middle of a step, or before its record was written
            raise RuntimeError(f"interrupted after step {self.step}: make another, which goes on from its checkpoint")
        self._interrupted, started = True, time.perf_counter()
        with multiplying(self.run.precision), threads_for(self.run, self.device):
            window = self._window()
            loss = self._mean_loss(window)
            self.seconds += time.perf_counter() - started
            measured = self.evaluate(self, len(window)) if self.evaluate else {}
            self.last = self._metrics(window[-1].num_scales, loss, measured)
            self._keep(len(window))
        self._interrupted = False
        return self.last

    def passed(self, every: int | None, steps_taken: int) -> bool:
        """Tell whether a multiple of ``every`` is among the last steps; the end counts as one."""
        return every is not None and (self.step // every > (self.step - steps_taken) // every or self.done)

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step == self.run.steps

    def close(self) -> None:
        """End the iteration, and let others write to the folder."""
        self._closed = True
        if self.folder:
            self.folder.release()

    def _learner(self) -> Learner:
        """Build the models and their optimizer."""
        run, shape, behind = self.run, self.data.shape, lag(self.run.recipe, self.run.steps)
        if behind > MOST_LAG * run.steps and self.group.rank == 0:
            share = f"{behind:.0f} steps at the end, {behind / run.steps:.2g} of this run"
            warnings.warn(f"the EMA teacher lags {share}: a lower mu0 suits so short a run", stacklevel=2)
        distance_between(run.recipe, *torch.zeros(2, 1, *shape, device=self.device), perceptual)  # what it lacks, now
        student = arrange(build_model(run, shape, self.data.num_classes, self.seed).to(self.device))
        learner = Learner(student, run.recipe, run.learning_rate, run.precision, perceptual)
        if run.compile:
            compile_passes(learner.student, learner.teacher)
        return learner

    def _window(self) -> list[LossOutput]:
        """Train up to the next multiple of ``log_every``, or the end."""
        run, window = self.run, []
        self._steps = self._steps or fit(self.learner, self.batches, run.steps, run.ema_decay, self.step, self.group)
        while not window or not (self.step % run.log_every == 0 or self.done):
            window.append(next(self._steps))
            self.step += 1
        return window

    def _mean_loss(self, window: list[LossOutput]) -> float:
        """Average the losses since the last record; stop if one of them, or a weight, is not a number.

        All processes stop alike, as the losses are sums over all of them and their weights are equal.
        """
        losses = torch.stack([output.loss for output in window])
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            output = window[int(bad[0])]
            low, high = self.group.extremes(float(output.sigma_lo.min()), float(output.sigma_hi.max()))
            step = self.step - len(window) + int(bad[0]) + 1
            raise self._diverged(f"the loss is {float(output.loss)} at step {step}, sigma from {low:.4g} to {high:.4g}")
        if not self.learner.scaler.get_scale() >= 1:
            raise self._diverged(f"the loss scale fell below 1 by step {self.step}: gradients overflow at any scale")
        if not torch.stack(torch._foreach_norm(self.learner.weights, float("inf"))).isfinite().all():
            raise self._diverged(f"a weight is not finite after step {self.step}")
        return float(losses.mean())

    def _diverged(self, what: str) -> FloatingPointError:
        """Say what happened, and from where the training could go on with other settings."""
        newest = checkpoint.newest(self.place) if self.place else None
        left = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
        advice = "a lower learning_rate or precision=fp32 may help, under another name"
        return FloatingPointError(f"{what}: stopped; {left}; {advice}")

    def _metrics(self, num_scales: int, loss: float, measured: dict[str, float]) -> Metrics:
        """Gather what is known after this step."""
        seen, states = self.step * self.run.batch_size, self.optimizer.state.values()
        skipped = self.step - next((int(state["step"]) for state in states), 0)  # no states if all were skipped
        counts = (num_scales, loss, seen, round(self.seconds, 3), skipped, peak_memory())
        return Metrics(self.seed, self.step, *counts, measured)

    def _keep(self, steps_taken: int) -> None:
        """Write checkpoint, metrics and result where they are due."""
        milestone = self.passed(self.run.milestone_every, steps_taken)
        if self.folder:
            if milestone or self.passed(self.run.checkpoint_every, steps_taken):
                checkpoint.save(self.place, self.step, self._state(), milestone)
            self.folder.append(self.last)
        if self.done:
            self._end()

    def _state(self) -> dict[str, Any]:
        """Gather everything that the rest of the training depends on."""
        parts = {name: getattr(self.learner, name).state_dict() for name in PARTS}
        counts = {"step": self.step, "seconds": self.seconds, "last": asdict(self.last)}
        return {"surroundings": self._surroundings, "evaluation": self.folder.evaluation, **counts, **parts}

    def _begin(self, resume: bool) -> None:
        """Take over the newest good checkpoint; all processes the same one."""
        if self.folder:
            with threads_for(self.run, self.device):
                self._surroundings = surroundings(self.device, self.data, self.group.processes)
            state = self.folder.begin(resume, self._surroundings)
        self.group.extremes(0, 0)  # nobody reads before rank 0 has cleared what is not to be read
        state = state if self.folder else checkpoint.load_latest(self.place)
        if state is not None:
            for name in PARTS:
                getattr(self.learner, name).load_state_dict(state[name])
            self.step, self.seconds, self.last = state["step"], state["seconds"], Metrics(**state["last"])
        low, high = self.group.extremes(self.step, self.step)
        if low != high:
            steps = f"{low:.0f} to {high:.0f}"
            raise ValueError(f"the processes go on from steps {steps}: {self.place} must be the same folder for all")
        if self.done:
            if self.folder:  # what was measured at the last step was measured so, whatever is asked now
                self.folder.evaluation = state["evaluation"]
            self._end()

    def _end(self) -> None:
        """Leave the result, unless it is there, and let others write to the folder."""
        if self.folder and not self.folder.finished():
            self.folder.finish(self.last, self.average, self._surroundings)
        self.group.extremes(0, 0)  # nobody leaves before the last file is written
        self.close()
