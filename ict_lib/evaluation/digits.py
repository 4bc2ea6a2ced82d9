"""Features of the 8x8 digits for Frechet distances: our stand-in for Inception, whose weights lie beside this file.

They are a file, and not trained where they are needed, so that features compare between machines.
``python -m ict_lib.evaluation.digits`` made it: trained on four fifths of the digits, the classifier names 98.6 %
of the other 360 rightly. Features made with other weights compare with nothing that was measured before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ict_lib.checks import require, require_finite
from ict_lib.data import load_dataset
from ict_lib.files import write_atomically

WEIGHTS = Path(__file__).with_name("digits.safetensors")
SEED = 1797
HELD_OUT = 360  # a fifth of the digits is never trained on
BATCH, STEPS, LEARNING_RATE, SMOOTHING = 64, 500, 3e-3, 0.05


class DigitsExtractor(nn.Module):
    """Two convolutions and two linear layers; smooth activations, so that no feature is dead."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(1, 32, 3, padding=1)
        self.coarse = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.feature = nn.Linear(64 * 4 * 4, 64)
        self.logit = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[batch, 1, 8, 8]`` in [-1, 1] to features ``[batch, 64]``, the last hidden layer, and 10 logits."""
        hidden = F.silu(self.coarse(F.silu(self.fine(images))))  # [batch, 64, 4, 4]
        features = F.silu(self.feature(hidden.flatten(1)))
        return features, self.logit(features)


def digits_features(images: Tensor) -> Tensor:
    """Features of digits, float64 ``[num, 64]``, on the CPU, without gradient.

    Args:
        images: floating point, shape ``[num, 1, 8, 8]``; values outside [-1, 1] are clipped.

    Raises:
        ValueError: if the images are not floating point ``[num, 1, 8, 8]``, or not finite.
    """
    fits = images.shape[1:] == (1, 8, 8) and images.is_floating_point()
    require(fits, "digits", [images.dtype, *images.shape], "floating point [n, 1, 8, 8]")
    require_finite("digits", images)
    network = load_extractor()
    with one_thread():
        return torch.cat([network(part)[0] for part in images.detach().cpu().double().clamp(-1, 1).split(4096)])


def load_extractor() -> DigitsExtractor:
    """Read the trained classifier: float64, on the CPU, frozen; no random number is drawn."""
    with torch.device("meta"):
        network = DigitsExtractor()
    network.load_state_dict(load_file(WEIGHTS), assign=True)
    return network.double().eval().requires_grad_(False)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread: sums in one order only, and no waiting for others on so small a network."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train_extractor() -> tuple[DigitsExtractor, float]:
    """Train on four fifths of the digits, in two seconds; return the network, and its accuracy on the rest, 0 to 1."""
    generator, digits = torch.Generator().manual_seed(SEED), load_dataset("digits")
    order = torch.randperm(len(digits), generator=generator)
    train, held_out = order[HELD_OUT:], order[:HELD_OUT]
    with one_thread():
        network = DigitsExtractor()
        for layer in network.children():  # features near 1, on which KID's third power is calm
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        _fit(network, digits.images[train], digits.labels[train], generator)
        guess = network(digits.images[held_out])[1].argmax(dim=1)
    return network, (guess == digits.labels[held_out]).double().mean().item()


def _fit(network: DigitsExtractor, images: Tensor, labels: Tensor, generator: torch.Generator) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (BATCH,), generator=generator)
        loss = F.cross_entropy(network(images[batch])[1], labels[batch], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def main() -> None:
    """Train the classifier and put its weights in the place of those that the library came with."""
    network, accuracy = train_extractor()
    notes = {"made by": "python -m ict_lib.evaluation.digits", "held-out accuracy": str(accuracy)}
    write_atomically(WEIGHTS, save(network.state_dict(), {**notes, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
