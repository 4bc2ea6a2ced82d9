"""Small classifiers whose features measure small images in Inception's place; their weights lie beside this file.

They are files, and not trained where they are needed, so that features compare between machines.
``python -m ict_lib.evaluation.extractor NAME`` made each, on nine tenths of a data set (of the digits four fifths): of
images that it never saw ``digits`` names 98.6 % rightly, ``fashion_mnist`` 92.1 %. Features made with other weights
compare with nothing that was measured before.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ict_lib.checks import require, require_finite, require_known
from ict_lib.data import DATASETS, load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.files import write_atomically

FOLDER = Path(__file__).parent
HELD_OUT = {"digits": 360, "fashion_mnist": 6000}  # data set -> images that are never trained on
STEPS = {"digits": 500, "fashion_mnist": 8000}
SEED, BATCH, LEARNING_RATE, SMOOTHING = 1797, 64, 3e-3, 0.05


class Extractor(nn.Module):
    """Convolutions down to 4x4, and two linear layers; smooth activations, so that no feature is dead.

    Height and width of the images are a multiple of 8; those of 16 or more are halved at once.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        stride = min(2, size // 8)
        self.fine = nn.Conv2d(1, 32, 2 * stride + 1, padding=stride, stride=stride)
        halvings = (size // stride).bit_length() - 4  # down to 8x8
        self.middle = nn.ModuleList(nn.Conv2d(32, 32, 3, padding=1, stride=2) for _ in range(halvings))
        self.coarse = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.feature = nn.Linear(64 * 4 * 4, 64)
        self.logit = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``[batch, 1, size, size]`` in [-1, 1] to features ``[batch, 64]``, the last hidden layer, and logits.

        Another shape is a ValueError.
        """
        fits = images.shape[1:] == (1, self.size, self.size)
        require(fits, "images", list(images.shape), f"[n, 1, {self.size}, {self.size}]")
        hidden = images
        for layer in (self.fine, *self.middle, self.coarse):
            hidden = F.silu(layer(hidden))
        features = F.silu(self.feature(hidden.flatten(1)))
        return features, self.logit(features)


def weights_of(name: str) -> Path:
    """Return the file of the weights of one classifier."""
    return FOLDER / f"{name}.safetensors"


def features_of(images: Tensor, name: str = "digits") -> Tensor:
    """Features of small images by the classifier of a data set: float64 ``[num, 64]``, on the CPU, without gradient.

    Images are floating point, shaped as those of the data set; values outside [-1, 1] are clipped. Others, values that
    are not finite, and a name without a classifier are a ValueError.
    """
    require_known("extractor", name, HELD_OUT)
    require(images.is_floating_point(), "images", images.dtype, "floating point")
    require_finite("images", images)
    network = load_extractor(name)
    with one_thread():
        return torch.cat([network(part)[0] for part in images.detach().cpu().double().clamp(-1, 1).split(4096)])


def load_extractor(name: str) -> Extractor:
    """Read a trained classifier: float64, on the CPU, frozen; no random number is drawn."""
    with torch.device("meta"):
        network = Extractor(DATASETS[name].shape[1])
    network.load_state_dict(load_file(weights_of(name)), assign=True)
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


def train_extractor(name: str) -> tuple[Extractor, float]:
    """Train, of the digits in two seconds; return the network, and its accuracy on what is held out, 0 to 1."""
    generator, data = torch.Generator().manual_seed(SEED), load_dataset(name)
    order = torch.randperm(len(data), generator=generator)
    train, held_out = order[HELD_OUT[name] :], order[: HELD_OUT[name]]
    with one_thread():
        network = Extractor(data.shape[1])
        for layer in filter(lambda one: hasattr(one, "weight"), network.modules()):
            # features near 1, on which KID's third power is calm
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        _fit(network, data, train, STEPS[name], generator)
        guess = network(data.batch(held_out))[1].argmax(dim=1)
    return network, (guess == data.labels[held_out]).double().mean().item()


def _fit(network: Extractor, data: Dataset, train: Tensor, steps: int, generator: torch.Generator) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        batch = train[torch.randint(len(train), (BATCH,), generator=generator)]
        loss = F.cross_entropy(network(data.batch(batch))[1], data.labels[batch], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def main(name: str) -> None:
    """Train a classifier and put its weights in the place of those that the library came with."""
    network, accuracy = train_extractor(name)
    notes = {"made by": f"python -m ict_lib.evaluation.extractor {name}", "held-out accuracy": str(accuracy)}
    write_atomically(weights_of(name), save(network.state_dict(), {**notes, "torch": torch.__version__}))


if __name__ == "__main__":
    main(sys.argv[1])
