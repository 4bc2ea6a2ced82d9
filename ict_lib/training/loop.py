"""The training loop, of one process or of each of many: it yields metrics and holds the models; it prints nothing."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ict_lib.config import Run, check_processes
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.group import Alone
from ict_lib.networks.lpips import perceptual
from ict_lib.objective import LossOutput, check_distance
from ict_lib.training import checkpoint
from ict_lib.training.batches import Batches
from ict_lib.training.folder import TrainingFolder
from ict_lib.training.metrics import Metrics
from ict_lib.training.model import arrange, build_model, compile_passes, pick_device, threads_for
from ict_lib.training.precision import multiplying
from ict_lib.training.step import Learner, fit
from ict_lib.training.surroundings import code_hash, commit, device_name, peak_memory, versions


def train(run_config: Run, resume: bool = True, seed: int | None = None, folder: Path | None = None) -> "Training":
    """Prepare one training of a run; iterate over the result to run it.

    Source: [iCT] arXiv:2310.14189; [CT] arXiv:2303.01469, algorithm "consistency training".

    Args:
        run_config: everything that the training needs.
        resume: go on from the newest good checkpoint in the folder, if there is one; the weights then end as if
            nothing had happened. False starts anew.
        seed: of the training; None takes the run's first.
        folder: for checkpoints, metrics, weights and result; None keeps none.

    Returns:
        An iterator of :class:`Metrics` that also holds ``student`` and ``average``, the weights to sample.

    Raises:
        ValueError: if the folder holds a training with other settings, with the difference.
        RuntimeError: if another process trains in the folder.
    """
    return Training(run_config, seed, folder, resume=resume)


class Training(Iterator[Metrics]):
    """A training under way: an iterator of metrics, with the models as they are now.

    Args:
        run: everything that the training needs.
        seed: None takes the run's first.
        folder: for what it leaves; None leaves nothing.
        group: of processes that train together, each with a ``Training`` of its own; None trains alone.
        data: what it trains on; None loads what the run names.
        resume: go on from a checkpoint.
        evaluate: called after the last step of each line of metrics, in all processes, with the training and the number
            of steps since the line before; what it returns becomes part of the line.

    Attributes:
        step: steps taken.
        device: that computes.
        learner: the student, its teacher, its moving average and its optimizer.
        last: the newest metrics; None before the first.

    Raises:
        ValueError: if the processes cannot share the batch equally, or the folder holds other settings.
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
        check_processes(run, self.group.processes)
        self.device, self.evaluate = pick_device(run.device), evaluate
        self.data = (data or load_dataset(run.data)).to(self.device)
        self.learner = self._learner()
        self.batches = Batches(self.data, run, self.seed, self.group, self.device)
        self.step, self.seconds, self.last, self._steps = 0, 0.0, None, None
        self.place = Path(folder) if folder else None
        self.folder = TrainingFolder(self.place, run, self.seed) if folder and self.group.rank == 0 else None
        if folder:
            self._begin(resume)

    @property
    def student(self) -> torch.nn.Module:
        """The model that learns."""
        return self.learner.student

    @property
    def teacher(self) -> torch.nn.Module:
        """The student itself, or CT's moving average of it."""
        return self.learner.teacher

    @property
    def average(self) -> torch.nn.Module:
        """The moving average, which is sampled."""
        return self.learner.average

    def __len__(self) -> int:
        """Return how many records are still to come."""
        done, total, every = self.step, self.run.steps, self.run.log_every
        return -(-total // every) - done // every if done < total else 0

    def __next__(self) -> Metrics:
        """Train until the next record is due."""
        if self.step >= self.run.steps:
            raise StopIteration
        started = time.perf_counter()
        with multiplying(self.run.precision), threads_for(self.run, self.device):
            window = self._window()
            loss = self._mean_loss(window)
            self.seconds += time.perf_counter() - started
            measured = self.evaluate(self, len(window)) if self.evaluate else {}
            self.last = self._metrics(window[-1].num_scales, loss, measured)
            self._keep(len(window))
        return self.last

    def passed(self, every: int | None, steps_taken: int) -> bool:
        """Tell whether a multiple of ``every`` is among the last steps; the end counts as one."""
        return every is not None and (self.step // every > (self.step - steps_taken) // every or self.done)

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step == self.run.steps

    def surroundings(self) -> dict[str, Any]:
        """Say what this training is made with, besides its settings."""
        with threads_for(self.run, self.device):
            made = {"versions": versions(), "device": device_name(self.device), "commit": commit()}
        return {**made, "code": code_hash(), "data_checksum": self.data.checksum(), "processes": self.group.processes}

    def close(self) -> None:
        """Let others write to the folder; does nothing where there is none."""
        if self.folder:
            self.folder.release()

    def _learner(self) -> Learner:
        """Build the models and their optimizer."""
        run, shape = self.run, self.data.shape
        check_distance(run.recipe, shape, self.device, perceptual)
        student = arrange(build_model(run, shape, self.data.num_classes, self.seed).to(self.device))
        learner = Learner(student, run.recipe, run.learning_rate, run.precision, perceptual)
        if run.compile:
            compile_passes(learner.student, learner.teacher)
        return learner

    def _fit(self) -> Iterator[LossOutput]:
        """Take one step after another, from where the training stands."""
        return fit(self.learner, self.batches, self.run.steps, self.run.ema_decay, self.step, self.group)

    def _window(self) -> list[LossOutput]:
        """Train up to the next multiple of ``log_every``, or the end."""
        self._steps, window = self._steps or self._fit(), []
        while not window or not (self.step % self.run.log_every == 0 or self.done):
            window.append(next(self._steps))
            self.step += 1
        return window

    def _mean_loss(self, window: list[LossOutput]) -> float:
        """Average the losses since the last record, and stop if one of them is not a number."""
        losses = torch.stack([output.loss for output in window])
        bad = (~losses.isfinite()).nonzero()
        if len(bad):  # in all processes alike, as the losses are sums over all of them
            output = window[int(bad[0])]
            low, high = self.group.extremes(float(output.sigma_lo.min()), float(output.sigma_hi.max()))
            step = self.step - len(window) + int(bad[0]) + 1
            raise self._diverged(f"the loss is {float(output.loss)} at step {step}, sigma from {low:.4g} to {high:.4g}")
        if not self.learner.scaler.get_scale() >= 1:
            raise self._diverged(f"the loss scale fell below 1 by step {self.step}: gradients overflow at any scale")
        return float(losses.mean())

    def _metrics(self, num_scales: int, loss: float, measured: dict[str, float]) -> Metrics:
        """Gather what is known after this step."""
        seen, states = self.step * self.run.batch_size, self.learner.optimizer.state.values()
        skipped = self.step - next((int(state["step"]) for state in states), 0)  # no states if all were skipped
        counts = (num_scales, loss, seen, round(self.seconds, 3), skipped, peak_memory())
        return Metrics(self.seed, self.step, *counts, measured)

    def _diverged(self, what: str) -> FloatingPointError:
        """Say what happened, and from where the training could go on with other settings."""
        newest = checkpoint.newest(self.place) if self.place else None
        left = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
        return FloatingPointError(f"{what}: stopped; {left}")

    def _keep(self, steps_taken: int) -> None:
        """Write checkpoint, metrics and result where they are due; weights that are not finite are never written."""
        milestone = self.passed(self.run.milestone_every, steps_taken)
        due = milestone or self.passed(self.run.checkpoint_every, steps_taken)
        if due:
            largest = torch.stack(torch._foreach_norm(self.learner.weights, float("inf"))).max()
            if not largest.isfinite():  # in all processes alike, as their weights are
                raise self._diverged(f"a weight is not finite after step {self.step}")
        if self.folder:
            if due:
                checkpoint.save(self.folder.path, self.step, self._state(), milestone)
            self.folder.append(self.last)
        if self.done:
            self._end()

    def _state(self) -> dict[str, Any]:
        """Gather everything that the rest of the training depends on."""
        parts = {name: getattr(self.learner, name).state_dict() for name in PARTS}
        counts = {"step": self.step, "seconds": self.seconds, "last": asdict(self.last)}
        return {"surroundings": self._surroundings, **counts, **parts}

    def _begin(self, resume: bool) -> None:
        """Take over the newest good checkpoint; all processes the same one."""
        state = None
        if self.folder:
            self._surroundings = self.surroundings()
            state = self.folder.begin(resume, self._surroundings)
        self.group.extremes(0, 0)  # nobody reads before rank 0 has cleared what is not to be read
        state = checkpoint.load_latest(self.place) if self.folder is None else state
        if state is not None:
            for name in PARTS:
                getattr(self.learner, name).load_state_dict(state[name])
            self.step, self.seconds, self.last = state["step"], state["seconds"], Metrics(**state["last"])
        low, high = self.group.extremes(self.step, self.step)
        if low != high:
            steps = f"{low:.0f} to {high:.0f}"
            raise ValueError(f"the processes go on from steps {steps}: {self.place} must be the same folder for all")
        if self.done:
            self._end()

    def _end(self) -> None:
        """Leave the result, and let others write to the folder."""
        if self.folder:
            self.folder.finish(self.last, self.average, self._surroundings)
        self.group.extremes(0, 0)  # nobody leaves before the last file is written
        self.close()


PARTS = ("student", "teacher", "average", "optimizer", "scaler")
