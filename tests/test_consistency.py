"""The parametrisation: `ict_lib.consistency`."""

import math
import re

import pytest
import torch
from torch import nn

from ict_lib import consistency
from ict_lib.consistency import ConsistencyModel, c_in, c_noise, c_out, c_skip
from ict_lib.run import mistakes
from tests import mutants


class Recorder(nn.Module):
    """A raw network F(x, c) = tanh(x) + 3 c + 1, which keeps what it was given."""

    def forward(self, x, c_noise, label=None):
        self.x, self.c_noise, self.label = x, c_noise, label
        return torch.tanh(x) + 3 * c_noise.view(-1, *[1] * (x.ndim - 1)) + 1


def noisy(batch, *shape, seed=0, dtype=torch.float32):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=gen, dtype=dtype), torch.rand(batch, generator=gen) * 80 + 0.002


# Value from the paper


def check_root_two(implementation):
    assert float(implementation(torch.tensor(0.5), 0.5)) == pytest.approx(math.sqrt(2), rel=1e-6)


def test_trap_5_c_in_at_half_is_root_two():
    check_root_two(c_in)
    with pytest.raises(AssertionError):
        check_root_two(mistakes.c_in_without_root)


def test_printed_values():
    low, high = torch.tensor(0.002), torch.tensor(80.0)
    assert (float(c_skip(low, 0.5, 0.002)), float(c_out(low, 0.5, 0.002))) == (1.0, 0.0)
    assert float(c_skip(high, 0.5, 0.002)) == pytest.approx(3.906e-5, rel=1e-3)
    assert float(c_out(high, 0.5, 0.002)) == pytest.approx(0.5, rel=1e-4)
    assert float(c_noise(torch.tensor(1.0))) == 0
    assert float(c_noise(torch.tensor(math.e**4))) == pytest.approx(1)


# Invariant


def check_boundary(implementation):
    for sigma_data in (0.5, 1.0, 3.0):
        x, _ = noisy(4, 3, 4, 4)
        made = implementation(Recorder(), sigma_data, 0.002)(x, 0.002)
        torch.testing.assert_close(made, x, rtol=1e-6, atol=1e-6)


def test_trap_5_the_output_is_the_input_at_sigma_min_for_any_network():
    check_boundary(ConsistencyModel)
    with pytest.raises(AssertionError):
        check_boundary(mutants.BareOutputScale)


def test_the_boundary_is_exact_for_the_papers_constants():
    x, _ = noisy(4, 2)
    assert torch.equal(ConsistencyModel(Recorder())(x, 0.002), x)


def check_what_the_network_is_given(implementation):
    for sigma in (0.002, 0.1, 0.5, 3.0, 80.0):
        gen, network = torch.Generator().manual_seed(1), Recorder()
        x = 0.5 * torch.randn(4, 10_000, generator=gen) + sigma * torch.randn(4, 10_000, generator=gen)
        implementation(network)(x, sigma)
        assert float(network.x.var()) == pytest.approx(1, abs=0.05)
        assert network.c_noise.tolist() == pytest.approx([math.log(sigma) / 4] * 4, rel=1e-5)


def test_trap_4_the_input_has_variance_one_and_the_level_is_a_quarter_of_its_logarithm():
    check_what_the_network_is_given(ConsistencyModel)
    for mutant in (mutants.UnscaledInput, mutants.RawNoiseLevel):
        with pytest.raises(AssertionError):
            check_what_the_network_is_given(mutant)


def test_the_share_of_the_input_falls_and_that_of_the_network_rises():
    sigma = torch.logspace(-2.6, 1.9, 200, dtype=torch.float64)
    assert (c_skip(sigma, 0.5, 0.002).diff() < 0).all()
    assert (c_out(sigma, 0.5, 0.002).diff() > 0).all()


# Independent slow reference


def slow_model(x, sigma, sigma_data, sigma_min):
    """One number at a time."""
    skip = sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)
    out = sigma_data * (sigma - sigma_min) / math.sqrt(sigma**2 + sigma_data**2)
    raw = math.tanh(x / math.sqrt(sigma**2 + sigma_data**2)) + 3 * math.log(sigma) / 4 + 1
    return skip * x + out * raw


@pytest.mark.parametrize(("sigma_data", "sigma_min"), [(0.5, 0.002), (1.7, 0.1)])
def test_against_one_number_at_a_time(sigma_data, sigma_min):
    sigmas = [sigma_min, 0.3, 2.0, 80.0]
    x, _ = noisy(4, 2, 3, dtype=torch.float64)
    made = ConsistencyModel(Recorder(), sigma_data, sigma_min)(x, torch.tensor(sigmas))
    for i, sigma in enumerate(sigmas):
        expected = [slow_model(v, sigma, sigma_data, sigma_min) for v in x[i].flatten().tolist()]
        assert made[i].flatten().tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 4, 6)])
def test_points_and_images(shape):
    x, sigma = noisy(5, *shape)
    assert ConsistencyModel(Recorder())(x, sigma).shape == x.shape


def test_one_level_for_all_or_one_a_sample():
    x, _ = noisy(3, 2)
    model = ConsistencyModel(Recorder())
    for sigma in (torch.tensor(0.7), torch.full((3,), 0.7), torch.full((3,), 0.7, dtype=torch.float64)):
        assert torch.equal(model(x, sigma), model(x, 0.7))


def test_a_sample_does_not_see_the_others():
    x, sigma = noisy(6, 3, 4, 4)
    model = ConsistencyModel(Recorder())
    torch.testing.assert_close(model(x, sigma), torch.cat([model(x[i : i + 1], sigma[i : i + 1]) for i in range(6)]))


def test_the_label_reaches_the_network():
    x, sigma = noisy(3, 2)
    network, label = Recorder(), torch.tensor([2, 0, 1])
    ConsistencyModel(network)(x, sigma, label)
    assert network.label is label


def test_no_parameter_but_the_networks():
    network = nn.Linear(2, 2)
    assert {id(p) for p in ConsistencyModel(network).parameters()} == {id(p) for p in network.parameters()}


# Errors and gradients


@pytest.mark.parametrize("shape", [(2,), (3, 1), (0,)])
def test_a_level_of_the_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\(\) or \[batch\]"):
        ConsistencyModel(Recorder())(torch.zeros(3, 2), torch.ones(shape))


@pytest.mark.parametrize("constants", [(0.0, 0.002), (-0.5, 0.002), (0.5, 0.0), (0.5, -1.0)])
def test_constants_that_are_not_positive_are_refused(constants):
    with pytest.raises(ValueError, match=re.escape(f"sigma_data, sigma_min is {constants}")):
        ConsistencyModel(Recorder(), *constants)


def test_gradients_of_model_and_scalings_against_finite_differences():
    x, _ = noisy(3, 2, dtype=torch.float64)
    sigma = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64, requires_grad=True)
    model = ConsistencyModel(Recorder())
    assert torch.autograd.gradcheck(lambda x: model(x, sigma.detach()), x.requires_grad_())
    for name, constants in (("c_skip", (0.5, 0.002)), ("c_out", (0.5, 0.002)), ("c_in", (0.5,)), ("c_noise", ())):
        assert torch.autograd.gradcheck(lambda s, n=name, c=constants: getattr(consistency, n)(s, *c), sigma)
