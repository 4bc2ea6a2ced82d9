"""The network of LPIPS: `ict_lib.networks.lpips`. A file of random numbers stands for VGG16's weights."""

import hashlib
import socket
import sys
import warnings
from dataclasses import replace

import lpips
import pytest
import torch
from torch import nn
from torchvision.models import VGG16_Weights, vgg16

from ict_lib.config import Run
from ict_lib.networks import lpips as module
from ict_lib.networks.lpips import perceptual, perceptual_network
from ict_lib.objective import consistency_training_loss, distance_between
from ict_lib.recipe import CT
from ict_lib.training import launch, train
from ict_lib.training.model import build_model

CPU = torch.device("cpu")
LPIPS = replace(CT, distance="lpips")


def vgg16_state():
    """Random features of VGG16; the classifier, which LPIPS has no use for, is one number that takes no place."""
    gen, state = torch.Generator().manual_seed(0), {}
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None, init_weights=False).state_dict().items()}
    for name, shape in shapes.items():
        if not name.startswith("features"):
            state[name] = torch.zeros(()).expand(shape)
        elif len(shape) > 1:
            state[name] = torch.randn(shape, generator=gen) * (2 / shape[1:].numel()) ** 0.5
        else:
            state[name] = 0.1 * torch.randn(shape, generator=gen)
    return state


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """The stand-in, in torch hub's folder under the published name, where the package ``lpips`` looks for it."""
    path = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / VGG16_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    path.parent.mkdir(parents=True)
    torch.save(vgg16_state(), path)
    return path


@pytest.fixture(autouse=True)
def no_network(tmp_path, monkeypatch):
    """Nothing on this machine is found, nothing can be downloaded, nothing was built before."""

    def refuse(*_, **__):
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.delenv("ICT_VGG16", raising=False)
    perceptual_network.cache_clear()
    yield
    perceptual_network.cache_clear()


@pytest.fixture
def weights(file, monkeypatch):
    """The stand-in passes for the published file."""
    name = f"vgg16-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    monkeypatch.setattr(module, "VGG16", f"https://example.org/{name}")
    monkeypatch.setenv("ICT_VGG16", str(file))
    return file


def images(batch, channels, size, seed=0):
    gen = torch.Generator().manual_seed(seed)
    return tuple(2 * torch.rand(batch, channels, size, size, generator=gen) - 1 for _ in range(2))


# Value: the published file


def test_torchvision_publishes_the_file_under_the_name_that_the_package_looks_for():
    assert VGG16_Weights.IMAGENET1K_V1.url == module.VGG16
    assert module.VGG16.endswith("/vgg16-397923af.pth")


# Invariant


def test_equal_images_have_distance_zero_and_the_order_does_not_matter(weights):
    (x, y), network = images(2, 3, 48), perceptual_network(CPU)
    assert (network(x, y) > 0.01).all()
    torch.testing.assert_close(network(x, y), network(y, x))
    assert (network(x, x) == 0).all()


def test_it_is_built_once_frozen_and_leaves_no_trace(weights):
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = perceptual_network(CPU)
    assert perceptual_network(CPU) is network
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


# Independent slow reference


def test_the_numbers_are_those_of_the_package_loaded_the_ordinary_way(weights, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(weights.parents[2]))
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        package = lpips.LPIPS(net="vgg", verbose=False)
    x, y = (z.requires_grad_() for z in images(2, 3, 48))
    expected, found = package(x, y), perceptual_network(CPU)(x, y)
    assert (expected > 0.01).all()
    torch.testing.assert_close(found, expected)
    for gradients in zip(*(torch.autograd.grad(d.sum(), (x, y)) for d in (found, expected)), strict=True):
        assert gradients[0].abs().max() > 0
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-8)


def features(image, state):
    """VGG16 up to its last convolution, from the names of its file: the five layers that LPIPS compares."""
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    z, layers = ((image + 1) / 2 - mean) / std, []
    for block in ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)):
        z = nn.functional.max_pool2d(z, 2) if layers else z
        for i in block:
            z = nn.functional.conv2d(z, state[f"features.{i}.weight"], state[f"features.{i}.bias"], padding=1).relu()
        layers.append(z)
    return layers


