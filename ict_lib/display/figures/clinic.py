"""Figures of the clinic: small trainings with one known fault each, beside healthy ones."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.explorer import Area, Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.exact.distances import sliced_wasserstein
from ict_lib.sampling import sample
from ict_lib.training.streams import stream

NOISE, SHOWN = 4000, 500  # samples that are measured, and of these the ones that are drawn


class Patient(NamedTuple):
    """What one small training on points left: samples ``[4000, 2]`` and distances, in one step and in two."""

    name: str
    drawn: tuple[Tensor, Tensor]
    distances: tuple[float, float]
    raw: float  # one-step distance of the weights that learn, without the average
    losses: list[float]  # one a step

    @property
    def loss(self) -> float:
        """Median over the last tenth of the training."""
        return float(np.median(self.losses[-max(1, len(self.losses) // 10) :]))


def drawn_from(model: ConsistencyModel, sigmas: Sequence[float]) -> Tensor:
    """Samples ``[4000, 2]`` of points, from the same noise for every model."""
    return sample(model, NOISE, (2,), tuple(sigmas), stream(0, 0), batch_size=NOISE)


def distance(points: Tensor, data: Tensor) -> float:
    """Sliced Wasserstein distance of order 1 to the data, on the same lines each time."""
    return sliced_wasserstein(points, data, order=1, generator=stream(0, 1))


def examined(name: str, learner, losses: list[float], data: Tensor, sigmas: Sequence[float]) -> Patient:
    """Draw from both models of a learner and measure; ``sigmas`` are the two levels of two-step sampling."""
    drawn = drawn_from(learner.average, sigmas[:1]), drawn_from(learner.average, sigmas)
    distances = tuple(distance(points, data) for points in drawn)
    return Patient(name, drawn, distances, distance(drawn_from(learner.student, sigmas[:1]), data), losses)


def place(value: float, healthy: Sequence[float]) -> str:
    """Say where a value lies beside those of the healthy ones: ``below``, ``within`` or ``above``."""
    return "below" if value < min(healthy) else "above" if value > max(healthy) else "within"


def patients_explorer(patients: Sequence[Patient], healthy: Sequence[Patient], data: Tensor, floor: float) -> Explorer:
    """Step through the patients: samples in one step or two, and all distances beside those of the healthy ones.

    The healthy are the same training without a fault, one a seed; of the data, points ``[m, 2]``, some are drawn; the
    floor is the distance that fresh data have.
    """
    points = np.stack([[steps[:SHOWN].numpy() for steps in one.drawn] for one in patients])  # [patient, 2, n, 2]
    far = np.array([one.distances for one in patients])  # [patient, 2]
    well = np.array([one.distances for one in healthy])
    at = np.arange(1, len(patients) + 1, dtype=float)
    band = [np.repeat(end[None, :, None], len(at), axis=2) for end in (well.min(axis=0), well.max(axis=0))]
    ends = {"x_range": (-1.3, 1.3), "y_range": (-1.3, 1.3), "square": True}
    cloud = [Points(data[:SHOWN, 0], data[:SHOWN, 1], size=2, color=5, label="data")]
    cloud += [Points(points[..., 0], points[..., 1], size=2.5, color=0, label="samples")]
    marks = [Area(at, band[1], low=band[0], color=2, label="healthy, all seeds")]
    marks += [Line(at, np.full(len(at), floor), color=5, dashed=True, label="fresh data")]
    marks += [Points(at, far.T[None], size=6, color=0), Points(at[:, None, None], far[..., None], size=11, color=1)]
    axes = {"x_label": "fault, in the order of the slider", "x_scale": "count"}
    axes |= {"y_label": "sliced Wasserstein distance", "y_scale": "log"}
    return Explorer(
        sliders=[Slider("fault", [one.name for one in patients]), Slider("network evaluations", [1, 2])],
        panels=[
            Panel(cloud, title="Samples of the averaged weights", **ends),
            Panel(marks, title="All of them", **axes),
        ],
        readouts=[
            Readout("distance", far, "{:.3f}"),
            Readout("of the raw weights, 1 step", np.array([one.raw for one in patients])[:, None], "{:.3f}"),
            Readout("loss at the end", np.array([one.loss for one in patients])[:, None], "{:.2g}"),
        ],
        caption="One fault at a time, all else equal, all from the same noise. A dot in the band cannot be told from a "
        "healthy training by this distance: set the second slider to 2 and look again. Where the distance and that of "
        "the raw weights differ widely, look for the fault in the average.",
    )


def stages(ax: Axes, losses: Sequence[float], scales: Sequence[int], window: int = 50) -> None:
    """Draw a loss as its mean over windows of steps, and a line with N wherever the number of levels changes."""
    means = [np.mean(losses[i : i + window]) for i in range(0, len(losses), window)]
    ax.plot(np.arange(len(means)) * window + window / 2, means)
    for step in [0, *np.flatnonzero(np.diff(scales)) + 1]:
        ax.axvline(step, color="0.6", linewidth=0.8, linestyle=":")
        ax.annotate(f"{scales[step]}", (step, 1), xycoords=("data", "axes fraction"), fontsize=8, color="0.4")
    ax.set(xlabel="training step", ylabel="loss")
