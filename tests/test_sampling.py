"""Sampling in one step and in several: `ict_lib.sampling`."""

import math

import pytest
import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.sampling import sample

XI = 0.3  # all data are this one point: the consistency function is known


class PointMass(ConsistencyModel):
    """f(x, sigma) = (sigma_min / sigma) x + (1 - sigma_min / sigma) xi; keeps what it was asked."""

    def __init__(self, sigma_min=0.002):
        super().__init__(nn.Linear(1, 1), 0.5, sigma_min)
        self.asked = []

    def forward(self, x, sigma, label=None):
        self.asked.append((x, float(sigma), label, self.training))
        share = self.sigma_min / sigma
        return share * x + (1 - share) * XI


class Noisy(nn.Module):
    """A raw network with dropout and a part that is kept in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.layer, self.dropout, self.frozen = nn.Linear(2, 2), nn.Dropout(0.5), nn.Dropout(0.5).eval()

    def forward(self, x, c_noise, label=None):
        shift = 0 if label is None else label[:, None]
        return self.frozen(self.dropout(self.layer(x))) + c_noise[:, None] + shift


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# Value from the paper


def test_one_step_is_the_model_at_pure_noise():
    model = PointMass()
    drawn = sample(model, 5, (2,), generator=gen())
    z = torch.randn(5, 2, generator=gen())
    torch.testing.assert_close(model.asked[0][0], 80 * z)
    torch.testing.assert_close(drawn, XI + 0.002 / 80 * (80 * z - XI))


@pytest.mark.parametrize("sigma_min", [0.002, 0.5])
def test_two_steps_are_the_papers_formula(sigma_min):
    model, source = PointMass(sigma_min), gen(1)
    drawn = sample(model, 6, (1, 2, 2), sigmas=(80.0, 0.821), generator=gen(1))
    z, again = (torch.randn(6, 1, 2, 2, generator=source) for _ in range(2))
    for place, (a, b) in enumerate(zip(z.flatten().tolist(), again.flatten().tolist(), strict=True)):
        first = sigma_min * a + (1 - sigma_min / 80) * XI
        x = first + math.sqrt(0.821**2 - sigma_min**2) * b
        expected = sigma_min / 0.821 * x + (1 - sigma_min / 0.821) * XI
        assert float(drawn.flatten()[place]) == pytest.approx(expected, rel=1e-4, abs=1e-5)


# Invariant


def test_one_evaluation_a_level_in_their_order():
    model = PointMass()
    sample(model, 3, (2,), sigmas=[80, 24.4, 5.84, 0.9])
    assert [asked[1] for asked in model.asked] == pytest.approx([80, 24.4, 5.84, 0.9])


def test_a_last_level_of_sigma_min_changes_nothing():
    model = ConsistencyModel(Noisy())
    twice = sample(model, 4, (2,), sigmas=(80.0, 0.002), generator=gen())
    torch.testing.assert_close(twice, sample(model, 4, (2,), sigmas=(80.0,), generator=gen()))


def test_noise_is_added_up_to_the_level_that_is_asked():
    """Before the second step the sample lies sigma_mid from the data: sigma_min is in the first output already."""
    model = PointMass(sigma_min=0.6)
    sample(model, 20_000, (1,), sigmas=(80.0, 1.0), generator=gen(), batch_size=20_000)
    assert float(model.asked[-1][0].std()) == pytest.approx(1.0, rel=0.03)


def test_the_generator_decides():
    model = ConsistencyModel(Noisy())
    same, again, other = (sample(model, 4, (2,), (80.0, 1.0), gen(seed)) for seed in (0, 0, 1))
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_without_a_generator_torchs_own_is_used():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        drawn = sample(PointMass(), 4, (2,))
        torch.manual_seed(5)
        assert torch.equal(sample(PointMass(), 4, (2,)), drawn)


def test_the_model_runs_in_evaluation_mode_and_is_put_back_part_by_part():
    model = PointMass()
    sample(model.train(), 2, (2,))
    assert model.asked[0][3] is False
    noisy = ConsistencyModel(Noisy())
    for training in (True, False):
        noisy.train(training)
        noisy.network.frozen.eval()
        sample(noisy, 2, (2,))
        assert (noisy.training, noisy.network.dropout.training) == (training, training)
        assert noisy.network.frozen.training is False


def test_the_mode_is_put_back_after_an_error_too():
    model = ConsistencyModel(Noisy()).train()
    with pytest.raises(RuntimeError):
        sample(model, 2, (3,))
    assert model.training


# Shapes, batch independence


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("num", [1, 7])
def test_shape_and_no_gradient(shape, num):
    drawn = sample(PointMass(), num, shape, sigmas=(80.0, 1.0))
    assert drawn.shape == (num, *shape)
    assert not drawn.requires_grad


@pytest.mark.parametrize("sigmas", [(80.0,), (80.0, 0.821)])
@pytest.mark.parametrize("shape", [(2,), (1, 5, 5), (1, 8, 8)])
def test_the_samples_do_not_depend_on_how_many_are_made_at_a_time(sigmas, shape):
    whole = sample(PointMass(), 10, shape, sigmas, gen())
    for batch_size in (1, 3, 10, 99):
        torch.testing.assert_close(sample(PointMass(), 10, shape, sigmas, gen(), batch_size=batch_size), whole)


def test_never_more_than_batch_size_at_a_time():
    model = PointMass()
    sample(model, 10, (2,), batch_size=4)
    assert [len(asked[0]) for asked in model.asked] == [4, 4, 2]


def test_every_sample_keeps_its_label():
    model, label = PointMass(), torch.arange(10)
    sample(model, 10, (2,), sigmas=(80.0, 1.0), label=label, batch_size=4)
    for level in (model.asked[:3], model.asked[3:]):
        assert torch.equal(torch.cat([asked[2] for asked in level]), label)
    noisy = ConsistencyModel(Noisy())
    whole, parts = (sample(noisy, 10, (2,), (80.0, 1.0), gen(), label, batch_size=b) for b in (10, 3))
    torch.testing.assert_close(whole, parts)


# Errors


@pytest.mark.parametrize(
    "sigmas",
    [(), (0.821, 80.0), (80.0, 80.0), (80.0, 0.001), (80.0, 1.0, 2.0), (80.0, 0.0), (math.nan,), (80.0, math.nan)],
)
def test_levels_that_do_not_fall_or_fall_too_far_are_refused(sigmas):
    with pytest.raises(ValueError, match=r"falling levels, none below sigma_min = 0\.002"):
        sample(PointMass(), 2, (2,), sigmas=sigmas)


@pytest.mark.parametrize(("num", "batch_size"), [(0, 1), (-3, 1), (4, 0)])
def test_no_samples_are_refused(num, batch_size):
    with pytest.raises(ValueError, match="1 or more"):
        sample(PointMass(), num, (2,), batch_size=batch_size)


@pytest.mark.parametrize("shape", [(3,), (5,), (1,), (4, 1), ()])
def test_labels_that_are_not_one_a_sample_are_refused(shape):
    with pytest.raises(ValueError, match=r"one a sample, \[num\] = \[4\]"):
        sample(PointMass(), 4, (2,), label=torch.zeros(shape, dtype=torch.long))
