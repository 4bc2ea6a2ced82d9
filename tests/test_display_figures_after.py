"""The figure of the chapter on what came after iCT: what is drawn agrees with independent computations."""

import numpy as np
import pytest
import torch

from ict_lib.display.figures.after import (
    CHOSEN,
    HIGHEST,
    LOWEST,
    PLACES,
    SHARES,
    STARTS,
    TIMES,
    average_velocity,
    carried,
    time_explorer,
    velocity,
)
from ict_lib.exact.mixture import Mixture
from ict_lib.exact.toy import ring, three_modes
from tests.test_display_explorer import unpack


@pytest.fixture(scope="module")
def explorer():
    return time_explorer()


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def read(explorer, label):
    (found,) = [readout for readout in explorer.spec["readouts"] if readout["label"] == label]
    return np.array(found["text"], dtype=float).reshape(len(TIMES), len(SHARES))


def test_the_velocity_is_the_mean_of_noise_minus_data():
    line, z, t = three_modes(), numbers([0.4], [-0.3], [0.9]), numbers(0.3, 0.5, 0.8)
    many = 50_000
    for i in range(3):
        x, sigma = (z[i] / (1 - t[i])).expand(many, 1), float(t[i] / (1 - t[i]))
        x0 = line.posterior(x, sigma, torch.Generator().manual_seed(i))
        draws = (z[i] - (1 - t[i]) * x0) / t[i] - x0  # e - x0
        off = draws.mean() - velocity(line, z, t)[i]
        assert abs(float(off)) < 4 * float(draws.std()) / many**0.5


@pytest.mark.parametrize("data", [three_modes(), ring(radius=0.7, std=0.035)])
def test_the_average_velocity_is_the_average_of_the_velocity_along_the_trajectory(data):
    z = torch.linspace(-0.8, 0.7, 2 * data.means.shape[1], dtype=torch.float64).view(2, -1)
    r, t = numbers(0.3, 0.5), numbers(0.7, 0.9)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    total = torch.zeros_like(z)
    for node, weight in zip(nodes, weights, strict=True):
        at = r + (t - r) * (node + 1) / 2
        total += weight / 2 * velocity(data, carried(data, z, t, at), at)
    torch.testing.assert_close(average_velocity(data, z, r, t), total, atol=1e-5, rtol=0)
    torch.testing.assert_close(average_velocity(data, z, t, t), velocity(data, z, t))


def test_of_normal_data_it_is_known_in_closed_form():
    m, s, z, r, t = 0.3, 0.4, numbers([-1.0], [0.2], [2.0]), numbers(0.1, 0.4, 0.05), numbers(0.9, 0.5, 0.7)
    width = [((1 - time) ** 2 * s**2 + time**2).sqrt() for time in (r, t)]
    lower = (1 - r) * m + width[0] / width[1] * (z[:, 0] - (1 - t) * m)
    normal = Mixture(numbers(1.0), numbers([m]), numbers(s))
    torch.testing.assert_close(average_velocity(normal, z, r, t)[:, 0], (z[:, 0] - lower) / (t - r))


def test_the_readouts_obey_the_identity_and_the_limit(explorer):
    """Equation (7) of the page at every position, and u = v at r = t."""
    u, v = read(explorer, "average velocity u"), read(explorer, "velocity v at t")
    assert np.abs(read(explorer, "v − (t − r) du/dt") - u).max() < 2e-3
    np.testing.assert_array_equal(u[:, -1], v[:, -1])
    assert np.abs(u - v)[:, 0].max() > 0.1


def test_a_step_with_the_average_lands_on_the_trajectory_and_one_with_the_velocity_at_the_mean(explorer):
    start = STARTS[CHOSEN].view(1, 1)
    end = carried(three_modes(), start, numbers(HIGHEST), numbers(LOWEST))
    assert read(explorer, "a step lands with u at")[:, 0] == pytest.approx(float(end), abs=1e-3)
    mean = float(three_modes().weights @ three_modes().means[:, 0])
    assert read(explorer, "a step lands with v at")[-1, 0] == pytest.approx(mean, abs=0.03)
    chord, tangent = explorer.spec["panels"][0]["marks"][-3], explorer.spec["panels"][0]["marks"][-1]
    assert [chord["label"], tangent["label"]] == ["chord: u", "tangent: v"]
    assert unpack(explorer, chord["y"])[3, 4, 0] == pytest.approx(
        read(explorer, "a step lands with u at")[3, 4], abs=1e-3
    )
    assert unpack(explorer, chord["x"])[3, 4].tolist() == pytest.approx([0.4 * TIMES[3], TIMES[3]])


def test_the_curves_are_those_of_the_positions(explorer):
    average, now, point = explorer.spec["panels"][1]["marks"]
    shown, places = unpack(explorer, average["y"]), PLACES[[10, 60]][:, None]
    t, r = numbers(TIMES[6]).expand(2), numbers(TIMES[6] * SHARES[3]).expand(2)
    want = average_velocity(three_modes(), places, r, t)[:, 0]
    np.testing.assert_allclose(shown[6, 3, [10, 60]], want, rtol=1e-5)
    np.testing.assert_allclose(shown[:, -1], unpack(explorer, now["y"])[:, 0], rtol=1e-6)
    assert unpack(explorer, point["y"])[6, 3, 0] == pytest.approx(read(explorer, "average velocity u")[6, 3], abs=1e-3)
