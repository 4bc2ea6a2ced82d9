"""Zero-shot editing of a trained model: `ict_lib.editing`."""

import math

import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.editing import colourise, denoise, edit, inpaint, interpolate, redraw, super_resolve
from ict_lib.networks.mlp import ResidualMLP
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


# The other edits


class Smooth(ConsistencyModel):
    """Answers with images whose pixels are the mean of each row of the noisy ones: a model that leaves a trace."""

    def __init__(self):
        super().__init__(torch.nn.Linear(1, 1))

    def forward(self, x, sigma, label=None):
        return x.mean(dim=-1, keepdim=True).expand_as(x) + 0.1 * x


def test_an_edit_denoises_and_then_keeps_level_by_level():
    start, source = pictures(), gen(1)
    found = edit(Smooth(), start, lambda x: x.clamp(-1, 1), LEVELS, gen(1))
    x = start
    for n, sigma in enumerate(LEVELS):
        noise = torch.randn(start.shape, generator=source)
        noisy = x + (math.sqrt(sigma**2 - 0.002**2) if n else sigma) * noise
        x = (noisy.mean(dim=-1, keepdim=True) + 0.1 * noisy).clamp(-1, 1)
    torch.testing.assert_close(found, x)


def test_large_images_have_the_small_ones_as_their_means_and_the_models_detail():
    small = pictures(shape=(2, 3, 4))
    large = super_resolve(Smooth(), small, 2, LEVELS, gen(1))
    assert large.shape == (3, 2, 6, 8)
    means = large.view(3, 2, 3, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(means, small, atol=2e-5, rtol=0)
    assert float(large.unflatten(3, (4, 2)).diff(dim=4).abs().max()) > 1e-3  # not all repeated pixels


def test_super_resolution_projects_as_a_mask_in_other_coordinates_does():
    """CT's own form: rotate every square so that its mean is one coordinate, and put that one back."""
    model, small = Smooth(), pictures(shape=(1, 2, 2))
    turn = torch.linalg.qr(torch.cat([torch.ones(4, 1), torch.eye(4)[:, :3]], dim=1)).Q.T
    turn = turn * turn[0, 0].sign()  # first row: 1/2 each, so the coordinate is twice the mean
    squares = lambda x: x.view(3, 2, 2, 2, 2).transpose(2, 3).reshape(3, 2, 2, 4)  # noqa: E731
    source, x = gen(1), small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for n, sigma in enumerate(LEVELS):
        noise = torch.randn(x.shape, generator=source)
        answer = model(x + (math.sqrt(sigma**2 - 0.002**2) if n else sigma) * noise, sigma)
        turned = squares(answer) @ turn.T
        turned[..., 0] = 2 * small[:, 0]
        x = (turned @ turn).view(3, 2, 2, 2, 2).transpose(2, 3).reshape(3, 1, 4, 4)
    torch.testing.assert_close(super_resolve(model, small, 2, LEVELS, gen(1)), x, atol=1e-4, rtol=1e-4)


def test_colours_have_the_grey_image_as_their_mean():
    grey = pictures()
    coloured = colourise(Smooth(), grey, LEVELS, gen(1))
    assert coloured.shape == (3, 3, 4, 4)
    torch.testing.assert_close(coloured.mean(dim=1, keepdim=True), grey, atol=2e-5, rtol=0)
    assert float(coloured.std(dim=1).max()) > 1e-3


def test_to_redraw_is_the_second_step_of_sampling_but_for_the_lowest_noise():
    images, z = pictures(), torch.randn(3, 1, 4, 4, generator=gen(1))
    torch.testing.assert_close(redraw(Smooth(), images, 0.8, gen(1)), Smooth()(images + 0.8 * z, 0.8))
    torch.testing.assert_close(redraw(PointMass(), images, 80.0), torch.full_like(images, XI), atol=0.02, rtol=0)


def test_denoising_is_one_answer_without_dropout():
    model, images = PointMass().train(), pictures()
    torch.testing.assert_close(denoise(model, images, 0.8), XI + 0.002 / 0.8 * (images - XI))
    assert model.training
    assert model.asked[0][3] is False


def test_interpolation_keeps_its_ends_and_the_size_of_the_noise():
    first, second = (torch.randn(1, 40, 40, generator=gen(seed)) for seed in (1, 2))

    class Identity(PointMass):
        def forward(self, x, sigma, label=None):
            return x

    walk = interpolate(Identity(), first, second, 5) / 80
    torch.testing.assert_close(walk[0], first)
    torch.testing.assert_close(walk[-1], second)
    assert walk.flatten(1).std(dim=1).tolist() == pytest.approx([1.0] * 5, abs=0.06)
    torch.testing.assert_close(walk[2], (first + second) / math.sqrt(2))


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda m, x: edit(m, x, abs, ()), "sigmas"),
        (lambda m, x: super_resolve(m, x, 1, LEVELS), "factor"),
        (lambda m, x: super_resolve(m, x[0], 2, LEVELS), "small"),
        (lambda m, x: colourise(m, x.expand(-1, 2, -1, -1), LEVELS), "grey"),
        (lambda m, x: denoise(m, x, 0.001), "sigmas"),
        (lambda m, x: interpolate(m, x[0], x[0], 1), "num"),
        (lambda m, x: interpolate(m, x[0], x[0, 0], 3), "shapes"),
    ],
)
def test_what_an_edit_cannot_be_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call(PointMass(), pictures())


@pytest.mark.parametrize(
    "call",
    [
        lambda m, x, *label: sample(m, 3, (1, 4, 4), LEVELS, gen(), *label),
        lambda m, x, *label: redraw(m, x, 1.0, gen(), *label),
        lambda m, x, *label: denoise(m, x, 1.0, *label),
        lambda m, x, *label: interpolate(m, x[0], x[1], 3, 80.0, *label),
    ],
)
def test_a_model_with_classes_is_not_asked_without_one(call):
    model = ConsistencyModel(ResidualMLP((1, 4, 4), 0.02, num_classes=5, width=16, blocks=1))
    with pytest.raises(
        ValueError, match="label is None: a class for each sample, of this model with classes, is needed"
    ):
        call(model, pictures())
    assert call(model, pictures(), torch.arange(3)).shape == (3, 1, 4, 4)
