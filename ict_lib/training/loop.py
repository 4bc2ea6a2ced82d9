"""The training loop: it yields metrics and holds the models; it prints nothing."""

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import load_dataset
from ict_lib.networks import build_network
from ict_lib.objective import LossOutput, consistency_training_loss
from ict_lib.recipe import difference, num_scales_at
from ict_lib.run_config import RunConfig
from ict_lib.techniques.teacher import ema_decay
from ict_lib.training import checkpoint
from ict_lib.training.ema import ema_update


@dataclass(frozen=True)
class Metrics:
    """What is known of a training after some step.

    Attributes:
        seed: of the training.
        step: steps taken.
        num_scales: N at that step.
        loss: mean over the steps since the record before.
        images_seen: samples used, all steps together.
        seconds: training time so far, without evaluation and without what was lost to an interruption.
    """

    seed: int
    step: int
    num_scales: int
    loss: float
    images_seen: int
    seconds: float


def train(run_config: RunConfig, resume: bool = True) -> "Training":
    """Prepare a training; iterate over the result to run it.

    Source: [iCT] arXiv:2310.14189; [CT] arXiv:2303.01469, algorithm "consistency training".

    Args:
        run_config: everything that the training needs.
        resume: go on from the newest good checkpoint in ``run_config.folder``, if there is one; the weights then end
            as if nothing had happened. False starts anew.

    Returns:
        An iterator of :class:`Metrics` that also holds ``student`` and ``average``, the weights to sample.

    Raises:
        ValueError: if the checkpoint belongs to another configuration, with the difference.
    """
    return Training(run_config, resume)


class Training(Iterator[Metrics]):
    """A training under way: an iterator of metrics, with the models as they are now.

    Source: own.

    Args:
        config: everything that the training needs.
        resume: go on from a checkpoint.

    Attributes:
        config: as given.
        step: steps taken.
        student: the model that learns.
        teacher: the student itself, or CT's moving average of it.
        average: the moving average that is sampled.
        data: what it trains on.
    """

    def __init__(self, config: RunConfig, resume: bool = True):
        self.config = config
        self.device = pick_device(config.device)
        self.data = load_dataset(config.data).to(self.device)
        self.student = build_model(config, self.data.shape, self.data.num_classes).to(self.device)
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        own = config.recipe.teacher == "ema"
        self.teacher = copy.deepcopy(self.student).requires_grad_(False) if own else self.student
        self.optimizer = torch.optim.RAdam(self.student.parameters(), lr=config.learning_rate, foreach=True)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step, self.seconds = 0, 0.0
        if resume and config.folder:
            self._resume()

    def __len__(self) -> int:
        """Return how many records are still to come."""
        done, total, every = self.step, self.config.steps, self.config.log_every
        return -(-total // every) - done // every if done < total else 0

    def __next__(self) -> Metrics:
        """Train until the next record is due."""
        if self.step >= self.config.steps:
            raise StopIteration
        started, window = time.perf_counter(), []
        while True:
            output = self._train_step()
            window.append((output.loss.detach(), output.sigma_lo, output.sigma_hi))
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                break
        loss = self._mean_loss(window)
        self.seconds += time.perf_counter() - started
        self._save_if_due(len(window))
        seen = self.step * self.config.batch_size
        return Metrics(self.config.seed, self.step, output.num_scales, loss, seen, round(self.seconds, 3))

    def _train_step(self) -> LossOutput:
        """Take one step: loss, gradient, RAdam, moving averages."""
        config, recipe = self.config, self.config.recipe
        chosen = self._choose(self.generator)
        label = self.data.labels[chosen.to(self.device)] if config.conditional else None
        output = consistency_training_loss(
            self.student,
            self.teacher,
            self.data.batch(chosen, self.device, self.generator),
            recipe,
            self.step,
            config.steps,
            self.generator,
            label,
        )
        self.data.prefetch(self._choose(self.generator.clone_state()))  # a copy's draws: the next step's, unchanged
        self.optimizer.zero_grad()
        output.loss.backward()
        self.optimizer.step()
        if self.teacher is not self.student:
            start = num_scales_at(recipe, 0, config.steps)
            ema_update(self.teacher, self.student, ema_decay(output.num_scales, start, recipe.mu0))
        ema_update(self.average, self.student, config.ema_decay)
        self.step += 1
        return output

    def _choose(self, generator: torch.Generator) -> Tensor:
        """Draw the indices of a batch."""
        return torch.randint(len(self.data), (self.config.batch_size,), generator=generator)

    def _mean_loss(self, window: list[tuple[Tensor, Tensor, Tensor]]) -> float:
        """Average the losses since the last record, and stop if one of them is not a number."""
        losses = torch.stack([loss for loss, _, _ in window])
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            loss, low, high = window[int(bad[0])]
            loss, low, high = float(loss), float(low.min()), float(high.max())
            step = self.step - len(window) + int(bad[0]) + 1
            raise FloatingPointError(f"the loss is {loss} at step {step}, sigma from {low:.4g} to {high:.4g}: stopped")
        return float(losses.mean())

    def _save_if_due(self, steps_taken: int) -> None:
        """Write a checkpoint when ``checkpoint_every`` was passed, and at the end."""
        every = self.config.checkpoint_every
        passed = self.step // every > (self.step - steps_taken) // every
        if self.config.folder and (passed or self.step == self.config.steps):
            checkpoint.save(Path(self.config.folder), self.step, self._state())

    def _state(self) -> dict[str, Any]:
        """Gather everything that the rest of the training depends on."""
        return {
            "config": _identity(self.config),
            "step": self.step,
            "seconds": self.seconds,
            "student": self.student.state_dict(),
            "teacher": self.teacher.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def _resume(self) -> None:
        """Take over the newest good checkpoint."""
        state = checkpoint.load_latest(Path(self.config.folder))
        if state is None:
            return
        changed = difference(state["config"], _identity(self.config))
        if changed:
            raise ValueError(
                f"the checkpoint in {self.config.folder} was made with other settings ({changed}): "
                "restore them, choose another name, or start anew with resume=False"
            )
        for name in ("student", "teacher", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.step, self.seconds = state["step"], state["seconds"]


def build_model(config: RunConfig, shape: tuple[int, ...], num_classes: int) -> ConsistencyModel:
    """Build the model that a run's configuration names, with weights that its seed decides.

    Source: own.

    Args:
        config: of the run.
        shape: of one sample.
        num_classes: of the data; used if the run is conditional.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: if the network refuses an option.
    """
    recipe = config.recipe
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        classes = num_classes if config.conditional else 0
        network = build_network(config.network, shape, recipe, classes, config.network_options)
    return ConsistencyModel(network, recipe.sigma_data, recipe.sigma_min)


def pick_device(name: str) -> torch.device:
    """Turn ``auto`` into the accelerator of this machine, or the CPU.

    Source: own.

    Args:
        name: ``auto`` or torch's name of a device.

    Returns:
        The device.
    """
    if name != "auto":
        return torch.device(name)
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")


def _identity(config: RunConfig) -> dict[str, Any]:
    """Everything that decides the weights: not where they are kept, nor how often they are shown."""
    harmless = ("folder", "checkpoint_every", "log_every", "device")
    return {name: value for name, value in asdict(config).items() if name not in harmless}
