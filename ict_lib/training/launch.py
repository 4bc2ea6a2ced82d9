"""Training with many processes, from a notebook or anywhere else: metrics arrive as from one process."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ict_lib.networks.lpips import vgg16_weights
from ict_lib.run_config import RunConfig
from ict_lib.training.model import pick_device
from ict_lib.training.shards import check_processes

if TYPE_CHECKING:
    from ict_lib.training.launched import Launched


def launch(
    run_config: RunConfig,
    processes: int = 2,
    nodes: int = 1,
    node_rank: int = 0,
    rendezvous: str = "127.0.0.1:0",
    resume: bool = True,
    max_restarts: int = 3,
    work: Callable[[RunConfig], None] | None = None,
) -> "Launched":
    """Prepare a training with many processes; iterate over the result to run it.

    On CPUs they exchange with gloo, on CUDA devices with NCCL, one process a device. A process that is killed is
    started once more, and all go on from the newest checkpoint. On several nodes call this on each, with one
    ``run_config`` whose folder all of them see.

    Source: own; torch elastic starts and restarts the processes.

    Args:
        run_config: everything that the training needs, with a ``folder``.
        processes: of each node.
        nodes: machines.
        node_rank: which of them this is.
        rendezvous: ``host:port`` of node 0; port 0 takes a free one, on a single node.
        resume: go on from the newest good checkpoint; False deletes what is there.
        max_restarts: how often processes may be lost.
        work: what each process does, a function of a module; None trains (:func:`ict_lib.training.worker.work`).

    Returns:
        An iterator of :class:`~ict_lib.training.metrics.Metrics` that also gives the weights.

    Raises:
        ValueError: if the processes cannot share the batch equally, something is missing for them, or the checkpoint
            belongs to another configuration.
        RuntimeError: if the distance is LPIPS, and VGG16's weights are neither on this machine nor to be had.
    """
    check_processes(run_config, processes * nodes)
    _check_place(run_config, processes, nodes, node_rank, rendezvous)
    if run_config.recipe.distance == "lpips":
        vgg16_weights()  # one download, not one a process
    from ict_lib.training import worker  # only many processes need torch.distributed
    from ict_lib.training.launched import Launched

    work = work or worker.work
    return Launched(
        worker.Job(run_config, processes, nodes, node_rank, rendezvous, max_restarts, work, os.getpid()), resume
    )


def _check_place(config: RunConfig, processes: int, nodes: int, node_rank: int, rendezvous: str) -> None:
    """Refuse what cannot work, before a process is started."""
    if config.folder is None:
        raise ValueError("folder is None: many processes need one, for checkpoints and metrics")
    if not 0 <= node_rank < nodes:
        raise ValueError(f"node_rank is {node_rank}: 0 <= node_rank < nodes = {nodes} is needed")
    if nodes > 1 and rendezvous.endswith(":0"):
        raise ValueError(f"rendezvous is {rendezvous!r}: {nodes} nodes need the host and port of node 0")
    kind, exact = pick_device(config.device).type, ":" in config.device
    if kind not in ("cpu", "cuda") or exact:
        raise ValueError(f"device is {config.device!r}: many processes need cpu or cuda, without a number")
    if kind == "cuda" and processes > torch.cuda.device_count():
        raise ValueError(f"processes is {processes}: this node has {torch.cuda.device_count()} CUDA devices")
