"""A training by other processes, as its caller sees it."""

import json
import os
import pickle
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import load_dataset
from ict_lib.run.record import MetricsLog
from ict_lib.training import checkpoint, lock
from ict_lib.training.follower import Follower
from ict_lib.training.metrics import Metrics
from ict_lib.training.model import build_model, pick_device
from ict_lib.training.worker import FAILURE, METRICS, Job


class WorkerError(RuntimeError):
    """A process failed: its ``rank``, its ``message`` and its ``traceback``, as text.

    Source: own.
    """

    def __init__(self, rank: int | None, message: str, traceback: str):
        super().__init__(f"{'the agent' if rank is None else f'rank {rank}'} failed: {message}\n{traceback}")
        self.rank, self.message, self.traceback = rank, message, traceback


class Launched(Iterator[Metrics]):
    """A training by other processes, seen from the caller: an iterator of metrics, as ``Training`` is.

    They run while somebody iterates, and may run ahead of it. Closing it, an interruption, and the end of the caller,
    however it ends, end them all; iterate over a new one to go on.

    Source: own.

    Args:
        job: what the processes are to do.
        resume: go on from a checkpoint.

    Attributes:
        config: as given.
        step: of the newest metrics.
        last: the newest metrics; None before the first.
        device: of the weights that ``student`` and ``average`` give.
    """

    def __init__(self, job: Job, resume: bool = True):
        self._agent, self._closed, self._waiting, self._models = None, False, deque(), {}
        self._job, self._resume, self._folder = job, resume, Path(job.config.folder)
        self._log = self._folder / f"node-{job.node_rank}.log"
        self._done_with = self._folder / f"seen-{job.node_rank}"
        self.config, self.device = job.config, pick_device(job.config.device)
        state = checkpoint.of_run(self.config) if resume else None
        self.step = min(state["step"], self._seen()) if state else 0
        self.last = Metrics(**state["last"]) if state and state["step"] == self.step else None

    def __len__(self) -> int:
        """Return how many records are still to come."""
        done, total, every = self.step, self.config.steps, self.config.log_every
        return -(-total // every) - done // every if done < total else 0

    def __next__(self) -> Metrics:
        """Wait for the next record; whoever asks for it is done with the one before."""
        if self._agent is not None:
            self._done_with.write_text(str(self.step))
        try:
            while not self._waiting:
                if self._closed or self.step >= self.config.steps:
                    self._wait()
                    raise StopIteration
                self._look()
        except BaseException:
            self.close()
            raise
        self.last = self._waiting.popleft()
        self.step = self.last.step
        return self.last

    @property
    def average(self) -> ConsistencyModel | None:
        """The averaged weights at ``step``, which are sampled; None where no checkpoint of that step is left."""
        return self._model("average")

    @property
    def student(self) -> ConsistencyModel | None:
        """The model that learns, at ``step``; None where no checkpoint of that step is left."""
        return self._model("student")

    def close(self) -> None:
        """End all processes; does nothing where there are none."""
        self._closed = True
        self._waiting.clear()
        if self._agent is not None and self._agent.poll() is None:
            self._agent.terminate()
            self._wait()

    def __del__(self):
        if getattr(self, "_agent", None) is not None:
            self.close()

    def _look(self) -> None:
        """Start the processes if need be, and collect the records that are new."""
        if self._agent is None:
            self._start()
        ended = self._agent.poll() is not None  # asked first: what it wrote is then all there
        lines = self._lines.new()
        self._waiting.extend(Metrics(**line) for line in lines if line["step"] > self.step)
        if ended and not self._waiting:
            if self._agent.returncode != 0:
                raise self._failure()
            self.step = self.config.steps  # somebody else had finished it
        elif not self._waiting:
            time.sleep(0.05)

    def _start(self) -> None:
        """Clear what earlier trainings left, and start the agent that starts the workers."""
        if self._job.node_rank == 0:
            lock.make_free(self._folder)
            if not self._resume:
                checkpoint.delete_all(self._folder)
                self._done_with.unlink(missing_ok=True)
            state = checkpoint.of_run(self.config)
            MetricsLog(self._folder, state["step"] if state else 0, state and state["last"], METRICS)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / METRICS).touch()
        (self._folder / FAILURE).unlink(missing_ok=True)
        self._lines = Follower(self._folder / METRICS)
        threads = max(1, torch.get_num_threads() // self._job.processes)
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        with self._log.open("wb") as log:
            self._agent = subprocess.Popen(
                [sys.executable, "-m", "ict_lib.training.agent"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": paths},
                start_new_session=True,  # an interruption is for the caller alone, who then ends them in order
            )
        with self._agent.stdin as pipe:
            pickle.dump(self._job, pipe)

    def _seen(self) -> int:
        """Read up to where a caller was done with the records: those after it come once more."""
        if self._done_with.exists():
            return int(self._done_with.read_text() or 0)
        return 0 if (self._folder / METRICS).exists() else self.config.steps

    def _wait(self) -> None:
        """Wait until the agent has ended all others and itself; workers end by themselves when it has gone."""
        if self._agent is not None:
            try:
                self._agent.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._agent.kill()
                self._agent.wait()

    def _failure(self) -> WorkerError:
        """Read what a worker has left, or else the end of the log."""
        path = self._folder / FAILURE
        if path.exists():
            return WorkerError(**json.loads(path.read_text()))
        text = self._log.read_text(errors="replace")
        return WorkerError(None, f"exit code {self._agent.returncode}", text[-4000:])

    def _model(self, name: str) -> ConsistencyModel | None:
        """Load one of the models of a checkpoint; the newest stays when its file has gone."""
        if self._models.get(name, (None,))[0] == self.step:
            return self._models[name][1]
        state = checkpoint.load_step(self._folder, self.step)
        if state is None:
            return None
        data = load_dataset(self.config.data)
        model = build_model(self.config, data.shape, data.num_classes)
        model.load_state_dict(state[name])
        self._models[name] = (self.step, model.to(self.device).requires_grad_(False))
        return model
