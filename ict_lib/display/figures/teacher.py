"""Figure of the chapter on the teacher."""

import torch
from torch import Tensor

from ict_lib.display.explorer import Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.exact.point_mass import gradient_parts, limit_gradient
from ict_lib.grid import karras_sigmas

SCALES = [11, 21, 41, 81, 161, 321, 641, 1281]
TEACHERS = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
CAPTION = (
    "Raise N. With a teacher that lags (θ⁻ below 1) the minimum of the loss leaves the data point and settles on the "
    "teacher, and the gradient grows without bound. The left plot freezes the teacher: with θ⁻ = θ it moves along "
    "after each step, and what counts is the gradient on the right, which still points to ξ."
)


def teacher_explorer(theta: float = 1.0, xi: float = 0.0) -> Explorer:
    """Show the loss and gradient of section 3.2's example for a teacher that lags behind, as N grows.

    Source: [iCT] arXiv:2310.14189 section 3.2.

    Args:
        theta: the student's parameter.
        xi: the data point.
    """
    teachers = torch.tensor(TEACHERS, dtype=torch.float64)
    slopes = torch.tensor([[float(p) for p in gradient_parts(1.0, 0.0, 0.0, karras_sigmas(n))] for n in SCALES])
    data, lag = slopes.double().T[..., None]  # [scales, 1] each
    to_data, to_teacher = data * (theta - xi), lag * (theta - teachers)  # [scales, 1], [scales, teachers]
    return Explorer(
        sliders=[
            Slider("noise levels N", SCALES, start=2),
            Slider("the teacher's parameter θ⁻", TEACHERS, start=4, text=[f"{t:.2f}" for t in TEACHERS]),
        ],
        panels=[_loss(data, lag, teachers, xi), _gradient(to_data, to_teacher, theta)],
        readouts=[
            Readout("pull towards the data", to_data, "{:.2f}"),
            Readout("pull towards the teacher", to_teacher, "{:.2f}"),
            Readout("limit of the first as N grows", float(limit_gradient(theta, theta, xi)), "{:.2f}"),
        ],
        caption=CAPTION,
    )


def _loss(data: Tensor, lag: Tensor, teachers: Tensor, xi: float) -> Panel:
    """Draw the weighted loss over the student's parameter, from its two slopes, ``[scales, 1]`` each."""
    students = torch.linspace(-0.25, 1.25, 121, dtype=torch.float64)
    minimum = ((data * xi + lag * teachers) / (data + lag))[..., None]  # [scales, teachers, 1]
    loss = (students - minimum).square()
    return Panel(
        [
            Line(students, loss / loss.amax(dim=-1, keepdim=True), label="loss", color=0),
            Points(minimum, torch.zeros_like(minimum), label="its minimum", color=1, size=10),
            Points([xi], [0.0], label="the data point ξ", color=2, size=10),
        ],
        title="What the student is told to be",
        x_label="the student's parameter θ",
        y_label="weighted loss (largest = 1)",
    )


def _gradient(to_data: Tensor, to_teacher: Tensor, theta: float) -> Panel:
    """Draw the gradient over N: with the chosen teacher, and with the student as its own."""
    scales, total = torch.tensor(SCALES, dtype=torch.float64), to_data + to_teacher
    return Panel(
        [
            Line(scales, total.T[None], label="gradient with this teacher", color=0),
            Line(scales, to_data[:, 0], label="with θ⁻ = θ", color=2, dashed=True),
            Points(scales[:, None, None], total[..., None], color=0, size=10),
        ],
        title=f"Gradient at θ = {theta:g}",
        x_label="noise levels N",
        y_label="gradient",
        x_scale="log",
        y_scale="log",
    )
