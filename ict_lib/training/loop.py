"""The training loop, of one process or of each of many: it yields metrics and holds the models; it prints nothing."""

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from ict_lib.config import Run
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.files import hearing
from ict_lib.group import Alone
from ict_lib.objective import LossOutput
from ict_lib.techniques.teacher import lag
from ict_lib.training import checkpoint
from ict_lib.training.batches import Batches
from ict_lib.training.folder import TrainingFolder, finished
from ict_lib.training.metrics import Metrics, lines_left
from ict_lib.training.model import build_learner, pick_device, threads_for
from ict_lib.training.precision import multiplying
from ict_lib.training.step import Learner, fatal, fit
from ict_lib.training.surroundings import peak_memory, surroundings

MOST_LAG = 0.01  # of a training; CT's was 0.001


def train(run_config: Run, resume: bool = True, seed: int | None = None, folder: Path | None = None) -> "Training":
    """Prepare one training of a run, as :class:`Training` does; iterate over the result to run it."""
    return Training(run_config, seed, folder, resume=resume)


class Training(Iterator[Metrics]):
    """A training under way: an iterator of metrics, with the models as they are now.

    Interrupted at any moment, and made again with the same folder, it goes on from the newest good checkpoint; its
    weights end as if nothing had happened, on a CPU to the last bit. A signal that asks to stop lets it write one after
    the step at hand, without waiting for an evaluation, and raise :class:`~ict_lib.files.Stopped`.

    By default it takes the run's first seed and its data, trains alone and leaves nothing. A folder gets checkpoints,
    metrics, weights and result; without ``resume`` what is there is deleted. In a group of processes each has a
    ``Training`` of its own. ``evaluate`` is called after the last step of each line of metrics, in all processes, with
    the training and the number of steps since the line before; what it returns becomes part of the line.

    ``learner`` holds ``student``, ``teacher``, ``average`` (the weights to sample) and ``optimizer``, which are
    attributes of the training too; ``last`` are the newest metrics, None before the first.

    ``ValueError`` if the processes cannot share the batch equally, or the folder holds a training with other settings,
    or one that is finished and whose checkpoints are gone; ``RuntimeError`` if another process trains in the folder.
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
        self.step, self.seconds, self.last, self._steps, self._writer = 0, 0.0, None, None, checkpoint.Writer()
        self._window: list[LossOutput] = []  # of the steps since the last record
        self._closed = self._interrupted = self._measuring = False
        self.place = Path(folder) if folder else None
        self.folder = TrainingFolder(self.place, run, self.seed) if folder and self.group.rank == 0 else None
        try:
            if folder or self.group.processes > 1:
                self._begin(resume)
        except BaseException:  # its traceback keeps this object, and with it the folder
            self.close()
            raise

    def __len__(self) -> int:
        """Return how many records are still to come."""
        return lines_left(self.run, self.step - len(self._window))

    def __next__(self) -> Metrics:
        """Train until the next record is due."""
        if self._interrupted:  # perhaps in the middle of a step, or before its record was written
            raise RuntimeError(f"interrupted after step {self.step}: make another, which goes on from its checkpoint")
        if self._closed or (self.done and not self._window):
            raise StopIteration
        self._interrupted, started = True, time.perf_counter()
        with hearing(self._ask), multiplying(self.run.precision), threads_for(self.run, self.device):
            self._train()
            loss = self._mean_loss(self._window)
            self.seconds += time.perf_counter() - started
            if self.group.agreed():
                self._stop(together=True)
            measured = self._measure()
            self.last = self._metrics(self._window[-1].num_scales, loss, measured)
            self._keep()
        if self.group.asked and (self.done or self.group.processes == 1):  # meanwhile; many agree at the next step
            self._stop()
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
        try:
            self._writer.wait()
        finally:
            if self.folder:
                self.folder.release()

    def _learner(self) -> Learner:
        """Build the models and their optimizer."""
        run, behind = self.run, lag(self.run.recipe, self.run.steps)
        if behind > MOST_LAG * run.steps and self.group.rank == 0:
            share = f"{behind:.0f} steps at the end, {behind / run.steps:.2g} of this run"
            warnings.warn(f"the EMA teacher lags {share}: a lower mu0 suits so short a run", stacklevel=2)
        return build_learner(run, self.data.shape, self.data.num_classes, self.seed, self.device)

    def _train(self) -> None:
        """Train up to the next multiple of ``log_every``, or the end, or the step after which all stop."""
        run, group = self.run, self.group
        self._steps = self._steps or fit(self.learner, self.batches, run.steps, run.ema_decay, self.step, group)
        while not (self._window and (self.step % run.log_every == 0 or self.done or group.agreed())):
            self._window.append(next(self._steps))
            self.step += 1

    def _ask(self, number: int) -> None:
        """Note the signal that asks to stop; interrupt an evaluation, and whatever it is at a second Ctrl-C."""
        again, self.group.asked = self.group.asked == number == signal.SIGINT, number
        if again or self._measuring:
            raise KeyboardInterrupt

    def _measure(self) -> dict[str, float]:
        """Evaluate; whatever keeps that from its end, the steps before it are kept."""
        try:
            self._measuring = self.group.rank == 0  # the others end when it has gone
            if self._measuring and self.group.asked:
                raise KeyboardInterrupt
            return self.evaluate(self, len(self._window)) if self.evaluate else {}
        except BaseException:
            self._measuring = False
            if self.group.asked:
                self._stop()
            self._save()
            self._writer.wait()  # before others hear of it, and end this process
            raise
        finally:
            self._measuring = False

    def _stop(self, together: bool = False) -> None:
        """Write a checkpoint, let others write to the folder, and say where it stopped."""
        self._save(together=together)
        self.close()
        if together:
            self.group.extremes(0, 0)  # nobody leaves before it is written
        raise checkpoint.stopped(self.place, self.group.asked or signal.SIGTERM) from None

    def _mean_loss(self, window: list[LossOutput]) -> float:
        """Average the losses since the last record; stop where :func:`fatal` says so, or if a weight is no number.

        All processes stop alike, as the losses are sums over all of them and their weights are equal.
        """
        losses = torch.stack([output.loss.to(self.device) for output in window])
        bad, what = fatal(losses, self.learner.scaler.is_enabled()), ""
        if bad is not None:
            output = window[bad]
            low, high = self.group.extremes(float(output.sigma_lo.min()), float(output.sigma_hi.max()))
            step = self.step - len(window) + bad + 1
            what = f"the loss is {float(output.loss)} at step {step}, sigma from {low:.4g} to {high:.4g}"
        elif not self.learner.scaler.get_scale() >= 1:
            what = f"the loss scale fell below 1 by step {self.step}: gradients overflow at any scale"
        elif not sum(weight.detach().sum() for weight in self.learner.weights).isfinite():  # quicker than the largest
            what = f"a weight is not finite after step {self.step}"
        if what:
            raise checkpoint.diverged(self.place, what)
        return float(losses[losses.isfinite()].mean())

    def _metrics(self, num_scales: int, loss: float, measured: dict[str, float]) -> Metrics:
        """Gather what is known after this step."""
        seen, states = self.step * self.run.batch_size, self.optimizer.state.values()
        skipped = self.step - next((int(state["step"]) for state in states), 0)  # no states if all were skipped
        counts = (num_scales, loss, seen, round(self.seconds, 3), skipped, peak_memory())
        return Metrics(self.seed, self.step, *counts, measured)

    def _keep(self) -> None:
        """Write checkpoint, metrics and result where they are due."""
        steps_taken, self._window = len(self._window), []
        milestone = self.passed(self.run.milestone_every, steps_taken)
        if milestone or self.passed(self.run.checkpoint_every, steps_taken):
            self._save(milestone, together=True)
        if self.folder:
            self.folder.append(self.last)
        if self.done:
            self._end()

    def _state(self) -> dict:
        """Gather everything that the rest of the training depends on."""
        state = {"step": self.step, "seconds": self.seconds, "last": self.last and asdict(self.last)}
        return self.learner.state() | state | {"window": [tuple(output) for output in self._window]}

    def _save(self, milestone: bool = False, together: bool = False) -> None:
        """Write a checkpoint, of what all processes have if they are here together."""
        if together:
            self.learner.compare(self.group)
        if self.folder and not self._closed:
            made = {"surroundings": self._surroundings, "evaluation": self.folder.evaluation}
            self._writer.save(self.place, self.step, self._state() | made, milestone)

    def _begin(self, resume: bool) -> None:
        """Take over the newest good checkpoint, or what was built: all processes what rank 0 has."""
        state = None
        if self.folder:
            with threads_for(self.run, self.device):
                self._surroundings = surroundings(self.device, self.data, self.group.processes)
            state = self.folder.begin(resume, self._surroundings)
        state = self.group.share(state or self._state())
        self.learner.load(state)
        self.step, self.seconds, last = state["step"], state["seconds"], state["last"]
        self.last, self._window = last and Metrics(**last), [LossOutput(*one) for one in state.get("window", ())]
        if self.done and not self._window:
            if self.folder:  # what was measured at the last step was measured so, whatever is asked now
                self.folder.evaluation = state["evaluation"]
            self._end()

    def _end(self) -> None:
        """Leave the result, unless it is there, and let others write to the folder."""
        if self.folder and not finished(self.place, self.folder.identity):
            self.folder.finish(self.last, self.average, self._surroundings)
        self.close()
        self.group.extremes(0, 0)  # nobody leaves before the last file is written
