"""The training loop, of one process or of each of many: it yields metrics and holds the models; it prints nothing."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.group import Alone
from ict_lib.networks.lpips import perceptual
from ict_lib.objective import LossOutput, check_distance, consistency_training_loss
from ict_lib.run_config import RunConfig
from ict_lib.techniques.teacher import ema_update, follow, follower, make_teacher
from ict_lib.training import checkpoint
from ict_lib.training.memory import peak_memory
from ict_lib.training.metrics import Metrics
from ict_lib.training.model import arrange, build_model, pick_device
from ict_lib.training.precision import loss_scaler, multiplying, passing
from ict_lib.training.shards import Shard, check_processes, draw_shards


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
        group: of processes that train together, each with a ``Training`` of its own; None trains alone.
        data: what it trains on; None loads what the configuration names.

    Attributes:
        config: as given.
        step: steps taken.
        student: the model that learns.
        teacher: the student itself, or CT's moving average of it.
        average: the moving average that is sampled.
        data: what it trains on.
        last: the newest metrics; None before the first.

    Raises:
        ValueError: if the processes cannot share the batch equally.
    """

    def __init__(self, config: RunConfig, resume: bool = True, group: Alone | None = None, data: Dataset | None = None):
        self.config, self.group = config, group or Alone()
        check_processes(config, self.group.processes)
        self.device = pick_device(config.device)
        self.data = (data or load_dataset(config.data)).to(self.device)
        check_distance(config.recipe, self.data.shape, self.device, perceptual)
        self.student = build_model(config, self.data.shape, self.data.num_classes).to(self.device)
        self.average, self.teacher = follower(self.student), make_teacher(self.student, config.recipe)
        arrange({self.student, self.teacher}, self.average, config.compile)
        self.optimizer = torch.optim.RAdam(self.student.parameters(), lr=config.learning_rate, foreach=True)
        self.scaler = loss_scaler(config.precision, self.device)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.step, self.seconds, self.last = 0, 0.0, None
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
            window.append((output.loss, output.sigma_lo, output.sigma_hi))
            if self.step % self.config.log_every == 0 or self.step == self.config.steps:
                break
        loss = self._mean_loss(window)
        self.seconds += time.perf_counter() - started
        self.last = self._metrics(output.num_scales, loss, self._measure_if_due(len(window)))
        self._save_if_due(len(window))
        return self.last

    def _train_step(self) -> LossOutput:
        """Take one step: loss, gradient, RAdam, moving averages."""
        config = self.config
        mine = self._draw(self.generator)
        following = [*mine[1:], self._draw(self.generator.clone_state())[0]]  # a copy's draws: the next step's
        self.optimizer.zero_grad()
        with multiplying(config.precision):
            parts = [self._backward(shard, after) for shard, after in zip(mine, following, strict=True)]
        loss, each, low, high, scales = zip(*parts, strict=True)
        output = LossOutput(sum(loss), torch.cat(each), torch.cat(low), torch.cat(high), scales[0])
        gradients = [p.grad for p in self.student.parameters() if p.grad is not None]
        self.group.add_up([output.loss, *gradients])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        follow(self.teacher, self.student, config.recipe, output.num_scales)
        ema_update(self.average, self.student, config.ema_decay)
        self.step += 1
        return output

    def _draw(self, generator: torch.Generator) -> list[Shard]:
        """Draw the batch of a step, in shards, and take those of this process."""
        return draw_shards(len(self.data), self.config, generator)[self.group.rank :: self.group.processes]

    def _backward(self, shard: Shard, following: Shard) -> LossOutput:
        """Add one shard's part of the gradient, and return what it contributes to the loss."""
        config = self.config
        label = self.data.labels[shard.chosen.to(self.device)] if config.conditional else None
        x = self.data.batch(shard.chosen, self.device, shard.generator)
        models, own = (self.student, self.teacher), shard.generator
        with passing(config.precision, self.device):
            where = (self.step, config.steps)
            output = consistency_training_loss(*models, x, config.recipe, *where, own, label, perceptual)
        self.data.prefetch(following.chosen)  # read from disk while the gradient is computed
        part = output.loss / config.num_shards
        self.scaler.scale(part).backward()
        return output._replace(loss=part.detach())

    def _mean_loss(self, window: list[tuple[Tensor, Tensor, Tensor]]) -> float:
        """Average the losses since the last record, and stop if one of them is not a number."""
        losses = torch.stack([loss for loss, _, _ in window])
        bad = (~losses.isfinite()).nonzero()
        if len(bad):  # in all processes alike, as the losses are sums over all of them
            loss, low, high = window[int(bad[0])]
            low, high = self.group.extremes(float(low.min()), float(high.max()))
            step = self.step - len(window) + int(bad[0]) + 1
            raise self._diverged(f"the loss is {float(loss)} at step {step}, sigma from {low:.4g} to {high:.4g}")
        if not self.scaler.get_scale() >= 1:
            raise self._diverged(f"the loss scale fell below 1 by step {self.step}: gradients overflow at any scale")
        return float(losses.mean())

    def _metrics(self, num_scales: int, loss: float, measured: dict[str, float]) -> Metrics:
        """Gather what is known after this step."""
        seen, seconds = self.step * self.config.batch_size, round(self.seconds, 3)
        taken = next((int(state["step"]) for state in self.optimizer.state.values()), 0)  # none if all were skipped
        counts = (num_scales, loss, seen, seconds, self.step - taken, peak_memory())
        return Metrics(self.config.seed, self.step, *counts, measured)

    def _measure_if_due(self, steps_taken: int) -> dict[str, float]:
        """Measure when ``measuring.every`` was passed, and at the end; all processes together."""
        asked = self.config.measuring
        if asked is None or not self._passed(asked.every, steps_taken):
            return {}
        from ict_lib.training.measuring import measure_together  # torch-fidelity takes a second to load

        return measure_together(self.average, self.data, self.config, self.step, self.group)

    def _passed(self, every: int, steps_taken: int) -> bool:
        """Tell whether a multiple of ``every`` is among the last steps; the end counts as one."""
        return self.step // every > (self.step - steps_taken) // every or self.step == self.config.steps

    def _diverged(self, what: str) -> FloatingPointError:
        """Say what happened, and from where the training could go on with other settings."""
        folder = self.config.folder
        newest = checkpoint.newest(Path(folder)) if folder else None
        left = f"the last good checkpoint is {newest}" if newest else "there is no checkpoint"
        return FloatingPointError(f"{what}: stopped; {left}")

    def _save_if_due(self, steps_taken: int) -> None:
        """Write a checkpoint when ``checkpoint_every`` was passed, and at the end; one with a NaN is not written."""
        config = self.config
        milestone = config.milestone_every is not None and self._passed(config.milestone_every, steps_taken)
        if not config.folder or not (milestone or self._passed(config.checkpoint_every, steps_taken)):
            return
        largest = torch.stack(torch._foreach_norm(list(self.student.parameters()), float("inf"))).max()
        if not largest.isfinite():  # in all processes alike, as their weights are
            raise self._diverged(f"a weight is not finite after step {self.step}")
        if self.group.rank == 0:
            checkpoint.save(Path(config.folder), self.step, self._state(), milestone)

    def _state(self) -> dict[str, Any]:
        """Gather everything that the rest of the training depends on."""
        return {
            "config": checkpoint.identity(self.config),
            "step": self.step,
            "seconds": self.seconds,
            "last": asdict(self.last),
            "student": self.student.state_dict(),
            "teacher": self.teacher.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
        }

    def _resume(self) -> None:
        """Take over the newest good checkpoint; all processes the same one."""
        state = checkpoint.of_run(self.config)
        if state is not None:
            for name in ("student", "teacher", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.generator.set_state(state["generator"])
            self.scaler.load_state_dict(state["scaler"])
            self.step, self.seconds, self.last = state["step"], state["seconds"], Metrics(**state["last"])
        low, high = self.group.extremes(self.step, self.step)
        if low != high:
            raise ValueError(
                f"the processes go on from steps {low:.0f} to {high:.0f}: "
                f"{self.config.folder} must be the same folder for all"
            )
