"""Random bytes in the form of a data set: `ict_lib.data.stand_in`."""

import pytest
import torch

from ict_lib.data import DATASETS, digits
from ict_lib.data.stand_in import FORMS, stand_in


def test_the_forms_are_those_of_the_real_sets():
    assert set(FORMS) == set(DATASETS)
    assert FORMS["cifar10"][:2] == (50_000, (3, 32, 32))
    assert FORMS["imagenet64"][:2] == (1_281_167, (3, 64, 64))
    real = digits.load()
    assert FORMS["digits"] == (len(real), real.shape, real.num_classes, real.flip)


@pytest.mark.parametrize("name", FORMS)
def test_a_stand_in_has_that_form_and_every_byte_is_as_likely(name):
    made = stand_in(name, 300)
    assert (made.shape, made.num_classes, made.flip) == FORMS[name][1:]
    assert len(made) == 300
    assert made.pixels.float().mean().item() == pytest.approx(127.5, abs=3)
    assert torch.equal(made.pixels, stand_in(name, 300).pixels)


def test_without_a_number_it_is_as_large_as_the_real_one():
    assert len(stand_in("digits")) == 1797


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'cifar10'"):
        stand_in("cifar")
