"""Randomness as a function: `ict_lib.training.streams`."""

import itertools
import time

import numpy as np
import pytest
import torch

from ict_lib.training.streams import stream


def draws(*numbers, num=64):
    return torch.randn(num, generator=stream(*numbers))


# Value: the same bits, everywhere and always


def test_the_seed_is_numpys_for_a_child_of_the_runs_seed():
    children = np.random.SeedSequence(7).spawn(4)[3].spawn(3)
    assert stream(7, 3, 2).initial_seed() == int(children[2].generate_state(1, np.uint64)[0])


# Invariant


def test_the_same_numbers_give_the_same_draws_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    assert torch.equal(draws(5, 6, 7), draws(5, 6, 7))
    assert torch.equal(draws(5, 6), draws(5, 6, 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_two_streams_are_alike():
    """Also where one number is a large one and the others small: 2**32 is 0 and 1 in numbers of 32 bits."""
    numbers = (0, 1, 2, 2**31, 2**32)
    streams = [draws(*some) for some in itertools.product(numbers, numbers[:3], numbers[:3])]
    assert len(torch.stack(streams).unique(dim=0)) == len(streams) == 45
    assert not torch.equal(draws(0, 0), draws(2**32, 0))
    assert not torch.equal(draws(2**32, 0), draws(0, 1))


# Reference: neighbouring streams are as independent as the draws of one stream


def test_neighbours_are_uncorrelated():
    table = torch.stack([draws(0, step, shard, num=1000) for step in range(20) for shard in range(2)]).double()
    off = torch.corrcoef(table)[~torch.eye(40, dtype=torch.bool)]
    assert off.abs().max() < 5 / 1000**0.5
    assert off.square().mean() == pytest.approx(1 / 1000, rel=0.2)


# Shapes and cost


def test_a_stream_costs_less_than_a_millisecond():
    times = []
    for step in range(50):
        start = time.perf_counter()
        stream(0, step)
        times.append(time.perf_counter() - start)
    assert sorted(times)[25] < 1e-3


# Errors


@pytest.mark.parametrize(("numbers", "name"), [((-1, 0, 0), "seed"), ((0, -1, 0), "step"), ((0, 0, -1), "shard")])
def test_negative_numbers_are_refused(numbers, name):
    with pytest.raises(ValueError, match=f"{name} is -1: {name} >= 0 is needed"):
        stream(*numbers)
