"""Training: `train` turns a run's configuration into metrics, and a model; `launch` does so with many processes."""

from ict_lib.training.launch import launch
from ict_lib.training.loop import Training, train
from ict_lib.training.metrics import Metrics

__all__ = ["Metrics", "Training", "launch", "train"]
