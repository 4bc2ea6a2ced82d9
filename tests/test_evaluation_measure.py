"""What is drawn from a model and measured of it: `ict_lib.evaluation.measure`."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from ict_lib.consistency import ConsistencyModel
from ict_lib.data import load_dataset, stand_in
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation import measure as module
from ict_lib.evaluation.fidelity import fidelity, to_uint8
from ict_lib.evaluation.measure import draw, extractor_of, measure, prepare, quick
from ict_lib.evaluation.yardsticks import yardsticks
from ict_lib.exact.distances import frechet_distance
from ict_lib.group import Alone
from ict_lib.training.precision import multiplying
from tests.test_evaluation_fidelity import KEYS, TinyInception, calls_home, noise, tiny  # noqa: F401 - fixtures

PIXELS = {"frechet_pixels", "frechet_features", "sliced_wasserstein", "nearest"}


class Painter(nn.Module):
    """A raw network that is no function of other images of its batch, and writes its labels down."""

    def __init__(self, num_classes=0, size=1.0):
        super().__init__()
        self.classes = nn.Embedding(num_classes, 1) if num_classes else None
        self.size = nn.Parameter(torch.tensor(size))
        self.labels = []

    def forward(self, x, c_noise, label=None):
        self.labels.append(label)
        shift = 0 if self.classes is None else self.classes(label)[:, :, None, None]
        return self.size * torch.tanh(x.roll(1, dims=-1)) + shift


def painter(num_classes=0, size=1.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConsistencyModel(Painter(num_classes, size))


class Pretended(Alone):
    """One of several processes, whose exchanges are what it would have drawn in the place of the others."""

    def __init__(self, rank, processes, drawn):
        self.rank, self.processes, self.drawn = rank, processes, drawn

    def gather(self, tensor):
        self.drawn.append(tensor)
        return [tensor] * self.processes if self.rank == 0 else []


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


# Value


def test_a_conditional_model_is_asked_for_every_class_in_its_share(digits):
    for num, share in ((1797, 1), (599, 1 / 3), (180, 180 / 1797)):
        model = painter(10)
        draw(model, digits, num, (80.0,), seed=0)
        asked = torch.cat(model.network.labels)
        counted = torch.bincount(asked, minlength=10)
        assert (counted - share * torch.bincount(digits.labels, minlength=10)).abs().max() < 1
        assert len(asked[:40].unique()) > 5  # the first images, which a page shows, are of many classes


def test_labels_lying_in_order_of_classes_or_in_turns_do_not_matter():
    for labels in (torch.arange(100) // 10, torch.arange(100) % 10):
        model = painter(10)
        draw(model, Dataset(noise(100, 1, 8, 8), labels, 10, "made"), 10, (80.0,), seed=0)
        assert sorted(model.network.labels[0].tolist()) == list(range(10))


def test_an_unconditional_model_is_given_no_label(digits):
    model = painter()
    draw(model, digits, 20, (80.0, 0.8), seed=0)
    assert model.network.labels == [None, None]


def test_quick_is_the_one_step_distance_to_all_or_to_some_images(digits, monkeypatch):
    model = painter()
    expected = frechet_distance(draw(model, digits, len(digits), (80.0,), 7), digits.images)
    assert quick(model, digits, 80.0, 7) == {"frechet_pixels_1_step": expected}
    monkeypatch.setattr(module, "QUICK", 200)
    chosen = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))[:200]
    expected = frechet_distance(draw(model, digits, 200, (80.0,), 7), digits.images[chosen])
    assert quick(model, digits, 80.0, 7) == {"frechet_pixels_1_step": expected}


# Invariant


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("num_classes", [0, 10])
def test_the_processes_share_the_blocks_out(monkeypatch, digits, processes, num_classes):
    """What the ranks draw, laid side by side, are the images that one process draws, in their order."""
    monkeypatch.setattr(module, "BLOCK", 4)
    model, drawn = painter(num_classes), {rank: [] for rank in range(processes)}
    for rank in drawn:
        images = draw(model, digits, 13, (80.0, 0.8), 3, Pretended(rank, processes, drawn[rank]))
        assert len(images) == (13 if rank == 0 else 0)
    together = torch.cat([part for parts in zip(*drawn.values(), strict=True) for part in parts])
    assert torch.equal(together[:13].clamp(-1, 1), draw(model, digits, 13, (80.0, 0.8), 3))


def test_levels_are_the_images_in_8_bits_and_are_exchanged_as_such(monkeypatch, digits):
    """Of them the FID is the same."""
    monkeypatch.setattr(module, "BLOCK", 4)
    images, drawn = draw(painter(), digits, 13, (80.0,), 3), []
    levels = draw(painter(), digits, 13, (80.0,), 3, levels=True)
    assert levels.dtype == torch.uint8
    assert torch.equal(levels, to_uint8(images))
    draw(painter(), digits, 13, (80.0,), 3, Pretended(0, 2, drawn), levels=True)
    assert {part.dtype for part in drawn} == {torch.uint8}
    assert measure(levels, digits, "x", fid_alone=True) == measure(images, digits, "x", fid_alone=True)


def test_no_two_blocks_and_no_two_seeds_are_alike(monkeypatch, digits):
    monkeypatch.setattr(module, "BLOCK", 4)
    images = draw(painter(), digits, 16, (80.0,), 3)
    other = draw(painter(), digits, 16, (80.0,), 3 + 2**32)
    assert len(torch.cat([images, other]).unique(dim=0)) == 32


def test_drawing_is_repeatable_and_leaves_the_random_state_alone(digits):
    before = torch.get_rng_state()
    images = draw(painter(10), digits, 20, (80.0,), seed=1)
    assert torch.equal(images, draw(painter(10), digits, 20, (80.0,), seed=1))
    assert torch.equal(torch.get_rng_state(), before)


# Independent reference: the truth has the best numbers


def test_real_digits_beat_noise_in_every_number(digits):
    real, noisy = measure(digits.images[::4], digits, "x"), measure(noise(450, 1, 8, 8), digits, "x")
    assert set(real) == {f"{name}_x" for name in PIXELS | set(KEYS)}
    for name in ("frechet_pixels_x", "frechet_features_x", "sliced_wasserstein_x", "fid_x", "kid_x", "nearest_x"):
        assert real[name] < 0.2 * noisy[name], name
    for name in ("precision_x", "recall_x", "inception_score_x"):
        assert real[name] > 1.5 * noisy[name], name


# Shapes, and which extractor is whose


def test_images_are_clipped_and_of_the_datas_shape(digits):
    images = draw(painter(size=50.0), digits, 20, (80.0,), seed=1)
    assert images.shape == (20, 1, 8, 8)
    assert images.abs().max() == 1


def test_a_stand_in_is_measured_as_what_it_stands_for(digits):
    for name in ("digits", "fashion_mnist"):
        assert {extractor_of(name), extractor_of(f"stand-in of {name}")} == {name}
    others = ("cifar10", "stand-in of cifar10", "imagenet64", "made")
    assert {extractor_of(name) for name in others} == {"inception"}
    assert "frechet_features_x" in measure(digits.images[:20], stand_in("digits", 30), "x")


def test_a_small_extractor_compares_with_a_fixed_part_of_a_large_set(monkeypatch):
    data, made = stand_in("fashion_mnist", 60), noise(30, 1, 32, 32)
    monkeypatch.setattr(module, "REFERENCE", 40)
    part = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:40]
    smaller = Dataset(data.pixels[part], data.labels[part], 10, data.name)
    found = measure(made, data, "x")
    assert set(found) == {f"{name}_x" for name in PIXELS | set(KEYS)}
    assert found | {"nearest_x": 0} == measure(made, smaller, "x") | {"nearest_x": 0}
    assert found["frechet_pixels_x"] == frechet_distance(made, data.batch(part))
    monkeypatch.setattr(module, "REFERENCE", 60)
    assert found != measure(made, data, "x")


def test_a_copy_of_any_datum_of_a_large_set_is_no_new_image(monkeypatch):
    data = stand_in("fashion_mnist", 60)
    monkeypatch.setattr(module, "REFERENCE", 10)
    assert measure(data.images, data, "x")["nearest_x"] < 1e-6


def test_other_data_sets_are_measured_with_inception(tiny):  # noqa: F811
    found = measure(noise(20, 3, 32, 32), stand_in("cifar10", 30), "2_steps")
    assert set(found) == {f"{key}_2_steps" for key in KEYS}


# Precision


@pytest.mark.parametrize("around", [nullcontext, lambda: multiplying("tf32"), lambda: multiplying("fp32")])
def test_nothing_is_drawn_or_measured_in_tf32_and_the_setting_stays(tiny, monkeypatch, around):  # noqa: F811
    """Whatever torch allows, and a training around it: the flags in force are those that a GPU computes by."""

    def flags():
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    data, seen, look = stand_in("cifar10", 30), [], TinyInception.forward
    monkeypatch.setattr(TinyInception, "forward", lambda self, x: seen.append(("inception", *flags())) or look(self, x))
    model = painter()
    model.network.register_forward_pre_hook(lambda *_: seen.append(("network", *flags())))
    with around():
        before = flags()
        images = draw(model, data, 20, (80.0, 0.8), seed=0)
        quick(model, data, 80.0, seed=0)
        measure(images, data, "1_step")
        fidelity(images, data.images, "inception")
        yardsticks(model, data, 20)
        assert flags() == before
    assert set(seen) == {("network", False, False), ("inception", False, False)}


# Errors


def test_missing_inception_weights_are_noticed_before_training(digits, calls_home):  # noqa: F811
    prepare(digits.name)
    assert calls_home == []
    with pytest.raises(RuntimeError, match="ICT_INCEPTION"):
        prepare("cifar10")
    assert calls_home


def test_no_image_is_refused(digits):
    with pytest.raises(ValueError, match="num is 0"):
        draw(painter(), digits, 0, (80.0,), 0)


def test_a_network_of_other_classes_is_refused(digits):
    with pytest.raises(ValueError, match="num_classes of the data is 10: 1000, as the network has, is needed"):
        draw(painter(1000), digits, 20, (80.0,), 0)
