"""How finely the network is told the noise level: `ict_lib.techniques.embedding`."""

import copy
import math

import pytest
import torch

from ict_lib.techniques.embedding import FourierFeatures, positional


def fourier(num_channels=64, scale=16.0, seed=0):
    return FourierFeatures(num_channels, scale, torch.Generator().manual_seed(seed))


def speed(features, c_noise):
    """Change of every feature for a unit of c_noise, by central differences."""
    step = 1e-6
    return (features(c_noise + step) - features(c_noise - step)) / (2 * step)


# Value from the paper


def test_the_top_frequency_of_adm_is_250_radians_for_a_unit_of_the_logarithm():
    """c_noise is ln(sigma) / 4, and the features are [cos, sin]; the first sine at 0 moves as fast as its angle."""
    sine = 16 // 2
    change = speed(lambda c: positional(c, 16, scale=1000.0), torch.zeros(1, dtype=torch.float64))[0, sine]
    assert float(change) / 4 == pytest.approx(250, rel=1e-4)


@pytest.mark.parametrize(("scale", "radians"), [(0.02, 0.0314), (16.0, 25.1)])
def test_the_typical_frequency_of_fourier_features(scale, radians):
    """Sines at 0 move by their angle: 2 pi s / 4 for a unit of ln(sigma), in the root of the mean square."""
    sines = speed(fourier(20_000, scale), torch.zeros(1, dtype=torch.float64))[0, :10_000]
    assert float(sines.square().mean().sqrt()) / 4 == pytest.approx(radians, rel=0.03)


# Invariant


def test_the_scale_is_a_dial_on_the_conditioning_number():
    c_noise = torch.linspace(-1.5, 1.1, 50, dtype=torch.float64)
    coarse, fine = fourier(scale=0.02), fourier(scale=16.0)
    torch.testing.assert_close(fine(c_noise), coarse(800 * c_noise), rtol=1e-4, atol=1e-4)
    assert speed(fine, c_noise).norm() > 200 * speed(coarse, c_noise).norm()


@pytest.mark.parametrize("features", [fourier(), lambda c: positional(c, 64)])
def test_every_sine_has_its_cosine(features):
    c_noise = torch.linspace(-1.5, 1.1, 50, dtype=torch.float64)
    torch.testing.assert_close(features(c_noise).square().sum(1), torch.full_like(c_noise, 32.0), rtol=1e-5, atol=0)


def test_neighbouring_levels_look_alike_at_the_low_scale_only():
    """Neighbours at N = 1281 differ by 0.005 in c_noise at most: nothing at scale 0.02, another place at 16."""
    c_noise = torch.tensor([0.5, 0.505], dtype=torch.float64)
    apart = {scale: float(fourier(scale=scale)(c_noise).diff(dim=0).abs().max()) for scale in (0.02, 16.0)}
    assert apart[0.02] < 0.002
    assert apart[16.0] > 0.5


def test_the_frequencies_are_fixed_saved_and_not_trained():
    module = fourier()
    assert not list(module.parameters())
    assert torch.equal(copy.deepcopy(module).frequencies, module.frequencies)
    other = fourier(seed=1)
    other.load_state_dict(module.state_dict())
    c_noise = torch.linspace(-1, 1, 5)
    assert torch.equal(other(c_noise), module(c_noise))


def test_the_generator_decides_the_frequencies():
    assert torch.equal(fourier(seed=3).frequencies, fourier(seed=3).frequencies)
    assert not torch.equal(fourier(seed=3).frequencies, fourier(seed=4).frequencies)


# Independent slow reference


def test_fourier_against_a_loop():
    module, c_noise = fourier(6, 0.7), [-1.5, 0.0, 0.9]
    frequencies = [0.7 * w for w in torch.randn(3, generator=torch.Generator().manual_seed(0)).tolist()]
    expected = [
        [math.sin(2 * math.pi * w * c) for w in frequencies] + [math.cos(2 * math.pi * w * c) for w in frequencies]
        for c in c_noise
    ]
    torch.testing.assert_close(module(torch.tensor(c_noise)), torch.tensor(expected))


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_positional_against_a_loop(scale):
    c_noise, half = [-1.5, 0.0, 0.25], 4
    rates = [10_000 ** (-j / half) for j in range(half)]
    expected = [[math.cos(w * scale * c) for w in rates] + [math.sin(w * scale * c) for w in rates] for c in c_noise]
    torch.testing.assert_close(
        positional(torch.tensor(c_noise), 8, scale), torch.tensor(expected), rtol=1e-4, atol=2e-4
    )


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("features", [fourier(10), lambda c: positional(c, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_batch_independence(features, dtype):
    c_noise = torch.linspace(-1.5, 1.1, 7, dtype=dtype)
    made = features(c_noise)
    assert made.shape == (7, 10)
    assert made.dtype == dtype
    torch.testing.assert_close(made, torch.cat([features(c[None]) for c in c_noise]))


# Errors and gradients


@pytest.mark.parametrize("num_channels", [0, 1, 7])
def test_an_odd_number_of_channels_is_refused(num_channels):
    with pytest.raises(ValueError, match=f"num_channels is {num_channels}"):
        FourierFeatures(num_channels, 16.0)
    with pytest.raises(ValueError, match=f"num_channels is {num_channels}"):
        positional(torch.zeros(1), num_channels)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_that_is_not_positive_is_refused(scale):
    with pytest.raises(ValueError, match=f"scale is {scale}"):
        FourierFeatures(8, scale)


@pytest.mark.parametrize("features", [fourier(8, 0.5).double(), lambda c: positional(c, 8)])
def test_gradients_against_finite_differences(features):
    c_noise = torch.tensor([-1.2, 0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(features, c_noise, atol=1e-4)
