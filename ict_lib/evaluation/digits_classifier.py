"""A small classifier of the 8x8 digits, trained here in two seconds, the same bit for bit every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ict_lib.data import load_dataset

SEED = 1797
HELD_OUT = 360  # a fifth of the digits is never trained on
BATCH, STEPS, LEARNING_RATE, SMOOTHING = 64, 500, 3e-3, 0.05


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A classifier and how good it is.

    Source: own.

    Attributes:
        network: the classifier, in ``eval`` mode, on the CPU, without gradients.
        accuracy: share of the held-out digits that it names rightly, 0 to 1.
    """

    network: "DigitsClassifier"
    accuracy: float


class DigitsClassifier(nn.Module):
    """Two convolutions and two linear layers; smooth activations, so that no feature is dead.

    Source: own.
    """

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(1, 32, 3, padding=1)
        self.coarse = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.feature = nn.Linear(64 * 4 * 4, 64)
        self.logit = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits of digits.

        Args:
            images: shape ``[batch, 1, 8, 8]``, in [-1, 1].

        Returns:
            Features ``[batch, 64]`` (the last hidden layer) and logits ``[batch, 10]``.
        """
        hidden = F.silu(self.coarse(F.silu(self.fine(images))))  # [batch, 64, 4, 4]
        features = F.silu(self.feature(hidden.flatten(1)))
        return features, self.logit(features)


def empty_classifier() -> DigitsClassifier:
    """A classifier with undefined weights, built without a draw from the global random state."""
    with torch.device("meta"):
        network = DigitsClassifier().to(torch.float32)
    return network.to_empty(device="cpu")


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums in one order only, and no waiting for others on so small a network.

    The caller's number of threads comes back at the end.

    Source: own.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_classifier() -> TrainedClassifier:
    """Train on four fifths of the digits, and measure on the rest.

    Deterministic: own generator, one thread, deterministic algorithms. The caller's random state, threads and
    gradient mode are left as they were.

    Source: own.

    Returns:
        The classifier and its held-out accuracy, about 0.98.
    """
    with one_thread(), _deterministic_algorithms(), torch.inference_mode(False), torch.enable_grad():
        generator = torch.Generator().manual_seed(SEED)
        digits = load_dataset("digits")
        order = torch.randperm(len(digits), generator=generator, device="cpu")
        train, held_out = order[HELD_OUT:], order[:HELD_OUT]
        network = _initialise(empty_classifier(), generator)
        _fit(network, digits.images[train], digits.labels[train], generator)
        network.eval().requires_grad_(False)
        guess = network(digits.images[held_out])[1].argmax(dim=1)
        accuracy = (guess == digits.labels[held_out]).double().mean().item()
    return TrainedClassifier(network, accuracy)


def _initialise(network: DigitsClassifier, generator: torch.Generator) -> DigitsClassifier:
    """Normal weights of variance 2 / fan-in, zero biases, all from one generator."""
    with torch.no_grad():
        for weights in network.parameters():
            if weights.ndim > 1:
                weights.normal_(std=(2 / weights[0].numel()) ** 0.5, generator=generator)
            else:
                weights.zero_()
    return network


def _fit(network: DigitsClassifier, images: Tensor, labels: Tensor, generator: torch.Generator) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (BATCH,), generator=generator, device="cpu")
        loss = F.cross_entropy(network(images[batch])[1], labels[batch], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    """Only algorithms that give the same every time; the caller's setting comes back at the end."""
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
