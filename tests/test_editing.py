"""Zero-shot editing of a trained model: `ict_lib.editing`."""

import math

import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.editing import inpaint
from ict_lib.sampling import sample
from tests.test_sampling import XI, Noisy, PointMass, gen

LEVELS = (80.0, 5.0, 0.8)


def pictures(num=3, shape=(1, 4, 4), seed=5):
    return torch.randn(num, *shape, generator=gen(seed))


def some(images, seed=6):
    return torch.rand(images.shape, generator=gen(seed)) < 0.5


# Independent slow reference, pixel by pixel


class Correlated(ConsistencyModel):
    """Data whose pixels are all equal, to a value of variance 1: f is known, and a pixel learns from its neighbours."""

    def __init__(self, pixels, sigma_min=0.002):
        super().__init__(torch.nn.Linear(1, 1), 1.0, sigma_min)
        self.pixels = pixels

    def forward(self, x, sigma, label=None):
        d, low = self.pixels, self.sigma_min
        mean = x.mean(dim=1, keepdim=True)  # along (1, ..., 1) the data spread by sqrt(d), across not at all
        along = math.sqrt((d + low**2) / (d + float(sigma) ** 2))
        return along * mean + (low / float(sigma)) * (x - mean)


def test_each_level_adds_noise_denoises_and_puts_the_known_pixels_back():
    model, image, known = Correlated(3), [0.4, -9.0, 0.6], [True, False, True]
    given, mask = torch.tensor([image]), torch.tensor([known])
    filled = inpaint(model, given, mask, LEVELS, gen(1))
    source, x = gen(1), [0.4, 0.0, 0.6]
    for n, sigma in enumerate(LEVELS):
        noise = torch.randn(1, 3, generator=source)[0].tolist()
        spread = math.sqrt(sigma**2 - 0.002**2) if n else sigma
        noisy = [v + spread * z for v, z in zip(x, noise, strict=True)]
        answer = model(torch.tensor([noisy]), sigma)[0].tolist()
        x = [image[i] if known[i] else answer[i] for i in range(3)]
    assert filled[0].tolist() == pytest.approx(x, abs=1e-5)


# Invariant


def test_known_pixels_come_back_as_they_were_and_the_others_do_not_matter():
    images = pictures()
    known = some(images)
    filled = inpaint(PointMass(), images, known, LEVELS, gen())
    assert torch.equal(filled[known], images[known])
    other = images.where(known, torch.full_like(images, torch.nan))
    assert torch.equal(inpaint(PointMass(), other, known, LEVELS, gen()), filled)


def test_the_data_of_a_point_mass_are_found_wherever_the_pixels_are_unknown():
    images = torch.full((2, 3), XI)
    known = torch.tensor([True, False, False])
    torch.testing.assert_close(inpaint(PointMass(), images, known, LEVELS, gen()), images, rtol=0, atol=0.01)


def test_with_nothing_known_it_samples():
    images = pictures()
    nothing = torch.zeros(images.shape, dtype=torch.bool)
    filled = inpaint(PointMass(), images, nothing, LEVELS, gen(3))
    torch.testing.assert_close(filled, sample(PointMass(), 3, (1, 4, 4), LEVELS, gen(3)))


def test_more_levels_bring_the_unknown_pixels_nearer_to_the_known_ones():
    """One level answers from noise alone; with every further one the known pixels speak again."""
    model, known = Correlated(3), torch.tensor([True, False, True])
    images = torch.randn(500, 1, generator=gen(2)).expand(500, 3)
    errors = [
        float((inpaint(model, images, known, levels, gen(4)) - images)[:, 1].square().mean())
        for levels in ((80.0,), (80.0, 2.0), (80.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25))
    ]
    assert errors[0] > 1.0 > errors[1] > 4 * errors[2]


def test_the_model_is_put_back_as_it_was():
    model = ConsistencyModel(Noisy()).train()
    model.network.frozen.eval()
    inpaint(model, pictures(shape=(2,)), torch.tensor([True, False]), LEVELS)
    assert model.training
    assert model.network.frozen.training is False


# Shapes, labels


def test_images_keep_shape_and_dtype_and_each_its_label():
    model, images = PointMass(), pictures().double()
    filled = inpaint(model, images, torch.ones(4, 4, dtype=torch.bool), LEVELS, gen(), torch.arange(3))
    assert (filled.shape, filled.dtype, filled.requires_grad) == (images.shape, torch.float64, False)
    assert all(torch.equal(asked[2], torch.arange(3)) for asked in model.asked)


# Errors


@pytest.mark.parametrize("known", [torch.ones(3, 1, 4, 4), torch.ones(5, 1, 4, 4) > 0, torch.ones(3) > 0])
def test_a_mask_that_does_not_fit_is_refused(known):
    with pytest.raises(ValueError, match=r"known is .*bool, of the images' shape \[3, 1, 4, 4\]"):
        inpaint(PointMass(), pictures(), known, LEVELS)


@pytest.mark.parametrize("sigmas", [(), (1.0, 80.0), (80.0, 0.001)])
def test_levels_that_do_not_fall_are_refused(sigmas):
    with pytest.raises(ValueError, match=r"falling levels, none below sigma_min = 0\.002"):
        inpaint(PointMass(), pictures(), torch.ones(4, 4) > 0, sigmas)
