"""LPIPS in `ict_lib.techniques.distance`, with a tiny network. The real one is in test_networks_perceptual.py."""

import pytest
import torch
from torch import nn

from ict_lib.techniques.distance import lpips


class Recorder(nn.Module):
    """Stands for the LPIPS network: keeps what it was given, and returns the mean square of the difference."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, y):
        self.seen.append((x, y))
        return (x - y).square().mean(dim=(1, 2, 3), keepdim=True)


def images(batch, channels, size, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.rand(batch, channels, size, size, generator=gen) - 1 for _ in range(2))


# Value from the paper of CT: images are resized to 224 by 224


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 64])
def test_the_network_gets_three_channels_of_224_by_224(channels, size):
    network = Recorder()
    lpips(*images(2, channels, size), network)
    assert [z.shape for z in network.seen[0]] == [(2, 3, 224, 224)] * 2


# Invariant


def test_grey_images_fill_the_channels_with_copies_of_themselves():
    network = Recorder()
    lpips(*images(2, 1, 8), network)
    x, _ = network.seen[0]
    assert torch.equal(x[:, 0], x[:, 1])
    assert torch.equal(x[:, 0], x[:, 2])


def test_the_range_is_kept_and_the_order_too():
    network = Recorder()
    lpips(torch.full((1, 3, 32, 32), -1.0), torch.full((1, 3, 32, 32), 0.75), network)
    x, y = network.seen[0]
    torch.testing.assert_close(x, torch.full((1, 3, 224, 224), -1.0))
    torch.testing.assert_close(y, torch.full((1, 3, 224, 224), 0.75))


# Independent slow reference


def slow_resize(row, size):
    """Bilinear interpolation between the centres of pixels, in one dimension."""
    made = []
    for i in range(size):
        place = min(max((i + 0.5) * len(row) / size - 0.5, 0), len(row) - 1)
        left = min(int(place), len(row) - 2)
        made.append(row[left] + (place - left) * (row[left + 1] - row[left]))
    return made


def test_the_resize_against_a_loop():
    network, (x, y) = Recorder(), images(1, 1, 8)
    lpips(x, y, network)
    rows = [slow_resize(row, 224) for row in x[0, 0].tolist()]
    both = list(zip(*(slow_resize(list(column), 224) for column in zip(*rows, strict=True)), strict=True))
    torch.testing.assert_close(network.seen[0][0][0, 0], torch.tensor(both), rtol=1e-5, atol=1e-5)


# Shapes, dtypes, batch independence


def test_one_number_a_sample_whatever_the_others_are():
    x, y = images(3, 3, 16)
    together = lpips(x, y, Recorder())
    assert together.shape == (3,)
    alone = torch.cat([lpips(x[i : i + 1], y[i : i + 1], Recorder()) for i in range(3)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_the_network_gets_float32_whatever_the_training_is_in(dtype):
    network, (x, y) = Recorder(), (z.to(dtype) for z in images(2, 3, 8))
    assert lpips(x, y, network).dtype == torch.float32
    assert {z.dtype for z in network.seen[0]} == {torch.float32}


def check_float32_under_autocast(distance):
    """A matrix product would be in bfloat16, with 8 bits, and its result too."""
    seen = []

    def network(x, y):
        seen.append((x.flatten(1) @ x.flatten(1).T).dtype)
        return (x - y).flatten(1).square().sum(dim=1).reshape(-1, 1, 1, 1)

    x, y = images(2, 1, 8)
    expected = distance(x, y, network)
    with torch.autocast("cpu", torch.bfloat16):
        found = distance(x, y, network)
        assert torch.is_autocast_enabled("cpu")
    assert seen == [torch.float32] * 2
    assert torch.equal(found, expected)


def test_autocast_does_not_reach_the_network():
    check_float32_under_autocast(lpips)
    with pytest.raises(AssertionError):
        check_float32_under_autocast(lambda x, y, network: network(x, y).flatten(1).mean(dim=1))


# Errors and gradients


@pytest.mark.parametrize(("x", "y"), [((2, 3, 8, 8), (2, 1, 8, 8)), ((2, 4, 8, 8),) * 2, ((2, 2), (2, 2))])
def test_what_are_no_two_equal_images_is_refused(x, y):
    with pytest.raises(ValueError, match=r"\[batch, 1 or 3, height, width\]"):
        lpips(torch.zeros(x), torch.zeros(y), Recorder())


def test_the_gradient_reaches_the_images():
    x, y = images(2, 1, 8)
    x.requires_grad_()
    lpips(x, y, Recorder()).sum().backward()
    assert (x.grad.flatten(1).norm(dim=1) > 0).all()
