"""Training with many processes of this machine, over ``torchrun``: metrics arrive as from one process."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from weakref import WeakSet

import torch

from ict_lib.checks import require
from ict_lib.config import Run
from ict_lib.consistency import ConsistencyModel
from ict_lib.data import DATASETS
from ict_lib.files import hearing, read_json, write_json
from ict_lib.networks.lpips import vgg16_weights
from ict_lib.training import checkpoint
from ict_lib.training.folder import METRICS, WEIGHTS, TrainingFolder, finished, read_metrics, read_result
from ict_lib.training.metrics import Metrics, lines_left
from ict_lib.training.model import build_model, load_weights, pick_device

CHECKPOINT = 120  # seconds that the processes have for one when they are asked to stop
FAILURE, LOG, JOB = "failure.json", "processes.log", "job.json"  # in the folder of the training
CALLER = "ICT_CALLER"  # environment variable: the process without which the others shall not go on


def launch(
    run: Run,
    seed: int | None = None,
    folder: Path | str = "",
    processes: int | None = None,
    resume: bool = True,
    max_restarts: int = 3,
    program: str = "ict_lib.training.program",
) -> "Launched":
    """Prepare one training with many processes; iterate over the result to run it.

    On CPUs they exchange with gloo, on CUDA devices with NCCL, one process a device. After a process was killed, all
    start once more, ``max_restarts`` times at most, and go on from the newest checkpoint. ``seed`` and ``processes``
    are by default the run's first and its own number. The folder, which must be given, gets checkpoints, metrics,
    weights and result; without ``resume`` what is there is deleted. ``program`` is the module that each executes.

    ``ValueError`` if the processes cannot share the batch equally, something is missing for them, or the folder holds a
    training with other settings; ``RuntimeError`` if another process trains there, or VGG16's weights are needed and
    not to be had.
    """
    run = run if processes is None else replace(run, processes=processes)
    run = replace(run, micro_batch=run.shard_size)
    processes = run.processes
    require(bool(str(folder)), "folder", folder, "a folder for checkpoints and metrics")
    device = pick_device(run.device)
    plain = device.type in ("cpu", "cuda") and ":" not in run.device
    require(plain, "device", run.device, "cpu or cuda, without a number,")
    if device.type == "cuda":
        here = torch.cuda.device_count()
        require(processes <= here, "processes", processes, f"at most {here}, the CUDA devices of this machine,")
    if run.recipe.distance == "lpips":
        vgg16_weights()  # one download, not one a process
    seed = run.seeds[0] if seed is None else seed
    return Launched(run, seed, Path(folder), resume, max_restarts, program)


class Launched(Iterator[Metrics]):
    """A training by other processes, seen from the caller: an iterator of metrics, as ``Training`` is.

    They run while somebody iterates, and may run ahead of it. Closing it, an interruption, another one in the same
    folder, and the end of the caller, however it ends, end them all; iterate over a new one to go on.

    ``last`` are the newest metrics, None before the first, and ``step`` is theirs; ``finished`` says whether the
    training is, and its weights are there.
    """

    _running: ClassVar[WeakSet] = WeakSet()  # of this process, some perhaps forgotten in a loop that was interrupted

    def __init__(self, run: Run, seed: int, folder: Path, resume: bool, max_restarts: int, program: str):
        self.run, self.seed, self.place = run, seed, folder.resolve()
        self._restarts, self._program, self._closed = max_restarts, program, False
        self._torchrun, self._waiting, self._seen, self.step, self.last = None, deque(), None, 0, None
        self._asked = 0  # the signal by which this process was asked to stop
        for other in list(self._running):
            if other.place == self.place:
                other.close()
        self.finished = self._look_into_folder(resume)

    def __len__(self) -> int:
        """Return how many records are still to come."""
        return lines_left(self.run, self.step)

    def __next__(self) -> Metrics:
        """Wait for the next record."""
        with hearing(self._ask):
            try:
                while not self._waiting:
                    if self.finished or self._closed:
                        raise StopIteration
                    self._wait_for_more()
            except BaseException as error:
                self.close()
                if self._asked and isinstance(error, KeyboardInterrupt):
                    raise checkpoint.stopped(self.place, self._asked) from None
                raise
        self.last = self._waiting.popleft()
        self.step = self.last.step
        return self.last

    @property
    def average(self) -> ConsistencyModel:
        """The averaged weights, on the CPU: the final ones, or those of the newest checkpoint."""
        data = DATASETS[self.run.data]
        model = build_model(self.run, data.shape, data.num_classes, self.seed)
        if self.finished:
            load_weights(self.place / WEIGHTS, model)
        elif state := checkpoint.load_latest(self.place):
            model.load_state_dict(state["average"])
        return model.requires_grad_(False)

    def close(self) -> None:
        """End the iteration and all processes."""
        self._closed = True
        self._waiting.clear()
        if self._torchrun is not None and self._torchrun.poll() is None:
            self._torchrun.terminate()  # which lets the others write a checkpoint
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._torchrun.wait(timeout=CHECKPOINT + 10)
            finally:
                self._torchrun.kill()  # the others end by themselves when it has gone
                self._torchrun.wait()

    def __del__(self):
        if getattr(self, "_torchrun", None) is not None:
            self.close()

    def _ask(self, number: int) -> None:
        """Note the signal that asks to stop, and do; a second Ctrl-C does not wait for a checkpoint."""
        first, again = not self._asked, self._asked == number == signal.SIGINT
        self._asked = number
        if first or again:
            raise KeyboardInterrupt

    def _look_into_folder(self, resume: bool) -> bool:
        """Tell whether the training is finished; refuse a folder with other settings, or with another writer."""
        folder = TrainingFolder(self.place, self.run, self.seed)
        try:
            if not resume:  # here, so that processes that are lost early do not find what was to be deleted
                folder.empty()
            done = finished(self.place, folder.identity) is not None
        finally:
            folder.release()
        newest = checkpoint.newest(self.place)
        step = self.run.steps if done else checkpoint.step_of(newest) if newest else 0
        lines = [line for line in read_metrics(self.place) if line["step"] <= step]
        self.last = Metrics.of_line(lines[-1]) if lines else None
        self.step = step if done else self.last.step if self.last else 0
        return done

    def _wait_for_more(self) -> None:
        """Start the processes if need be, and collect the records that are new."""
        if self._torchrun is None:
            self._start()
        ended = self._torchrun.poll() is not None  # asked first: what it wrote is then all there
        self._read()
        if self._waiting:
            return
        self.finished = ended and self._torchrun.returncode == 0 and read_result(self.place) is not None
        if ended and not self.finished:
            raise self._failure()
        time.sleep(0.05)

    def _read(self) -> None:
        """Collect the lines of metrics after the newest."""
        state = self._state_of_metrics()
        if state is not None and state != self._seen:
            self._seen, lines = state, read_metrics(self.place)
            self._waiting.extend(Metrics.of_line(line) for line in lines if line["step"] > self.step)

    def _state_of_metrics(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the file does, also twice within one tick of the disk's clock."""
        with contextlib.suppress(FileNotFoundError):
            found = (self.place / METRICS).stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
        return None

    def _start(self) -> None:
        """Start torchrun, which starts the processes."""
        self._running.add(self)
        (self.place / FAILURE).unlink(missing_ok=True)
        self._seen = self._state_of_metrics()  # rank 0 will write it anew
        write_json(self.place / JOB, {"run": {**self.run.to_dict(), "seeds": [self.seed]}})
        torchrun = ["--standalone", f"--nproc-per-node={self.run.processes}", f"--max-restarts={self._restarts}"]
        torchrun += ["--monitor-interval=0.1", f"--shutdown-timeout={CHECKPOINT}", "-m", self._program]
        asked = [str(self.place / JOB), "--folder", str(self.place)]
        with (self.place / LOG).open("wb") as log:
            self._torchrun = subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *torchrun, *asked],
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,  # an interruption is for the caller alone, who then ends them in order
            )

    def _environment(self) -> dict[str, str]:
        """Say how many threads a process has, where the library is, and who must not be outlived."""
        threads = str(max(1, torch.get_num_threads() // self.run.processes))
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        own = {"OMP_NUM_THREADS": threads, "TORCHINDUCTOR_COMPILE_THREADS": threads}
        own |= {"PYTHONPATH": paths, CALLER: str(os.getpid())}
        # A store of its own for each start: in a shared one processes would look for those before them.
        return os.environ | own | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}

    def _failure(self) -> RuntimeError:
        """Say what a process has left, its rank, message and traceback; or else the end of the log."""
        left = read_json(self.place / FAILURE) or {}
        if {"rank", "message", "traceback"} <= left.keys():
            return RuntimeError(f"rank {left['rank']} failed: {left['message']}\n{left['traceback']}")
        text = (self.place / LOG).read_text("utf8", errors="replace")
        return RuntimeError(f"torchrun failed: exit code {self._torchrun.returncode}\n{text[-4000:]}")
