"""Let another machine join a run: ``python -m ict_lib.run.join RUN node_rank=1 nodes=4 rendezvous=HOST:PORT [name=value]``.

The first machine executes the run's notebook, with the same nodes and rendezvous; this one only lends processes.
"""

import sys

from ict_lib.run.record import project_root, results_folder
from ict_lib.run import check, parameters_of
from ict_lib.run_file import Run
from ict_lib.training import launch


def join(run: Run, node_rank: int) -> None:
    """Lend this machine's processes to all trainings of a run, one after another.

    Source: own.

    Args:
        run: the same as on the first machine, whose results folder this one must see.
        node_rank: number of this machine, from 1.

    Raises:
        ValueError: if it is not from 1 to ``run.nodes - 1``.
    """
    if not 1 <= node_rank < run.nodes:
        raise ValueError(f"node_rank is {node_rank}: 1 <= node_rank < nodes = {run.nodes} is needed")
    for config in run.configs(results_folder(run.name)):
        for _ in launch(config, run.processes, run.nodes, node_rank, run.rendezvous):
            pass  # the first machine shows the metrics


def main(words: list[str]) -> int:
    """Run the command line and return its exit code: 0 done, 2 refused."""
    own = [word for word in words if word.startswith("node_rank=")]
    changes = [word for word in words[1:] if word not in own]
    try:
        if not words or len(own) != 1 or not own[0].removeprefix("node_rank=").isdigit():
            raise ValueError("give a run and node_rank=N, such as digits/ict node_rank=1 nodes=2 rendezvous=host:29500")
        run = check(parameters_of(words[0], changes, project_root()), project_root())
        join(run, int(own[0].removeprefix("node_rank=")))
    except ValueError as error:
        print(f"refused: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
