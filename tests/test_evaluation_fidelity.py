"""torch-fidelity's metrics on digits, the classifier behind them, the Inception weights; no download."""

import hashlib
import math
import os
import socket
import subprocess
import sys
import traceback

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ict_lib.data import load_dataset
from ict_lib.evaluation import digits_classifier, inception_weights
from ict_lib.evaluation.digits_extractor import register_digits_extractor
from ict_lib.evaluation.digits_features import digits_features, load_classifier
from ict_lib.exact.distances import frechet_distance
from ict_lib.evaluation.fidelity import fidelity, to_uint8

KEYS = ["fid", "inception_score", "inception_score_std", "kid", "kid_std", "precision", "recall"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    load_classifier(folder)
    return folder


@pytest.fixture(autouse=True)
def calls_home(monkeypatch, cache, tmp_path):
    """No network, no cache of the user's: any look-up of a host fails and is written down."""
    hosts = []

    def refuse(host, *arguments, **options):
        hosts.append(host)
        raise socket.gaierror("no network in tests")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("ICT_CACHE", str(cache))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("ICT_INCEPTION", raising=False)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return hosts


@pytest.fixture(scope="module")
def digits():
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    return load_dataset("digits").images[order]


@pytest.fixture
def halves(digits):
    return digits[:300], digits[300:600]


def noisy(images, std):
    return images + std * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))


# Value that is known


def test_classifier_knows_digits_that_it_never_saw():
    assert 0.97 <= load_classifier().accuracy <= 1


def test_equal_sets(digits):
    result = fidelity(digits[:300], digits[:300])
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


def test_noise_is_noticed_by_every_metric(halves):
    results = [fidelity(noisy(halves[0], std), halves[1]) for std in (0, 0.2, 0.4, 1)]
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


# Invariant


@pytest.mark.slow
def test_same_weights_bit_for_bit_in_another_process(tmp_path):
    code = f"import torch; torch.manual_seed(5); torch.set_default_dtype(torch.float64)\n\
from ict_lib.evaluation.digits_features import load_classifier; load_classifier({str(tmp_path)!r})"
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    ours, theirs = load_classifier().network.state_dict(), load_classifier(tmp_path).network.state_dict()
    assert len(list(tmp_path.iterdir())) == 1
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
        assert ours[name].dtype == torch.float32


def test_training_leaves_the_callers_settings_alone(monkeypatch):
    monkeypatch.setattr(digits_classifier, "STEPS", 2)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch.inference_mode():
            digits_classifier.train_classifier()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.is_grad_enabled()


def test_the_cache_is_used(monkeypatch, cache):
    monkeypatch.setattr(digits_classifier, "train_classifier", lambda: pytest.fail("trained again"))
    files = sorted(cache.iterdir())
    load_classifier()
    assert sorted(cache.iterdir()) == files


