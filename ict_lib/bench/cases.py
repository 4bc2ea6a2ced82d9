"""Which cases there are: on a CPU, and at the paper's size on a GPU."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ict_lib.bench import measures
from ict_lib.checks import require
from ict_lib.run_config import RunConfig


@dataclass(frozen=True)
class Case:
    """One measurement.

    Source: own.

    Attributes:
        name: such as ``ncsnpp/bf16/compile``.
        measure: a function of :mod:`ict_lib.bench.measures`.
        arguments: of the function.
        about: plain values that the record gives besides what is measured.
    """

    name: str
    measure: Callable[..., dict[str, Any]]
    arguments: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """A network as a case measures it.

    Source: own.

    Attributes:
        data: whose form its images have.
        batch: images a step.
        samples: images that are drawn at a time; 0 for no sampling.
        conditional: with labels.
        options: the network's own arguments.
        every: steps that are timed together.
    """

    data: str
    batch: int
    samples: int = 0
    conditional: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    every: int = 1


# Batches are the share of one GPU: of the paper's 1024 among 4, of its 4096 among 64.
PAPER = {
    "ncsnpp": Network("cifar10", 256, 1024, every=2),
    "adm": Network("imagenet64", 64, 256, conditional=True, every=2),
}
PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


def gpu_cases(
    networks: dict[str, Network] = PAPER, device: str = "cuda", size: int = 8192, images: int = 20_000
) -> list[Case]:
    """Lay out the cases of a GPU: what is quick first, what is compiled last.

    Source: own.

    Args:
        networks: to measure in each precision, compiled and not.
        device: that is measured; the tests put small networks on a CPU.
        size: of the matrices that give the ceiling.
        images: in the file that is loaded from.

    Returns:
        The cases, in the order in which they are measured.
    """
    case = partial(_training, device=device)
    plain = [case(name, sizes, precision) for name, sizes in networks.items() for precision in PRECISIONS]
    mixed_first = ("bf16", "tf32", "fp16", "fp32")
    compiled = [case(name, sizes, precision, True) for precision in mixed_first for name, sizes in networks.items()]
    return [_ceilings(device, PRECISIONS, size), *plain, _loading(device, images, 256), *compiled]


def cpu_cases() -> list[Case]:
    """Lay out the cases of a CPU: small networks, two processes, and the cost of a step of the paper's NCSN++.

    Source: own.

    Returns:
        The cases, in the order in which they are measured.
    """
    case = partial(_training, device="cpu")
    mlp, unet = Network("digits", 256, 1024), Network("digits", 256, 256)
    return [
        _ceilings("cpu", ("fp32", "bf16"), 1024),
        case("mlp", mlp, "fp32"),
        case("small_unet", unet, "fp32"),
        _processes(),
        _loading("cpu", 4096, 256),
        case("mlp", mlp, "bf16"),
        case("ncsnpp", Network("cifar10", 4), "fp32"),
        case("mlp", mlp, "fp32", True),
        case("small_unet", unet, "fp32", True),  # last: it takes minutes to compile on a busy machine
    ]


def chosen(cases: list[Case], words: list[str]) -> list[Case]:
    """Choose cases by parts of their names.

    Source: own.

    Args:
        cases: all.
        words: such as ``["ceiling", "adm/bf16"]``; a case is chosen if its name holds one of them. None chooses all.

    Returns:
        The chosen cases.

    Raises:
        ValueError: if a word chooses nothing, with the names that there are.
    """
    names = [case.name for case in cases]
    for word in words:
        require(any(word in name for name in names), "case", word, f"a part of one of {', '.join(names)}")
    return [case for case in cases if not words or any(word in case.name for word in words)]


def _training(
    name: str, sizes: Network, precision: str, compiled: bool = False, device: str = "cpu", seconds: float = 6.0
) -> Case:
    """Lay out the training of one network."""
    config = RunConfig(
        data=sizes.data,
        network=name,
        network_options=sizes.options,
        conditional=sizes.conditional,
        batch_size=sizes.batch,
        precision=precision,
        compile=compiled,
        device=device,
        log_every=sizes.every,
    )
    about = {"network": name, "precision": precision, "compile": compiled, "batch_size": sizes.batch}
    samples = 0 if compiled else sizes.samples  # sampling is not compiled
    title = f"{name}/{precision}" + "/compile" * compiled
    return Case(title, measures.training, {"config": config, "samples": samples, "seconds": seconds}, about)


def _ceilings(device: str, precisions: tuple[str, ...], size: int) -> Case:
    arguments = {"device": device, "precisions": list(precisions), "size": size}
    return Case("ceiling", measures.ceilings, arguments, {"size": size})


def _loading(device: str, images: int, batch: int) -> Case:
    arguments = {"form": "imagenet64", "num": images, "batch": batch, "device": device}
    return Case("loading", measures.loading, arguments, arguments)


def _processes() -> Case:
    config = RunConfig(network="small_unet", batch_size=256, micro_batch=128, steps=16, log_every=2, device="cpu")
    about = {"network": config.network, "batch_size": config.batch_size, "threads": 1}
    return Case("processes", measures.processes, {"config": config}, about)
