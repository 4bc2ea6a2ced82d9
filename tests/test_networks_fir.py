"""Resampling with a smoothing filter: `ict_lib.networks.fir`."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ict_lib.networks.fir import FIRConvDownsample, FIRDownsample, FIRSmooth, FIRUpsample
from tests import slow_unet


def images(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Value from the paper


def test_the_filter_is_1_3_3_1_along_each_side():
    x = torch.zeros(1, 1, 2, 2)
    x[0, 0, 0, 0] = 64.0
    found = FIRSmooth()(x)[0, 0]
    assert found.tolist() == [[9, 9, 3], [9, 9, 3], [3, 3, 1]]  # the rest of 1, 3, 3, 1 lies outside


def test_one_bright_position_is_spread_over_four_by_four():
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 1] = 16.0
    made = FIRUpsample()(x)[0, 0]
    assert made[1:5, 1:5].tolist() == [[1, 3, 3, 1], [3, 9, 9, 3], [3, 9, 9, 3], [1, 3, 3, 1]]
    assert float(made.sum()) == 64  # a position becomes four


# Invariant


@pytest.mark.parametrize("layer", [FIRDownsample(), FIRUpsample()])
def test_a_constant_stays_itself_but_at_the_border(layer):
    made = layer(torch.full((1, 2, 8, 8), 3.0))[0, 0]
    torch.testing.assert_close(made[1:-1, 1:-1], torch.full_like(made[1:-1, 1:-1], 3.0))
    assert (made[0] < 3).all()
    assert (made[:, -1] < 3).all()


def test_at_the_border_the_zeros_outside_weigh_an_eighth_or_a_quarter():
    one = torch.ones(1, 1, 8, 8)
    assert float(FIRDownsample()(one)[0, 0, 0, 2]) == 7 / 8
    assert float(FIRUpsample()(one)[0, 0, 0, 4]) == 3 / 4


def test_up_is_four_times_the_transpose_of_down():
    down, up = FIRDownsample().double(), FIRUpsample().double()
    x, y = images(1, 3, 8, 6), images(1, 3, 4, 3, seed=1)
    torch.testing.assert_close((up(y) * x).sum(), 4 * (y * down(x)).sum())


def test_the_finest_pattern_is_taken_out_and_not_folded_into_a_constant():
    """Alternating signs: every second position alone would be a constant, which is aliasing."""
    x = torch.ones(1, 1, 8, 8)
    x[..., ::2] = -1
    assert float(FIRDownsample()(x)[0, 0, 1:-1, 1:-1].abs().max()) == 0


def test_turning_the_image_turns_the_result():
    x = images(1, 2, 8, 8)
    for layer in (FIRDownsample().double(), FIRUpsample().double()):
        torch.testing.assert_close(layer(x.rot90(1, (2, 3))), layer(x).rot90(1, (2, 3)))


# Independent slow reference


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 1, 2, 6), (1, 5, 4, 2)])
def test_against_zeros_taps_and_every_second_position(shape):
    x = images(*shape)
    np.testing.assert_allclose(FIRDownsample().double()(x), slow_unet.fir_down(x.numpy()), atol=1e-12)
    np.testing.assert_allclose(FIRUpsample().double()(x), slow_unet.fir_up(x.numpy()), atol=1e-12)


TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
CONVOLUTIONS = {  # as one grouped convolution each
    "down": (FIRDownsample(), lambda x, k: F.conv2d(x, k, stride=2, padding=1, groups=x.shape[1])),
    "up": (FIRUpsample(), lambda x, k: F.conv_transpose2d(x, 4 * k, stride=2, padding=1, groups=x.shape[1])),
    "smooth": (FIRSmooth(), lambda x, k: F.conv2d(x, k, padding=2, groups=x.shape[1])),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_values_and_gradients_are_those_of_a_convolution(name, dtype, layout):
    layer, convolve = CONVOLUTIONS[name]
    x = images(2, 5, 8, 6).to(dtype, memory_format=layout).requires_grad_()
    kernel = torch.outer(TAPS, TAPS).to(dtype).expand(5, 1, 4, 4)
    found, expected = layer(x), convolve(x, kernel)
    rounding = {"rtol": 0, "atol": 1e-6 if dtype == torch.float32 else 1e-14}
    torch.testing.assert_close(found, expected, **rounding)
    assert found.is_contiguous(memory_format=layout)
    slopes = [torch.autograd.grad(made.square().sum(), x)[0] for made in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=0, atol=10 * rounding["atol"])


def test_the_convolution_of_the_pyramid_sees_the_smoothed_image():
    layer, x = FIRConvDownsample(3, 5).double(), images(2, 3, 8, 6)
    w = {f"pyramid.{key}": value for key, value in slow_unet.weights_of(layer).items()}
    np.testing.assert_allclose(layer(x).detach(), slow_unet.fir_conv_down(w, "pyramid", x.numpy()), atol=1e-12)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize(
    ("layer", "shape"), [(FIRDownsample(), (4, 3)), (FIRUpsample(), (16, 12)), (FIRConvDownsample(2, 2), (4, 3))]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_shape_and_dtype(layer, shape, dtype):
    made = layer.to(dtype)(torch.ones(2, 2, 8, 6, dtype=dtype))
    assert (made.shape, made.dtype) == ((2, 2, *shape), dtype)


def test_channels_and_samples_do_not_mix():
    x = images(3, 4, 8, 8)
    for layer in (FIRDownsample().double(), FIRUpsample().double()):
        apart = torch.stack([torch.cat([layer(x[b : b + 1, c : c + 1])[0] for c in range(4)]) for b in range(3)])
        torch.testing.assert_close(layer(x), apart)


# Errors and gradients


def test_the_filter_is_no_parameter_and_no_part_of_the_weights():
    for layer in (FIRDownsample(), FIRUpsample()):
        assert list(layer.parameters()) == []
        assert layer.state_dict() == {}
    assert set(FIRConvDownsample(1, 2).state_dict()) == {"convolve.weight", "convolve.bias"}


def test_the_gradient_reaches_every_position():
    for layer in (FIRDownsample(), FIRUpsample(), FIRConvDownsample(1, 1)):
        x = torch.ones(1, 1, 6, 6, requires_grad=True)
        layer(x).square().sum().backward()
        assert (x.grad.abs() > 0).all()
