"""Figure of the chapter on what came after: the average velocity between two times, on data whose flow is known."""

import torch
from torch import Tensor

from ict_lib.display.explorer import Explorer, Line, Panel, Points, Readout, Slider
from ict_lib.exact.mixture import Mixture
from ict_lib.exact.toy import three_modes
from ict_lib.grid import karras_sigmas

LOWEST, HIGHEST = 0.002 / 1.002, 80 / 81  # the times of noise levels 0.002 and 80
TIMES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, HIGHEST]
SHARES = [n / 10 for n in range(11)]
STARTS = torch.linspace(-1.9, 1.9, 13, dtype=torch.float64)  # of the trajectories, at the highest time
CHOSEN = 9  # the trajectory that carries the step
PLACES = torch.linspace(-2, 2, 81, dtype=torch.float64)
STEP = 1e-4  # of the derivative in time
CAPTION = (
    "At t = 0.988 and r = 0 the chord jumps to the end of the trajectory in one step; the tangent, which a diffusion "
    "model knows, lands at the mean of the data. Raise r: the chord turns into the tangent, and the two curves on the "
    "right become one. Then keep r = 0 and lower t: where the trajectories have parted, both steps end near the data."
)


def carried(mixture: Mixture, z: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """Move points along the exact trajectories of :math:`z = (1 - t) x_0 + t e` from times t to r.

    Points are ``[batch, d]``, float64, times ``[batch]``, between 0 and 1, both excluded.
    """
    moved = mixture.flow(z / (1 - t)[:, None], t / (1 - t), r / (1 - r))
    return (1 - r)[:, None] * moved


def velocity(mixture: Mixture, z: Tensor, t: Tensor) -> Tensor:
    r"""Give the velocity at a time, the mean of e - x_0 over all that z may come from: :math:`v = (z - D) / t`."""
    return (z - mixture.denoiser(z / (1 - t)[:, None], t / (1 - t))) / t[:, None]


def average_velocity(mixture: Mixture, z: Tensor, r: Tensor, t: Tensor) -> Tensor:
    r"""Give the average velocity between r and t on the trajectory through z at t, where r = t the velocity itself.

    .. math:: u(z, r, t) = \frac{z_t - z_r}{t - r}

    Source: [MeanFlow] arXiv:2505.13447.
    """
    apart, same = (t - r)[:, None], (t == r)[:, None]
    return torch.where(same, velocity(mixture, z, t), (z - carried(mixture, z, t, r)) / apart.where(~same, apart + 1))


def time_explorer(mixture: Mixture | None = None) -> Explorer:
    """Show one step between two times, by the average velocity and by the velocity, for data on the line."""
    mixture = mixture or three_modes()
    sigmas = karras_sigmas(81)
    times = sigmas / (1 + sigmas)
    paths = (1 - times)[:, None] * mixture.trajectory(STARTS[:, None] / (1 - HIGHEST), sigmas)[..., 0]  # [81, starts]
    t = torch.tensor(TIMES, dtype=torch.float64).repeat_interleave(len(SHARES))  # [positions]
    r = torch.maximum(t * torch.tensor(SHARES, dtype=torch.float64).repeat(len(TIMES)), t.new_tensor(LOWEST))
    start = STARTS[CHOSEN].expand(len(t), 1)
    z = carried(mixture, start, torch.full_like(t, HIGHEST), t)
    u, v = average_velocity(mixture, z, r, t)[:, 0], velocity(mixture, z, t)[:, 0]
    later = carried(mixture, z, t, t + STEP)
    change = (average_velocity(mixture, later, r, t + STEP)[:, 0] - u) / STEP
    z, numbers = z[:, 0], {"lands with u": z[:, 0] - (t - r) * u, "lands with v": z[:, 0] - (t - r) * v}
    texts = [f"{share:g} t" if share else "0" for share in SHARES]
    shown = [f"{time:.3g}" for time in TIMES]
    return Explorer(
        sliders=[
            Slider("upper time t", TIMES, start=len(TIMES) - 1, text=shown),
            Slider("lower time r", SHARES, text=texts),
        ],
        panels=[_step(times, paths, r, t, z, numbers), _velocities(mixture, r, t, z, u)],
        readouts=[
            Readout("average velocity u", _grid(u), "{:.3f}"),
            Readout("velocity v at t", _grid(v), "{:.3f}"),
            Readout("v − (t − r) du/dt", _grid(v - (t - r) * change), "{:.3f}"),
            *(Readout(f"a step {name} at", _grid(values), "{:.3f}") for name, values in numbers.items()),
        ],
        caption=CAPTION,
    )


def _grid(values: Tensor, *tail: int) -> Tensor:
    """Give an array of all positions one axis a slider."""
    return values.reshape(len(TIMES), len(SHARES), *tail)


def _step(times: Tensor, paths: Tensor, r: Tensor, t: Tensor, z: Tensor, ends: dict[str, Tensor]) -> Panel:
    """Draw trajectories, and from the chosen one at t two straight steps to r."""
    others = [Line(times, path, color=5) for i, path in enumerate(paths.T) if i != CHOSEN]
    steps = [_grid(torch.stack([r, t], 1), 2), *(_grid(torch.stack([end, z], 1), 2) for end in ends.values())]
    marks = [Line(times, paths[:, CHOSEN], label="trajectory", color=0)]
    marks += [Line(steps[0], steps[1], label="chord: u", color=1), Points(steps[0], steps[1], color=1, size=8)]
    marks += [Line(steps[0], steps[2], label="tangent: v", color=2, dashed=True)]
    return Panel(others + marks, "One step from t to r", "time (0 data, 1 noise)", "z", (0, 1), (-3, 3))


def _velocities(mixture: Mixture, r: Tensor, t: Tensor, z: Tensor, u: Tensor) -> Panel:
    """Draw both velocities over all places at the upper time."""
    places, many = PLACES.repeat(len(t))[:, None], len(PLACES)
    upper, lower = (time.repeat_interleave(many) for time in (t, r))
    average = _grid(average_velocity(mixture, places, lower, upper), many)
    now = _grid(velocity(mixture, places, upper), many)[:, :1]
    marks = [Line(PLACES, average, label="average velocity u(z, r, t)", color=1)]
    marks += [Line(PLACES, now, label="velocity v(z, t)", color=2, dashed=True)]
    marks += [Points(_grid(z, 1), _grid(u, 1), color=1, size=10)]
    return Panel(marks, "At the upper time", "z at t", "velocity", (-2, 2), (-4, 4))
