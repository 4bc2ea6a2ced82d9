"""Training: `train` turns a run's configuration into metrics, and a model."""

from ict_lib.training.loop import Metrics, Training, train

__all__ = ["Metrics", "Training", "train"]
