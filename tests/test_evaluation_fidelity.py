"""Torch-fidelity's metrics against their definitions and against torch-fidelity itself; no download."""

import hashlib
import math
import socket
import traceback

import numpy as np
import pytest
import torch
import torch_fidelity
from scipy.spatial.distance import cdist
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ict_lib.data import load_dataset
from ict_lib.evaluation.extractor import features_of, load_extractor, one_thread
from ict_lib.evaluation.fidelity import INCEPTION, NAMES, fidelity, to_uint8
from ict_lib.exact.distances import frechet_distance

KEYS = ["fid", "inception_score", "inception_score_std", "kid", "kid_std", "precision", "recall"]
SEED = 2020  # torch-fidelity's


@pytest.fixture(autouse=True)
def calls_home(monkeypatch, tmp_path):
    """No network, no cache of the user's: any look-up of a host fails and is written down."""
    hosts = []

    def refuse(host, *arguments, **options):
        hosts.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("ICT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("ICT_INCEPTION", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return hosts


class TinyInception(FeatureExtractorBase):
    """Stands where torch-fidelity's Inception is, with as many features as fit into a test."""

    seen = []  # noqa: RUF012 - what every forward pass got

    def __init__(self, name, features_list, feature_extractor_weights_path=None, **kwargs):
        super().__init__(name, features_list)
        self.seen.append(feature_extractor_weights_path)

    @staticmethod
    def get_provided_features_list():
        return "2048", "logits_unbiased"

    get_default_feature_layer_for_metric = FeatureExtractorInceptionV3.get_default_feature_layer_for_metric

    def forward(self, images):
        self.seen.append((images.shape[1:], images.dtype, bool((images[:, :1] == images).all())))
        flat = images.float().mean(dim=1).flatten(1) / 255
        return tuple(flat[:, : 6 if name == "2048" else 4] for name in self.features_list)


def publish(monkeypatch, path):
    """Let a file pass for Inception's published weights, and be found."""
    name = f"inception-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    monkeypatch.setattr("ict_lib.evaluation.fidelity.INCEPTION", f"https://example.org/{name}")
    monkeypatch.setenv("ICT_INCEPTION", str(path))
    return path


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A small network in Inception's place; returns the file that passes for its weights."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "inception-v3-compat", TinyInception)
    monkeypatch.setattr(TinyInception, "seen", [])
    return publish(monkeypatch, path)


@pytest.fixture(scope="module")
def digits():
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    return load_dataset("digits").images[order]


@pytest.fixture(scope="module")
def halves(digits):
    return digits[:300], digits[300:600]


@pytest.fixture(scope="module")
def found(halves):
    return fidelity(*halves)


def noise(*shape):
    return 2 * torch.rand(shape, generator=torch.Generator().manual_seed(2)) - 1


# Value that is known


def test_equal_sets(halves):
    result = fidelity(halves[0], halves[0])
    assert result["fid"] == pytest.approx(0, abs=1e-6)
    assert (result["precision"], result["recall"]) == (1, 1)
    assert abs(result["kid"]) < 0.05


@pytest.mark.slow
def test_floors_of_half_against_half(digits):
    result = fidelity(digits[:898], digits[898:])
    assert 0.3 < result["fid"] < 1.2
    assert abs(result["kid"]) < 0.03
    assert 6 < result["inception_score"] < 10
    assert result["precision"] > 0.8
    assert result["recall"] > 0.8


def test_noise_is_noticed_by_every_metric(halves, found):
    results = [found]
    for std in (0.2, 0.4, 1):
        added = std * torch.randn(halves[0].shape, generator=torch.Generator().manual_seed(1))
        results.append(fidelity(halves[0] + added, halves[1]))
    for key, sign in (("fid", 1), ("kid", 1), ("inception_score", -1), ("precision", -1)):
        values = [sign * result[key] for result in results]
        assert values == sorted(values), key


def test_collapse_costs_recall_and_blur_costs_precision(halves):
    collapsed = fidelity(halves[0][:10].repeat(30, 1, 1, 1), halves[1])
    assert collapsed["precision"] > 0.6
    assert collapsed["recall"] < 0.1
    swapped = fidelity(halves[1], halves[0][:10].repeat(30, 1, 1, 1))
    assert (swapped["precision"], swapped["recall"]) == (collapsed["recall"], collapsed["precision"])


def test_levels():
    images = torch.tensor([-5, -1, -0.5, 0, 1 / 127.5, 1, 3]).reshape(1, 1, 1, 7)
    assert to_uint8(images).flatten().tolist() == [0, 0, 64, 128, 128, 255, 255]
    exact = torch.arange(256) / 127.5 - 1
    assert torch.equal(to_uint8(exact.reshape(1, 1, 16, 16)).flatten(), torch.arange(256, dtype=torch.uint8))


def test_inceptions_weights_are_those_of_torch_fidelity():
    assert INCEPTION == URL_INCEPTION_V3


# Invariant


def test_reruns_agree_and_order_does_not_matter(halves, found):
    before = torch.get_rng_state()
    assert fidelity(*halves) == found
    assert torch.equal(torch.get_rng_state(), before)
    turned = fidelity(halves[0].flip(0), halves[1].flip(0))
    for key in ("fid", "precision", "recall"):
        assert turned[key] == pytest.approx(found[key])
    assert fidelity(*halves[::-1])["fid"] == pytest.approx(found["fid"])


def test_values_outside_the_range_are_clipped(halves):
    wild = halves[0] * 1.5
    assert fidelity(wild, halves[1]) == fidelity(wild.clamp(-1, 1), halves[1])


def test_silent_and_alone(halves, capfd, recwarn, calls_home):
    fidelity(*halves)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert calls_home == []


# Independent slow reference


@pytest.fixture(scope="module")
def by_hand(digits):
    """Features and logits of digits of 256 levels."""
    features, logits = load_extractor("digits")(((digits[:600] + 1) * 127.5).round().double() / 127.5 - 1)
    return features.split(300), logits[:300].numpy()


def test_fid_and_features_against_the_exact_distance(halves, found, by_hand):
    assert found["fid"] == pytest.approx(frechet_distance(*by_hand[0]), rel=1e-6)
    rounded = [to_uint8(half).double() / 127.5 - 1 for half in halves]
    assert found["fid"] == pytest.approx(frechet_distance(*map(features_of, rounded)), rel=1e-6)


def test_kid_against_its_definition(found, by_hand):
    """The mean over 100 random subsets of half the images estimates the number of the whole sets."""
    x, y = (part.numpy() for part in by_hand[0])
    inside = [((part @ part.T / 64 + 1) ** 3 * (1 - np.eye(300))).sum() / (300 * 299) for part in (x, y)]
    whole = sum(inside) - 2 * ((x @ y.T / 64 + 1) ** 3).mean()
    assert 1e-3 < found["kid_std"] < 0.1  # subsets differ
    assert found["kid"] == pytest.approx(whole, abs=4 * found["kid_std"] / 10)


def test_precision_and_recall_against_their_definition(found, by_hand):
    x, y = (part.numpy() for part in by_hand[0])

    def covered(points, centres):
        radius = np.sort(cdist(centres, centres), axis=1)[:, 3]  # the 0th neighbour is the point itself
        return np.mean([(np.linalg.norm(centres - point, axis=1) <= radius).any() for point in points])

    assert found["precision"] == pytest.approx(covered(x, y))
    assert found["recall"] == pytest.approx(covered(y, x))


def test_inception_score_against_its_definition(found, by_hand):
    p = np.exp(by_hand[1] - by_hand[1].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    scores = []
    for part in np.split(p[np.random.RandomState(SEED).permutation(300)], 10):
        divergence = [sum(q * math.log(q / m) for q, m in zip(row, part.mean(0), strict=True)) for row in part]
        scores.append(math.exp(np.mean(divergence)))
    assert found["inception_score"] == pytest.approx(np.mean(scores))
    assert found["inception_score_std"] == pytest.approx(np.std(scores))


def test_all_numbers_against_torch_fidelity_as_a_whole(tiny):
    images = noise(90, 3, 4, 4)
    ours = fidelity(images[:40], images[40:], extractor="inception")
    sets = [torch.utils.data.ConcatDataset([to_uint8(part)]) for part in (images[:40], images[40:])]
    metrics = dict.fromkeys(("isc", "fid", "kid", "prc"), True)
    options = {"feature_extractor": "inception-v3-compat", "kid_subset_size": 20, "save_cpu_ram": True}
    theirs = torch_fidelity.calculate_metrics(
        input1=sets[0], input2=sets[1], cuda=False, cache=False, verbose=False, **metrics, **options
    )
    for name in KEYS:
        assert ours[name] == pytest.approx(theirs[NAMES[name]], rel=1e-5, abs=1e-9), name


def test_the_fid_alone_is_that_of_all_numbers_and_levels_give_those_of_their_images(tiny, halves, found):
    assert fidelity(*halves, fid_alone=True) == {"fid": found["fid"]}
    images = noise(90, 3, 4, 4)
    whole = fidelity(images[:40], images[40:], extractor="inception")
    assert fidelity(to_uint8(images[:40]), images[40:], extractor="inception") == whole


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_measures_what_a_cpu_does(tiny, monkeypatch):
    images = noise(2000, 3, 4, 4)
    on_gpu = fidelity(images[:900], images[900:], extractor="inception")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    on_cpu = fidelity(images[:900], images[900:], extractor="inception")
    for name in KEYS:
        assert on_gpu[name] == pytest.approx(on_cpu[name], rel=1e-3, abs=1e-3), name


# Shapes, dtypes, batch independence


def test_result_is_plain_floats_by_name(found):
    assert list(found) == KEYS
    assert all(type(value) is float and math.isfinite(value) for value in found.values())


def test_batches_and_precisions_do_not_matter(monkeypatch, halves, found):
    monkeypatch.setattr("ict_lib.evaluation.reference.BATCH", 300)
    whole = fidelity(*(half.double() for half in halves))
    for key in KEYS:
        assert whole[key] == pytest.approx(found[key], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_gets_bytes_of_three_channels(tiny, channels):
    images = noise(40, channels, 16, 16)
    assert list(fidelity(images[:20], images[20:], extractor="inception")) == KEYS
    assert TinyInception.seen[0] == str(tiny)
    assert set(TinyInception.seen[1:]) == {((3, 16, 16), torch.uint8, channels == 1)}


@pytest.mark.slow
def test_the_real_inception_network_with_random_weights(monkeypatch, tmp_path):
    with monkeypatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({}, tmp_path / "none.pth")
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = FeatureExtractorInceptionV3("random", ["2048"], str(tmp_path / "none.pth"))
        for weight in network.parameters():
            if weight.ndim == 4:
                torch.nn.init.kaiming_normal_(weight)
    path = tmp_path / "random.pth"
    torch.save(network.state_dict(), path)
    publish(monkeypatch, path)
    images = noise(20, 3, 32, 32)
    images[10:] *= 0.5
    with one_thread():
        result = fidelity(images[:10], images[10:], "inception")
        features = network(((images + 1) * 127.5).round().to(torch.uint8))[0]
    assert features.std() > 1e-3
    assert result["fid"] == pytest.approx(frechet_distance(features[:10], features[10:]), rel=1e-3)


# Errors and gradients


def test_a_missing_network_is_one_clear_error(calls_home, tmp_path):
    images = torch.zeros(10, 3, 32, 32)
    with pytest.raises(RuntimeError) as caught:
        fidelity(images, images, extractor="inception")
    assert calls_home  # it did try
    message = str(caught.value)
    for part in ("weights-inception-2015-12-05-6726825d.pth", str(tmp_path), "ICT_INCEPTION", "no network in tests"):
        assert part in message
    assert "urllib" not in "".join(traceback.format_exception(caught.value))
    assert not list((tmp_path / "cache").iterdir())  # no half file


def test_damaged_weights_are_refused(tiny):
    tiny.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="damaged"):
        fidelity(noise(20, 3, 4, 4), noise(20, 3, 4, 4), "inception")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(digits, value):
    bad = digits[:20].clone()
    bad[3, 0, 4, 4] = value
    for arguments in ((bad, digits[:20]), (digits[:20], bad)):
        with pytest.raises(ValueError, match="finite, got 1 NaN or infinite"):
            fidelity(*arguments)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((20, 8, 8), {}, r"\[20, 8, 8\]\]: \[n, 1 or 3"),
        ((20, 1, 16, 16), {}, r"\[n, 1, 8, 8\]"),
        ((20, 3, 8, 8), {}, r"\[n, 1, 8, 8\]"),
        ((20, 2, 32, 32), {"extractor": "inception"}, "1 or 3"),
        ((20, 3, 32), {"extractor": "inception"}, "1 or 3"),
        ((9, 1, 8, 8), {}, r"\[9, 1, 8, 8\]\]: 10 images or more"),
        ((20, 1, 8, 8), {"extractor": "digit"}, "did you mean 'digits'"),
        ((20, 1, 8, 8), {"extractor": "Inceptionv3"}, "did you mean 'inception'"),
    ],
)
def test_what_cannot_be_measured_is_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        fidelity(torch.zeros(shape), torch.zeros(shape), **options)


def test_types_and_unequal_images_are_refused(digits):
    with pytest.raises(ValueError, match="int64"):
        fidelity(to_uint8(digits[:20]).long(), digits[:20])
    with pytest.raises(ValueError, match=r"\[20, 1, 16, 16\]"):
        fidelity(digits[:20], torch.zeros(20, 1, 16, 16))


def test_ten_images_are_enough_and_may_want_a_gradient(digits):
    images = digits[:10].clone().requires_grad_()
    assert all(math.isfinite(value) for value in fidelity(images, digits[10:20]).values())
    assert images.grad is None
