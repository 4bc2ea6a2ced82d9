"""What is known of each data set, and random bytes of that form: `ict_lib.data.DATASETS`, `stand_in`."""

from typing import get_args, get_type_hints

import pytest
import torch

from ict_lib.config import Run
from ict_lib.data import DATASETS, load_dataset, stand_in


def test_the_entries_are_the_published_sets_and_those_of_a_run():
    assert (DATASETS["cifar10"].num, DATASETS["cifar10"].shape) == (50_000, (3, 32, 32))
    assert (DATASETS["imagenet64"].num, DATASETS["imagenet64"].num_classes) == (1_281_167, 1000)
    real, entry = load_dataset("digits"), DATASETS["digits"]
    assert (entry.num, entry.shape, entry.num_classes, entry.flip) == (len(real), real.shape, 10, real.flip)
    assert all(entry.name == name for name, entry in DATASETS.items())
    assert set(get_args(get_type_hints(Run)["data"])) == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_a_stand_in_has_that_form_and_every_byte_is_as_likely(name):
    made, entry = stand_in(name, 300), DATASETS[name]
    assert (made.shape, made.num_classes, made.flip) == (entry.shape, entry.num_classes, entry.flip)
    assert len(made) == 300
    levels = (made.images + 1) * 127.5
    assert levels.mean().item() == pytest.approx(127.5, abs=3 if len(entry.shape) == 3 else 10)
    assert (levels.min(), levels.max()) == (0, 255) or len(entry.shape) == 1
    assert torch.equal(made.pixels, stand_in(name, 300).pixels)


def test_without_a_number_it_is_as_large_as_the_real_one():
    assert len(stand_in("digits")) == 1797


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        stand_in("cifar")
