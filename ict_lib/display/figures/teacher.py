"""Figure of the chapter on the teacher."""

import torch
from torch import Tensor

from ict_lib.display.explorer import Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.exact.point_mass import gradient_parts
from ict_lib.grid import karras_sigmas

SCALES = [11, 21, 41, 81, 161, 321, 641, 1281]
# How far the teacher is behind the student, as a share of the student's distance from the data; below 0 it is ahead.
LAGS = [0.25, 0.2, 0.15, 0.1, 0.05, 0.02, 0.01, 0.0, -0.01, -0.02, -0.05, -0.1, -0.15, -0.2, -0.25]
CAPTION = (
    "Raise N. The line turns about one point, that of a teacher which is the student: there the gradient stays above "
    "zero and leads to ξ. A teacher that lags lies to the right of it, farther from ξ than the student. The finer the "
    "grid, the smaller the lag at which the gradient is zero, and beyond it the step leads away from the data. To the "
    "left the teacher would be nearer to ξ than the student: an average of past students never is."
)


def teacher_explorer(theta: float = 1.0, xi: float = 0.0) -> Explorer:
    """Show the gradient of section 3.2's example, ``xi`` the data point, for a teacher behind the student, as N grows.

    Source: [iCT] arXiv:2310.14189 section 3.2.
    """
    teachers = theta + torch.tensor(LAGS, dtype=torch.float64) * (theta - xi)
    slopes = torch.tensor([[float(p) for p in gradient_parts(1.0, 0.0, 0.0, karras_sigmas(n))] for n in SCALES])
    data, lag = slopes.double().T[..., None]  # [scales, 1] each
    to_data, to_teacher = data * (theta - xi), lag * (theta - teachers)  # [scales, 1], [scales, teachers]
    return Explorer(
        sliders=[
            Slider("noise levels N", SCALES, start=2),
            Slider("the teacher's parameter θ⁻", teachers.tolist(), start=3, text=[f"{t:.4g}" for t in teachers]),
        ],
        panels=[_over_teachers(to_data, to_teacher, teachers), _over_scales(to_data, to_teacher, theta)],
        readouts=[
            Readout("pull towards the data", to_data, "{:.2f}"),
            Readout("pull towards the teacher", to_teacher, "{:.2f}"),
            Readout("gradient", to_data + to_teacher, "{:.2f}"),
            Readout("θ⁻ at which it is zero", theta + to_data / lag, "{:.4f}"),
            Readout("θ at which it is zero, for this θ⁻", (data * xi + lag * teachers) / (data + lag), "{:.4f}"),
        ],
        caption=CAPTION,
    )


def _range(to_data: Tensor) -> tuple[float, float]:
    """Leave room for a few times the pull towards the data; steeper lines leave the picture."""
    most = 6 * float(to_data.abs().max())
    return (-most, most)


def _over_teachers(to_data: Tensor, to_teacher: Tensor, teachers: Tensor) -> Panel:
    """Draw the gradient over the teacher's parameter, ``[scales, teachers]``, and the chosen one."""
    total, ends = to_data + to_teacher, [float(teachers.min()), float(teachers.max())]
    here = LAGS.index(0.0)
    return Panel(
        [
            Line(teachers, total[:, None], label="gradient at θ", color=0),
            Line(ends, [0.0, 0.0], label="standstill", color=5, dashed=True),
            Points([float(teachers[here])], to_data[:, None], label="θ⁻ = θ", color=2, size=10),
            Points(teachers[None, :, None], total[..., None], label="this teacher", color=1, size=10),
        ],
        title="What a lag does to the gradient",
        x_label="the teacher's parameter θ⁻",
        y_label="gradient",
        y_range=_range(to_data),
    )


def _over_scales(to_data: Tensor, to_teacher: Tensor, theta: float) -> Panel:
    """Draw the gradient over N: with the chosen teacher, and with the student as its own."""
    scales, total = torch.tensor(SCALES, dtype=torch.float64), to_data + to_teacher
    return Panel(
        [
            Line(scales, total.T[None], label="gradient with this teacher", color=1),
            Line(scales, to_data[:, 0], label="with θ⁻ = θ", color=2, dashed=True),
            Points(scales[:, None, None], total[..., None], color=1, size=10),
        ],
        title=f"The same at θ = {theta:g}, for all N",
        x_label="noise levels N",
        y_label="gradient",
        x_scale="log",
        y_range=_range(to_data),
    )
