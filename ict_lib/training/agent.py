"""The process between a caller and the workers: it starts them with torch elastic and never outlives the caller.

A process of its own, because torch elastic blocks, and because it handles signals, which only a main thread may.
"""

import contextlib
import os
import pickle
import signal
import sys
import time
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ict_lib.training import lock
from ict_lib.training.worker import FAILURE, PATIENCE, Job, report, watch

WAIT = int(PATIENCE.total_seconds())  # of a node for the first one, which measures before it starts the next training


def main() -> None:
    """Read a job from the standard input and see it through."""
    job: Job = pickle.loads(sys.stdin.buffer.read())
    folder = Path(job.config.folder)
    # A store of its own for each start: in a shared one workers would look for those before them at their old ports.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    watch(job.caller, _end, also=folder / FAILURE)
    with lock.hold(folder, job.caller) if job.node_rank == 0 else contextlib.nullcontext():
        try:
            elastic_launch(launch_config(job), job.work)(job.config)
        except SignalException:
            sys.exit(1)
        except ChildFailedError as error:  # more often than max_restarts
            rank, failure = min(error.failures.items(), key=lambda item: item[1].exitcode)  # below 0: by a signal
            report(folder, rank, f"exit code {failure.exitcode}", str(failure.message))
            sys.exit(1)


def launch_config(job: Job) -> LaunchConfig:
    """Say in torch elastic's words what a job needs.

    Source: own.

    Args:
        job: what is to be done.

    Returns:
        The configuration; it has the same id on each node.
    """
    alone = job.nodes == 1
    return LaunchConfig(
        min_nodes=job.nodes,
        max_nodes=job.nodes,
        nproc_per_node=job.processes,
        run_id=f"ict-{job.config.seed}",
        rdzv_backend="c10d",
        rdzv_endpoint=job.rendezvous,
        rdzv_configs={"is_host": job.node_rank == 0, "read_timeout": WAIT, "join_timeout": WAIT},
        local_addr="127.0.0.1" if alone else None,
        max_restarts=job.max_restarts,
        monitor_interval=0.1,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(),
        shutdown_timeout=5,
    )


def _end() -> None:
    """End this process and its workers: as torch elastic does it, or else at once."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(15)
    os._exit(1)


if __name__ == "__main__":
    main()