def test_another_version_is_another_file(monkeypatch, tmp_path):
    trained = load_classifier()
    monkeypatch.setattr(digits_classifier, "train_classifier", lambda: trained)
    load_classifier(tmp_path)
    monkeypatch.setattr("ict_lib.evaluation.digits_features.version", lambda package: "0.0")
    load_classifier(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_order_does_not_matter_and_reruns_agree(halves):
    first, again = fidelity(*halves), fidelity(*halves)
    assert first == again
    turned = fidelity(halves[0].flip(0), halves[1].flip(0))
    for key in ("fid", "precision", "recall"):
        assert turned[key] == pytest.approx(first[key])
    assert fidelity(*halves[::-1])["fid"] == pytest.approx(first["fid"])


def test_values_outside_the_range_are_clipped(halves):
    wild = halves[0] * 1.5
    assert fidelity(wild, halves[1]) == fidelity(wild.clamp(-1, 1), halves[1])


def test_generator_draws_the_subsets_and_nothing_else_does(halves):
    before = torch.get_rng_state()
    seeded = [fidelity(*halves, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert seeded[0] == seeded[1]
    assert seeded[0]["kid"] != seeded[2]["kid"]
    assert seeded[0]["fid"] == seeded[2]["fid"]
    assert torch.equal(torch.get_rng_state(), before)


def test_silent(halves, capfd, recwarn):
    fidelity(*halves)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_registration_is_lazy_and_may_be_repeated():
    code = "import sys, torch_fidelity.registry as r, ict_lib.evaluation.fidelity\n\
sys.exit('ict-digits' in r.FEATURE_EXTRACTORS_REGISTRY)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert register_digits_extractor() == register_digits_extractor() == "ict-digits"
    assert "ict-digits" in FEATURE_EXTRACTORS_REGISTRY


# Independent slow reference


@pytest.fixture(scope="module")
def by_hand(digits, cache):
    """Features and logits of what torch-fidelity sees: digits of 256 levels."""
    network = load_classifier(cache).network.double()
    levels = ((digits[:600] + 1) * 127.5).round().double() / 127.5 - 1
    features, logits = network(levels)
    return features.split(300), logits[:300].numpy()


def test_fid_and_features_against_the_exact_distance(halves, by_hand):
    (generated, reference), _ = by_hand
    fid = fidelity(*halves)["fid"]
    assert fid == pytest.approx(frechet_distance(generated, reference), rel=1e-6)
    rounded = [to_uint8(half).double() / 127.5 - 1 for half in halves]
    assert fid == pytest.approx(frechet_distance(*map(digits_features, rounded)), rel=1e-6)


def test_kid_against_its_definition(halves, by_hand):
    x, y = (part.numpy() for part in by_hand[0])
    n, total = 300, 0.0
    for i in range(n):
        for j in range(n):
            inside = (x[i] @ x[j] / 64 + 1) ** 3 + (y[i] @ y[j] / 64 + 1) ** 3 if i != j else 0
            total += inside / (n * (n - 1)) - 2 * (x[i] @ y[j] / 64 + 1) ** 3 / n**2
    result = fidelity(*halves, kid_subset_size=n)  # one possible subset: the whole
    assert result["kid"] == pytest.approx(total)
    assert result["kid_std"] == pytest.approx(0, abs=1e-12)


def test_precision_and_recall_against_their_definition(halves, by_hand):
    x, y = (part.numpy() for part in by_hand[0])

    def covered(points, centres):
        radius = np.sort(cdist(centres, centres), axis=1)[:, 3]  # the 0th neighbour is the point itself
        return np.mean([(np.linalg.norm(centres - point, axis=1) <= radius).any() for point in points])

    result = fidelity(*halves)
    assert result["precision"] == pytest.approx(covered(x, y))
    assert result["recall"] == pytest.approx(covered(y, x))


def test_inception_score_against_its_definition(halves, by_hand):
    p = np.exp(by_hand[1] - by_hand[1].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    divergence = np.mean([sum(q * math.log(q / m) for q, m in zip(row, p.mean(0), strict=True)) for row in p])
    result = fidelity(*halves, inception_splits=1)
    assert result["inception_score"] == pytest.approx(math.exp(divergence))
    assert result["inception_score_std"] == 0


# Shapes, dtypes, batch independence


def test_result_is_plain_floats_by_name(halves):
    result = fidelity(*halves)
    assert list(result) == KEYS
    assert all(type(value) is float and math.isfinite(value) for value in result.values())


def test_batches_and_precisions_do_not_matter(halves):
    expected = fidelity(*halves)
    whole = fidelity(*(half.double() for half in halves), batch_size=300)
    for key in KEYS:
        assert whole[key] == pytest.approx(expected[key], rel=1e-6, abs=1e-9)


def test_features_do_not_depend_on_the_batch(digits):
    features = digits_features(digits[:20])
    assert (features.shape, features.dtype) == ((20, 64), torch.float64)
    torch.testing.assert_close(features[7:8], digits_features(digits[7:8]))
    many = digits_features(digits.repeat(3, 1, 1, 1))[3594:]  # 5391 images go in two parts, cut at 4096
    torch.testing.assert_close(many[600:620], digits_features(digits[600:620]))
    torch.testing.assert_close(digits_features(3 * digits[:20]), digits_features((3 * digits[:20]).clamp(-1, 1)))


def test_few_images_get_smaller_subsets(digits):
    result = fidelity(digits[:10], digits[10:20])
    assert all(math.isfinite(value) for value in result.values())
    assert result == fidelity(digits[:10], digits[10:20], kid_subset_size=5)
    assert result["kid_std"] > 1e-3  # subsets of 5 differ, those of 10 could not


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


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file that passes for the published weights."""
    path = tmp_path / "weights.pth"
    path.write_bytes(b"weights")
    publish(monkeypatch, path)
    return path


def publish(monkeypatch, path):
    """Let a file pass for the published one, and return the name under which it was published."""
    name = f"inception-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth"
    monkeypatch.setattr(inception_weights, "URL_INCEPTION_V3", f"https://example.org/{name}")
    return name


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_gets_bytes_of_three_channels(monkeypatch, weights, channels):
    monkeypatch.setitem(FEATURE_EXTRACTORS_REGISTRY, "inception-v3-compat", TinyInception)
    monkeypatch.setattr(TinyInception, "seen", [])
    images = 2 * torch.rand(40, channels, 16, 16, generator=torch.Generator().manual_seed(2)) - 1
    result = fidelity(images[:20], images[20:], extractor="inception", weights=weights)
    assert list(result) == KEYS
    assert TinyInception.seen[0] == str(weights)
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
    images = 2 * torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(2)) - 1
    images[4:] *= 0.5
    with digits_classifier.one_thread():
        result = fidelity(images[:4], images[4:], "inception", weights=path, inception_splits=1)
        features = network(((images + 1) * 127.5).round().to(torch.uint8))[0]
    assert features.std() > 1e-3
    assert result["fid"] == pytest.approx(frechet_distance(features[:4], features[4:]), rel=1e-3)


# Errors and gradients


def test_missing_network_is_one_clear_error(calls_home, tmp_path):
    images = torch.zeros(10, 3, 32, 32)
    with pytest.raises(RuntimeError) as caught:
        fidelity(images, images, extractor="inception", cache_dir=tmp_path / "kept")
    assert calls_home  # it did try
    message = str(caught.value)
    assert "weights-inception-2015-12-05-6726825d.pth" in message
    assert str(tmp_path / "kept") in message
    assert "ICT_INCEPTION" in message
    assert "no network in tests" in message
    assert "urllib" not in "".join(traceback.format_exception(caught.value))
    assert not list((tmp_path / "kept").iterdir())  # no half file


def test_nothing_else_calls_home(calls_home, digits, weights):
    fidelity(digits[:20], digits[20:40])
    inception_weights.inception_weights(weights)
    assert calls_home == []


def test_kept_weights_are_found(tmp_path, monkeypatch, weights):
    kept = weights.rename(tmp_path / publish(monkeypatch, weights))
    assert inception_weights.inception_weights(cache_dir=tmp_path) == kept
    monkeypatch.setenv("ICT_INCEPTION", str(kept.rename(tmp_path / "mine.pth")))
    assert inception_weights.inception_weights(cache_dir=tmp_path) == tmp_path / "mine.pth"


def test_wrong_weights_are_refused(tmp_path, weights):
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        inception_weights.inception_weights(tmp_path / "none.pth")
    weights.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="damaged"):
        inception_weights.inception_weights(weights)


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "garbage", "folder"])
def test_a_damaged_classifier_is_made_again(monkeypatch, tmp_path, cache, damage):
    trained, calls = load_classifier(), []
    monkeypatch.setattr(digits_classifier, "train_classifier", lambda: calls.append(1) or trained)
    source = next(cache.glob("*.safetensors"))
    path, whole = tmp_path / source.name, source.read_bytes()
    damaged = {"empty": b"", "cut": whole[:-100], "garbage": b"x" * 500, "folder": b""}
    damaged["flipped"] = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    path.write_bytes(damaged[damage])
    if damage == "folder":
        path.unlink()
        path.mkdir()
        with pytest.warns(UserWarning, match="cannot be kept"):
            assert load_classifier(tmp_path).accuracy == trained.accuracy
    else:
        load_classifier(tmp_path)
        again = load_classifier(tmp_path)
        assert torch.equal(again.network.logit.weight, trained.network.logit.weight)
        assert again.accuracy == trained.accuracy
    assert calls == [1]


def test_a_write_that_is_stopped_leaves_nothing(monkeypatch, tmp_path):
    trained = load_classifier()
    monkeypatch.setattr(digits_classifier, "train_classifier", lambda: trained)

    def stop(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        load_classifier(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_costs_a_warning(monkeypatch, tmp_path):
    trained = load_classifier()
    monkeypatch.setattr(digits_classifier, "train_classifier", lambda: trained)
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="cannot be kept"):
        assert load_classifier(tmp_path / "file" / "cache") is trained


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(digits, value):
    bad = digits[:20].clone()
    bad[3, 0, 4, 4] = value
    for arguments in ((bad, digits[:20]), (digits[:20], bad)):
        with pytest.raises(ValueError, match="finite, got 1 NaN or infinite"):
            fidelity(*arguments)
    with pytest.raises(ValueError, match="finite, got 1 NaN or infinite"):
        digits_features(bad)


@pytest.mark.parametrize(
    ("shape", "extractor", "message"),
    [
        ((20, 8, 8), "digits", r"\[n, 1, 8, 8\], got \[20, 8, 8\]"),
        ((20, 1, 16, 16), "digits", r"\[n, 1, 8, 8\]"),
        ((20, 3, 8, 8), "digits", r"\[n, 1, 8, 8\]"),
        ((20, 2, 32, 32), "inception", r"1 or 3"),
        ((20, 3, 32), "inception", r"1 or 3"),
    ],
)
def test_wrong_shapes_are_refused(shape, extractor, message):
    with pytest.raises(ValueError, match=message):
        fidelity(torch.zeros(shape), torch.zeros(shape), extractor)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (3, {"inception_splits": 1, "neighbours": 1}, "4 images or more, got 3"),
        (9, {}, "inception_splits = 10"),
        (20, {"kid_subset_size": 21}, "2 to 20 here, got 21"),
        (20, {"kid_subset_size": 0}, "2 to 20 here, got 0"),
        (20, {"neighbours": 20}, "neighbours = 20"),
        (20, {"neighbours": 0}, "neighbours = 0"),
        (20, {"inception_splits": 0}, "inception_splits = 0"),
        (20, {"extractor": "digit"}, "did you mean 'digits'"),
        (20, {"extractor": "Inceptionv3"}, "did you mean 'inception'"),
        (20, {"weights": "some.pth"}, "cache_dir"),
        (20, {"device": "tpu"}, "'tpu'"),
    ],
)
def test_what_cannot_be_measured_is_refused(digits, count, options, message):
    with pytest.raises(ValueError, match=message):
        fidelity(digits[:count], digits[:count], **options)


def test_types_and_unequal_images_are_refused(digits):
    with pytest.raises(ValueError, match="uint8"):
        fidelity(to_uint8(digits[:20]), digits[:20])
    with pytest.raises(ValueError, match="uint8"):
        digits_features(to_uint8(digits[:20]))
    with pytest.raises(ValueError, match=r"\[20, 1, 16, 16\]"):
        fidelity(digits[:20], torch.zeros(20, 1, 16, 16))


def test_no_gradient_flows(digits):
    images = digits[:20].clone().requires_grad_()
    assert not digits_features(images).requires_grad
    fidelity(images, digits[20:40])  # images that want a gradient are no error
    assert images.grad is None
    assert not any(weight.requires_grad for weight in load_classifier().network.parameters())
