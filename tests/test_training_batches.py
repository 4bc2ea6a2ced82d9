"""Batches: `ict_lib.training.batches`."""

from itertools import pairwise

import pytest
import torch

from ict_lib.data import load_dataset, stand_in
from ict_lib.data.dataset import Dataset
from ict_lib.group import Alone
from ict_lib.training.batches import Batches
from ict_lib.training.streams import stream
from tests.test_training_loop import small

CPU = torch.device("cpu")


class Pretended(Alone):
    """One of several processes."""

    def __init__(self, rank, processes):
        self.rank, self.processes = rank, processes


class Watched(Dataset):
    """A data set that notes what it is asked for, in order."""

    def batch(self, indices, *rest):
        self.asked.append(("read", indices.tolist()))
        return super().batch(indices, *rest)

    def prefetch(self, indices):
        self.asked.append(("next", indices.tolist()))


def batches(settings, data=None, seed=0, rank=0, processes=1):
    return Batches(data or load_dataset("digits"), settings, seed, Pretended(rank, processes), CPU)


def drawn(shard):
    """All that is random in a shard, or follows from what is left in its generator."""
    return [shard.x, shard.label, torch.rand(9, generator=shard.generator)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(drawn(a), drawn(b), strict=True))


# Invariant: seed, step and number of the shard decide what is in it


@pytest.mark.parametrize("processes", [2, 4])
def test_what_is_in_a_batch_does_not_depend_on_the_number_of_processes(processes):
    settings, data = small(micro_batch=1, conditional=True), stand_in("cifar10", 50)  # its images are mirrored
    alone = batches(settings, data)
    ranks = [batches(settings, data, 0, rank, processes) for rank in range(processes)]
    for step in range(3):
        whole, parts = list(alone(step)), [list(one(step)) for one in ranks]
        assert [len(part) for part in parts] == [8 // processes] * processes
        for number, shard in enumerate(whole):
            assert same(shard, parts[number % processes][number // processes])
            assert shard.share == 1 / 8


def test_a_step_begun_with_is_the_same_as_one_that_is_reached():
    settings = small(micro_batch=4, conditional=True)
    through, later = batches(settings), batches(settings)
    for step in range(5):
        reached = list(through(step))
    for a, b in zip(reached, later(4), strict=True):
        assert same(a, b)


def test_seeds_steps_and_shards_differ():
    settings = small(micro_batch=4)
    firsts = [shard.x for seed in (0, 1, 2**32) for step in (0, 1) for shard in batches(settings, seed=seed)(step)]
    assert len(torch.stack(firsts).unique(dim=0)) == 12


def test_every_sample_is_as_likely():
    ten = Dataset(torch.linspace(-1, 1, 10).view(10, 1, 1, 1), torch.arange(10), 10, "ten")
    one = batches(small(batch_size=1000, micro_batch=500), ten)
    seen = torch.cat([shard.x.flatten() for step in range(10) for shard in one(step)])
    counts = seen.unique(return_counts=True)[1]
    assert len(counts) == 10
    assert (counts - 1000).abs().max() < 5 * 900**0.5


# Reference: written out


def test_against_the_stream_written_out():
    data = load_dataset("digits")
    for number, shard in enumerate(batches(small(micro_batch=4, conditional=True), seed=3)(7)):
        chosen = torch.randint(1797, (4,), generator=stream(3, 7, number))
        assert torch.equal(shard.x, data.images[chosen])
        assert torch.equal(shard.label, data.labels[chosen])


def test_no_shard_is_drawn_twice_and_each_is_read_while_the_one_before_is_in_use():
    data = load_dataset("digits")
    data = Watched(data.pixels, data.labels, data.num_classes, data.name)
    object.__setattr__(data, "asked", [])
    draw = batches(small(micro_batch=4), data)
    for step in range(3):
        for _ in draw(step):
            assert data.asked[-1][0] == "next"
    read = [chosen for kind, chosen in data.asked if kind == "read"]
    ahead = [chosen for kind, chosen in data.asked if kind == "next"]
    assert len(read) == len(ahead) == 6
    assert ahead[:-1] == read[1:]
    assert all(a != b for a, b in pairwise(read))


# Shapes


def test_labels_are_given_if_the_run_is_conditional():
    (shard,) = batches(small())(0)
    assert shard.x.shape == (8, 1, 8, 8)
    assert shard.label is None
    (shard,) = batches(small(conditional=True))(0)
    assert shard.label.shape == (8,)


# Errors


@pytest.mark.parametrize(
    ("changes", "processes", "said"),
    [
        ({}, 2, "a batch of 8 in shards of 8 cannot be shared by 2 processes: micro_batch=4 would fit"),
        ({"batch_size": 12, "micro_batch": 4}, 2, "micro_batch=3 would fit"),
        ({"micro_batch": 4}, 3, "batch_size must be a multiple of 3"),
    ],
)
def test_a_batch_that_cannot_be_shared_equally_is_refused(changes, processes, said):
    with pytest.raises(ValueError, match=said):
        batches(small(**changes), processes=processes)