def test_the_formula_written_out(weights):
    """To three digits: the package rounds ImageNet's mean and deviation."""
    x, y = (z[0] for z in images(1, 3, 64))
    heads, expected = (head.model[-1].weight for head in perceptual_network(CPU).lins), 0
    for a, b, head in zip(features(x, vgg16_state()), features(y, vgg16_state()), heads, strict=True):
        difference = nn.functional.normalize(a, dim=0) - nn.functional.normalize(b, dim=0)
        expected += float(torch.einsum("chw,c->hw", difference**2, head.flatten()).mean())
    assert float(perceptual_network(CPU)(x[None], y[None])) == pytest.approx(expected, rel=2e-3)


# Shapes, dtypes, batch independence


def test_one_number_a_sample_whatever_the_others_are(weights):
    (x, y), network = images(3, 3, 48), perceptual_network(CPU)
    together = network(x, y)
    assert together.shape == (3, 1, 1, 1)
    torch.testing.assert_close(together[1:2], network(x[1:2], y[1:2]))


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 32)])
def test_digits_and_colour_images_are_enlarged_first(weights, channels, size):
    x, y = images(1, channels, size)
    large = (nn.functional.interpolate(z.expand(-1, 3, -1, -1), (224, 224), mode="bilinear") for z in (x, y))
    torch.testing.assert_close(distance_between(LPIPS, x, y, perceptual), perceptual_network(CPU)(*large).flatten())


def test_the_same_under_autocast(weights):
    """The network alone is not: it computes in bfloat16 there."""
    (x, y), small, network = images(1, 1, 8), images(1, 3, 48), perceptual_network(CPU)
    distance, alone = distance_between(LPIPS, x, y, perceptual), network(*small)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(distance_between(LPIPS, x, y, perceptual), distance)
        assert not torch.equal(network(*small), alone)


@pytest.mark.parametrize("new", [True, False])
def test_both_formats_of_files_are_read(weights, monkeypatch, tmp_path, new):
    """Files of 2017 are not zip archives."""
    path = tmp_path / "vgg16.pth"
    torch.save(torch.load(weights), path, _use_new_zipfile_serialization=new)
    monkeypatch.setattr(module, "published_file", lambda *_, download: path)
    first = next(perceptual_network(CPU).net.parameters())
    assert torch.equal(first, vgg16_state()["features.0.weight"])


def run(**changes):
    small = {"recipe": LPIPS, "network": "small_unet", "network_options": {"channels": 8, "blocks": 1}}
    return Run(**{**small, "steps": 3, "batch_size": 2, "device": "cpu", "log_every": 1, **changes})


@pytest.mark.slow
def test_ct_trains_on_digits_with_lpips(weights):
    training = train(run(conditional=True, learning_rate=0.01))
    start = [weight.clone() for weight in training.average.parameters()]
    losses = [metrics.loss for metrics in training]
    assert len(losses) == 3
    assert min(losses) > 0
    assert any((now != then).any() for now, then in zip(training.average.parameters(), start, strict=True))


# Errors and gradients


def test_the_gradient_is_a_number_where_all_features_are_zero(weights):
    """Their length has none there; the ReLU before it passes none on."""
    network = perceptual_network(CPU)
    getattr(network.net.slice3, "14").bias.fill_(-1e6)
    x, y = images(1, 3, 48)
    assert (network.net(x).relu3_3 == 0).all()
    network(x.requires_grad_(), y).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


def test_the_gradient_enters_the_student_and_not_the_teacher(weights):
    student, teacher = (build_model(run(), (1, 8, 8), 10) for _ in range(2))
    x, _ = images(1, 1, 8)
    consistency_training_loss(student, teacher, x, LPIPS, 0, 3, torch.Generator(), None, perceptual).loss.backward()
    gradients = [weight.grad for weight in student.parameters() if weight.grad is not None]
    assert max(gradient.abs().max() for gradient in gradients) > 0
    assert all(weight.requires_grad and weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is None for weight in perceptual_network(CPU).parameters())


def test_missing_weights_are_one_clear_error_before_the_training(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        train(run(), folder=tmp_path / "run")
    for part in ("vgg16-397923af.pth", str(tmp_path / "cache"), "ICT_VGG16", "no network in tests"):
        assert part in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_many_processes_are_not_started_without_weights(tmp_path):
    with pytest.raises(RuntimeError, match="vgg16-397923af"):
        launch(run(micro_batch=1), folder=tmp_path / "run", processes=2)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_and_a_wrong_path_too(monkeypatch, weights, tmp_path):
    monkeypatch.setenv("ICT_VGG16", str(tmp_path / "none.pth"))
    with pytest.raises(FileNotFoundError, match=r"ICT_VGG16 is '.*none\.pth'"):
        train(run())
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(RuntimeError, match=r"LPIPS needs a package .*-m pip install lpips"):
        train(run())
