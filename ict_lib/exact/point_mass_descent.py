"""What the EMA of the teacher costs in the example of section 3.2, step by step."""

import torch
from torch import Tensor

from ict_lib.exact.point_mass import gradient_parts

__all__ = ["descent"]


def descent(theta: float, xi: float, sigmas: Tensor, decay: float, learning_rate: float, num_steps: int) -> Tensor:
    r"""Plain gradient descent of the student on ``scaled_gradient``, its teacher an EMA that starts equal.

    .. math:: \theta \leftarrow \theta - \eta \, g(\theta, \theta^-), \qquad
        \theta^- \leftarrow \mu \theta^- + (1 - \mu) \theta

    With :math:`g = G_{data} (\theta - \xi) + G_{teacher} (\theta - \theta^-)` both still reach xi, but a
    teacher that lags slows them by about :math:`1 + \eta G_{teacher} \mu / (1 - \mu)`, and G_teacher grows
    like N. It diverges when :math:`\eta G_{teacher}` exceeds about :math:`(1 + \mu) / \mu`.

    Source: own.

    Args:
        theta: where both start, data units.
        xi: the data point, data units.
        sigmas: ascending noise levels, shape ``[num_scales]``, data units.
        decay: mu of the teacher, in [0, 1); 0 is iCT's teacher.
        learning_rate: eta, > 0.
        num_steps: number of updates, >= 0.

    Returns:
        Student and teacher after every step, the start first, shape ``[num_steps + 1, 2]``, float64.

    Raises:
        ValueError: if an argument leaves its range or ``sigmas`` do not ascend.
    """
    if not 0 <= decay < 1 or not learning_rate > 0 or num_steps < 0:
        rule = "0 <= decay < 1, learning_rate > 0, num_steps >= 0"
        raise ValueError(f"{rule} are needed, got {decay}, {learning_rate}, {num_steps}")
    data, lag = (float(part) for part in gradient_parts(1.0, 0.0, 0.0, sigmas))
    student = teacher = float(theta)
    path = [(student, teacher)]
    for _ in range(num_steps):
        student -= learning_rate * (data * (student - xi) + lag * (student - teacher))
        teacher = decay * teacher + (1 - decay) * student
        path.append((student, teacher))
    return torch.tensor(path, dtype=torch.float64)
