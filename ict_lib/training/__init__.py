"""Training: `train` turns a run into metrics and a model; `launch` does so with many processes; `fit` fits anything."""

from ict_lib.training.launch import launch
from ict_lib.training.loop import Training, train
from ict_lib.training.metrics import Metrics
from ict_lib.training.step import Learner, Shard, fit, training_step

__all__ = ["Learner", "Metrics", "Shard", "Training", "fit", "launch", "train", "training_step"]
