"""The figures of the clinic: `ict_lib.display.figures.clinic`."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from ict_lib.consistency import ConsistencyModel
from ict_lib.display.figures.clinic import Patient, distance, drawn_from, examined, patients_explorer, place, stages
from ict_lib.display.playground.network import PlainMLP
from ict_lib.recipe import ICT
from ict_lib.training import Learner
from tests.test_display_explorer import unpack

matplotlib.use("Agg")


def patient(name, distances, seed=0):
    generator = torch.Generator().manual_seed(seed)
    drawn = tuple(torch.randn(600, 2, generator=generator) for _ in range(2))
    return Patient(name, drawn, distances, 0.7, [9.0] * 90 + [1.0, 2.0, 3.0] * 3 + [2.0])


@pytest.fixture
def explorer():
    patients = [patient("a", (0.3, 0.2), 1), patient("b", (0.05, 0.4), 2), patient("c", (0.1, 0.1), 3)]
    healthy = [patient("h", (0.04, 0.03)), patient("h", (0.06, 0.02))]
    return patients, patients_explorer(patients, healthy, torch.zeros(700, 2), floor=0.01)


def test_each_position_shows_its_patient_and_its_number_of_evaluations(explorer):
    patients, figure = explorer
    assert [slider["text"] for slider in figure.spec["sliders"]] == [["a", "b", "c"], ["1", "2"]]
    samples = figure.spec["panels"][0]["marks"][1]
    drawn = np.stack([unpack(figure, samples[axis]) for axis in ("x", "y")], axis=-1)
    expected = np.stack([[steps[:500] for steps in one.drawn] for one in patients])
    np.testing.assert_allclose(drawn, expected, rtol=1e-6)
    far, raw, loss = (readout["text"] for readout in figure.spec["readouts"])
    assert far == ["0.300", "0.200", "0.050", "0.400", "0.100", "0.100"]
    assert raw == ["0.700"] * 3
    assert loss == ["2"] * 3


def test_all_distances_stand_beside_the_range_of_the_healthy_ones(explorer):
    _, figure = explorer
    band, floor, every, now = figure.spec["panels"][1]["marks"]
    low, high = (unpack(figure, band[key])[0] for key in ("low", "y"))
    np.testing.assert_allclose(low, np.repeat([[0.04], [0.02]], 3, axis=1), rtol=1e-6)
    np.testing.assert_allclose(high, np.repeat([[0.06], [0.03]], 3, axis=1), rtol=1e-6)
    assert np.unique(unpack(figure, floor["y"])) == pytest.approx([0.01])
    np.testing.assert_allclose(unpack(figure, every["y"])[0], [[0.3, 0.05, 0.1], [0.2, 0.4, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(unpack(figure, now["y"])[..., 0], [[0.3, 0.2], [0.05, 0.4], [0.1, 0.1]], rtol=1e-6)
    np.testing.assert_allclose(unpack(figure, now["x"]).ravel(), [1, 2, 3])


def test_a_learner_is_examined_by_what_is_sampled_and_by_what_learns():
    torch.manual_seed(0)
    learner = Learner(ConsistencyModel(PlainMLP(0.02)), ICT)
    torch.nn.init.normal_(learner.student.network.layers[-1].weight)
    data = 0.5 * torch.randn(3000, 2)
    found = examined("x", learner, [1.0], data, (80.0, 0.8))
    assert found.distances[0] == distance(drawn_from(learner.average, (80.0,)), data)
    assert found.raw == distance(drawn_from(learner.student, (80.0,)), data)
    assert found.raw != found.distances[0]
    assert torch.equal(found.drawn[1], drawn_from(learner.average, (80.0, 0.8)))
    assert (found.drawn[0] - found.drawn[1]).abs().max() > 0.1
    assert found.loss == 1


def test_the_distance_is_the_mean_over_directions():
    x, y = torch.randn(2, 800, 2, generator=torch.Generator().manual_seed(1)).double() * torch.tensor([1.0, 2.0])
    angles = np.linspace(0, np.pi, 400, endpoint=False)
    lines = np.stack([np.cos(angles), np.sin(angles)])
    expected = np.mean(
        [wasserstein_distance(a, b) for a, b in zip((x.numpy() @ lines).T, ((y.numpy() + 1) @ lines).T, strict=True)]
    )
    assert distance(x, y + 1) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(("value", "said"), [(0.9, "below"), (1.0, "within"), (1.5, "within"), (2.1, "above")])
def test_a_value_lies_below_within_or_above_the_healthy_ones(value, said):
    assert place(value, [2.0, 1.0, 1.2]) == said


def test_the_stages_of_a_loss_are_marked_where_n_changes():
    _, ax = plt.subplots()
    stages(ax, [1.0] * 50 + [3.0] * 50, [11] * 30 + [21] * 70)
    assert ax.lines[0].get_ydata().tolist() == [1.0, 3.0]
    assert [line.get_xdata()[0] for line in ax.lines[1:]] == [0, 30]
    assert [text.get_text() for text in ax.texts] == ["11", "21"]
