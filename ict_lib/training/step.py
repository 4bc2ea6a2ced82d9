"""The training step, and the loop around it: plain functions, for a chapter's toy as for ImageNet on many devices."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ict_lib.group import Alone
from ict_lib.objective import LossOutput, consistency_training_loss
from ict_lib.recipe import Recipe
from ict_lib.techniques.teacher import ema_update, follow, follower, make_teacher
from ict_lib.training.precision import loss_scaler, passing

PARTS = ("student", "teacher", "average", "optimizer", "scaler")  # of a learner, in a checkpoint
MOST_LOST = 10  # steps in a row, in fp16, that are skipped because their loss is not finite


class Shard(NamedTuple):
    """A piece of a batch, which one process works on at a time."""

    x: Tensor  # clean samples, shape ``[shard, ...]``, data units
    label: Tensor | None  # class of each, shape ``[shard]``, or None
    generator: torch.Generator  # of its noise levels, noise and dropout mask, on the CPU
    share: float = 1.0  # of the batch, from 0 to 1


@dataclass
class Learner:
    """All that a training step changes, and how its passes compute."""

    student: nn.Module
    recipe: Recipe
    learning_rate: float = 6e-4  # of RAdam
    precision: str = "fp32"
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None  # LPIPS's network, for a recipe that asks for it
    teacher: nn.Module = field(init=False)  # the student itself, or CT's moving average of it
    average: nn.Module = field(init=False)  # the moving average that is sampled

    def __post_init__(self):
        self.teacher, self.average = make_teacher(self.student, self.recipe), follower(self.student)
        self.weights = list(self.student.parameters())
        self.optimizer = torch.optim.RAdam(self.weights, lr=self.learning_rate, foreach=True)
        self.scaler = loss_scaler(self.precision, self.weights[0].device)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, as plain values and tensors; none is a copy."""
        shared = {"teacher"} if self.teacher is self.student else set()
        return {name: getattr(self, name).state_dict() for name in PARTS if name not in shared}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        for name in PARTS:
            if name in state:
                getattr(self, name).load_state_dict(state[name])

    def compare(self, group: Alone) -> None:
        """Compare the weights of all processes by a checksum: equal at first, they stay so unless a device fails.

        If a bit differs, all of them raise ``RuntimeError``.
        """
        models = self.student, self.teacher, self.average
        values = [value for model in models for value in model.state_dict().values()]
        sums = torch.stack([value.float().view(torch.int32).sum(dtype=torch.int64) for value in values])
        low, high = group.extremes(*2 * [int(sums.sum()) % 2**52])  # exact as a float
        if low != high:
            raise RuntimeError(f"the processes differ in their weights: checksums from {low:.0f} to {high:.0f}")


def training_step(
    learner: Learner,
    shards: Iterable[Shard],
    step: int,
    total_steps: int,
    ema_decay: float,
    group: Alone,
) -> LossOutput:
    """Take one step: loss, gradient, RAdam, and the averages that follow.

    Source: [CT] arXiv:2303.01469, algorithm "consistency training"; [iCT] arXiv:2310.14189.

    Args:
        learner: changed in place.
        shards: of this process; those of all processes of the group together make the batch.
        step: steps taken so far.
        total_steps: K.
        ema_decay: of the average that is sampled.
        group: of processes that train together.

    Returns:
        The loss of the whole batch, and what this process contributed to it.
    """
    learner.optimizer.zero_grad()
    output = _together([_backward(learner, shard, step, total_steps) for shard in shards])
    gradients = [weight.grad for weight in learner.weights if weight.grad is not None]
    group.add_up([output.loss, *gradients])
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    follow(learner.teacher, learner.student, learner.recipe, output.num_scales)
    ema_update(learner.average, learner.student, ema_decay)
    return output


def _backward(learner: Learner, shard: Shard, step: int, total_steps: int) -> LossOutput:
    """Add one shard's part of the gradient, and return what it contributes to the loss."""
    x, label, generator, share = shard
    with passing(learner.precision, x.device):
        output = consistency_training_loss(
            learner.student, learner.teacher, x, learner.recipe, step, total_steps, generator, label, learner.perceptual
        )
    part = output.loss * share
    learner.scaler.scale(part).backward()
    return output._replace(loss=part.detach())


def _together(parts: list[LossOutput]) -> LossOutput:
    """Put the parts of one process together."""
    loss, each, low, high, scales = zip(*parts, strict=True)
    return LossOutput(sum(loss), torch.cat(each), torch.cat(low), torch.cat(high), scales[0])


def fatal(losses: Tensor, scaled: bool) -> int | None:
    """Find the loss ``[steps]`` at which a training must stop: the first that is not finite; None if there is none.

    Where they are ``scaled``, as in fp16, the scaler has skipped such steps: it is the last of ``MOST_LOST`` in a row,
    or of all.
    """
    lost, row = (~losses.isfinite()).tolist(), min(MOST_LOST, len(losses)) if scaled else 1
    return next((end - 1 for end in range(row, len(lost) + 1) if all(lost[end - row : end])), None)


def fit(
    learner: Learner,
    draw: Callable[[int], Iterable[Shard]],
    total_steps: int,
    ema_decay: float = 0.998,
    start: int = 0,
    group: Alone | None = None,
) -> Iterator[LossOutput]:
    """Train, a step at a time, on the shards that ``draw`` gives for each; ``start`` steps were taken before.

    What :func:`training_step` returns is yielded.
    """
    for step in range(start, total_steps):
        yield training_step(learner, draw(step), step, total_steps, ema_decay, group or Alone())
