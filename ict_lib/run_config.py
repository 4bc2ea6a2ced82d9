"""What one training needs, checked without loading torch, so that a mistake is found at once."""

import re
from dataclasses import dataclass, field
from typing import Literal

from ict_lib.checks import check_types, require
from ict_lib.networks.options import check_network_options
from ict_lib.recipe import ICT, Recipe


@dataclass(frozen=True)
class Measuring:
    """What is measured while a training goes on, by all its processes together; the best weights are kept.

    Source: own.

    Attributes:
        every: steps from one measurement to the next; the last step is measured too.
        num_samples: images drawn for each.
        sigma_mid: noise level of the second step.
    """

    every: int
    num_samples: int
    sigma_mid: float


@dataclass(frozen=True)
class RunConfig:
    """Everything that one training needs; the defaults are those of the digits on a laptop.

    Source: own.

    Attributes:
        recipe: the design choices.
        data: the data set.
        network: the raw network.
        network_options: the network's own arguments, such as ``{"width": 256}``.
        conditional: give the network the labels.
        steps: training steps, K.
        batch_size: samples a step.
        micro_batch: samples of a shard, the piece of a batch with randomness of its own that one process works on at a
            time; None takes the whole batch. It decides the random numbers; the number of processes does not.
        learning_rate: of RAdam, constant.
        ema_decay: of the averaged weights that are sampled, a step.
        precision: of the network's passes (:mod:`ict_lib.training.precision`); weights, averages and loss are fp32.
        compile: let ``torch.compile`` make one program of each pass.
        seed: of everything random in the run.
        device: ``auto`` takes an accelerator if there is one; otherwise torch's name of a device.
        log_every: steps from one metrics record to the next.
        checkpoint_every: steps from one checkpoint to the next; needs ``folder``. The last three are kept.
        milestone_every: steps from one checkpoint that is kept for good to the next; None keeps none.
        measuring: what is measured on the way; None measures nothing.
        folder: where checkpoints go; None writes none.

    Raises:
        ValueError: if a value has the wrong type or is out of range, with the rule.
    """

    recipe: Recipe = ICT
    data: Literal["digits", "fashion_mnist", "cifar10", "imagenet64"] = "digits"
    network: Literal["mlp", "small_unet", "ncsnpp", "adm"] = "mlp"
    network_options: dict = field(default_factory=dict)
    conditional: bool = False
    steps: int = 6000
    batch_size: int = 256
    micro_batch: int | None = None
    learning_rate: float = 6e-4
    ema_decay: float = 0.998
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    seed: int = 0
    device: str = "auto"
    log_every: int = 50
    checkpoint_every: int = 1000
    milestone_every: int | None = None
    measuring: Measuring | None = None
    folder: str | None = None

    def __post_init__(self):
        check_types(self)
        for name in ("steps", "batch_size", "learning_rate", "log_every", "checkpoint_every", "milestone_every"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, f"{name} > 0")
        part, whole = self.micro_batch, self.batch_size
        rule = f"a positive divisor of batch_size = {whole}"
        require(part is None or (part > 0 and whole % part == 0), "micro_batch", part, rule)
        check_network_options(self.network, self.network_options)
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 <= ema_decay < 1")
        require(self.seed >= 0, "seed", self.seed, "seed >= 0")
        pattern = r"auto|cpu|(cuda|mps|xpu)(:\d+)?"
        require(
            re.fullmatch(pattern, self.device) is not None,
            "device",
            self.device,
            "auto, cpu, cuda, cuda:0, mps or xpu",
        )

    @property
    def num_shards(self) -> int:
        """Shards a batch."""
        return self.batch_size // (self.micro_batch or self.batch_size)
