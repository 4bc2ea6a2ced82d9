"""The same dropout mask in student and teacher: `ict_lib.techniques.dropout`."""

import copy

import pytest
import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.techniques.dropout import Dropout, find_places, layers_of, shared_mask
from tests import mutants
from tests.test_networks import OPTIONS, build

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)
DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA])


class Drop(nn.Module):
    """Dropout alone, in as many layers as there are rates."""

    def __init__(self, *rates):
        super().__init__()
        self.layers = nn.Sequential(*map(Dropout, rates or (0.3,)))

    def forward(self, x, sigma, label=None):
        return self.layers(x)


def drawn_by(seed, device="cpu"):
    return torch.Generator(device).manual_seed(seed)


def dropped(seed, x, model=None):
    model = model or Drop()
    with shared_mask(drawn_by(seed, x.device), x, None, model):
        return model(x, 1.0)


def model_of(name, device="cpu"):
    """A network with random weights, and images for it."""
    images = torch.randn(4, 1, 8, 8, generator=drawn_by(0)).to(device)
    return ConsistencyModel(build(name)).to(device), images


# Value from the paper: one mask for both, on each device


@DEVICES
@pytest.mark.parametrize("name", OPTIONS)
def test_two_passes_drop_the_same_units(name, device):
    """Of one model, and of two that are alike; what else is drawn meanwhile does not matter."""
    (student, x), passes = model_of(name, device), []
    teacher = copy.deepcopy(student)
    with shared_mask(drawn_by(7, device), x, None, student, teacher):
        for model in (student, teacher, student):
            passes.append(model(x, 1.5))
            torch.rand(5, device=device)
    assert torch.equal(passes[0], passes[1])
    assert torch.equal(passes[0], passes[2])
    assert not torch.equal(passes[0], student(x, 1.5))  # and outside it is torch that draws


def check_masks_come_before_the_passes(sharing):
    """Whatever a device, or a compiler, does with random numbers: inside of a pass none is drawn."""
    model, x = model_of("small_unet")
    with sharing(drawn_by(7), x, None, model):
        state = torch.get_rng_state()
        model(x, 1.5)
        assert torch.equal(torch.get_rng_state(), state)


def test_trap_9_no_random_number_is_drawn_in_a_pass():
    check_masks_come_before_the_passes(shared_mask)
    with pytest.raises(AssertionError):
        check_masks_come_before_the_passes(mutants.cpu_only_mask)


# Invariant


@DEVICES
def test_the_mask_depends_on_the_generator_alone(device):
    masks, x = [], torch.ones(1000, 1, device=device)
    for seed, outside in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(outside)
        masks.append(dropped(seed, x))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@DEVICES
def test_what_comes_after_is_as_if_nothing_had_happened(device):
    def numbers(inside):
        torch.manual_seed(3)
        before = torch.rand(5, device=device)
        if inside:
            dropped(1, torch.ones(10, 3, device=device))
        return torch.cat([before, torch.rand(5, device=device)]).tolist(), torch.rand(5).tolist()

    assert numbers(inside=True) == numbers(inside=False)


def test_no_mask_stays_after_it_and_after_an_error():
    model, x = Drop(), torch.ones(4, 3)
    dropped(1, x, model)
    assert model.layers[0].mask is None
    with pytest.raises(KeyError), shared_mask(drawn_by(1), x, None, model):
        {}[model.layers[0].mask]
    assert model.layers[0].mask is None


def test_evaluation_drops_nothing_inside_of_it_either():
    x = torch.ones(4, 3)
    assert torch.equal(dropped(1, x, Drop().eval()), x)


def test_a_rate_of_zero_draws_nothing():
    x = torch.ones(1000, 3)
    assert torch.equal(dropped(5, x, Drop(0.0, 0.3, 0.0)), dropped(5, x, Drop(0.3)))


# Independent slow reference


@pytest.mark.parametrize("name", OPTIONS)
def test_on_a_cpu_values_and_gradients_are_torchs_own_to_the_last_bit(name):
    """Of the pass that draws its masks itself, from the state that the seed sets: as records were made."""
    found = []
    for own in (True, False):
        model, x = model_of(name)
        if own:
            torch.manual_seed(7)
            output = model(x, 1.5)
        else:
            with shared_mask(drawn_by(7), x, None, model):
                output = model(x, 1.5)
        output.square().sum().backward()
        found.append([output, *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)])
    assert all(map(torch.equal, *found))
    assert not torch.equal(found[0][0], model(x, 1.5))


def test_three_in_ten_are_dropped_and_the_mean_is_kept():
    num = 100_000
    kept = dropped(5, torch.ones(num, 1))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / num) ** 0.5)


# Shapes: masks are drawn in the order of the pass, which is not that in which layers are built


@pytest.mark.parametrize("name", OPTIONS)
def test_places_are_those_of_a_pass(name):
    (model, x), seen = model_of(name), []
    find_places(model, x)
    for layer in layers_of(model):
        layer.register_forward_hook(lambda layer, given, made: seen.append((layer, made.shape)))
    with shared_mask(drawn_by(0), x, None, model):
        model(x, 1.5)
        assert all(layer.mask.shape == shape for layer, shape in seen)
    assert [layer.place.turn for layer, _ in seen] == list(range(len(layers_of(model))))


def test_a_network_that_is_given_larger_images_gets_larger_masks():
    model = ConsistencyModel(build("small_unet"))
    for side in (8, 12, 8):
        x = torch.zeros(2, 1, side, side)
        with shared_mask(drawn_by(0), x, None, model):
            assert model(x, 1.5).shape == x.shape


def test_a_layer_whose_rate_was_zero_before_gets_a_mask_too():
    model, x = Drop(0.3, 0.0), torch.ones(1000, 1)
    dropped(1, x, model)
    model.layers[1].p = 0.5
    assert float((dropped(1, x, model) == 0).float().mean()) == pytest.approx(1 - 0.7 * 0.5, abs=0.1)


def test_labels_and_the_level_reach_the_pass_that_finds_the_places():
    model, x = ConsistencyModel(build("adm", num_classes=3)), torch.zeros(2, 1, 8, 8)
    find_places(model, x, torch.tensor([0, 2]))
    assert all(layer.place.given == x.shape[1:] for layer in layers_of(model))


# Errors and gradients


def test_the_gradient_is_dropped_where_the_value_is():
    x = torch.ones(1000, 1, requires_grad=True)
    y = dropped(5, x)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_models_of_which_one_does_not_train_are_refused():
    (student, images), (teacher, _) = model_of("mlp"), model_of("mlp")
    with (
        pytest.raises(ValueError, match=r"layers with dropout is \[\d, 0\]: as many in each model"),
        shared_mask(None, images, None, student, teacher.eval()),
    ):
        pass


@pytest.mark.parametrize("layer", [nn.Dropout(0.3), nn.Dropout2d(0.3)])
def test_dropout_that_draws_its_own_mask_is_refused(layer):
    model = Drop()
    model.other = layer
    with pytest.raises(ValueError, match=r"dropout is .*ict_lib.techniques.dropout.Dropout, whose mask can be shared"):
        dropped(1, torch.ones(4, 3), model)
    model.other.eval()
    dropped(1, torch.ones(4, 3), model)
