"""Features of digits for Frechet distances: our own stand-in for Inception, trained once and kept."""

import hashlib
import os
import platform
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ict_lib.data import digits
from ict_lib.data.cache import cache_folder
from ict_lib.evaluation import digits_classifier
from ict_lib.evaluation.digits_classifier import DigitsClassifier, TrainedClassifier, one_thread
from ict_lib.files import write_atomically


def digits_features(images: Tensor, cache_dir: str | os.PathLike[str] | None = None) -> Tensor:
    """Features of 8x8 digits: the last hidden layer of a classifier that was trained on real ones.

    The first call trains it (seconds) and keeps it; see `load_classifier`.

    Source: own.

    Args:
        images: floating point, shape ``[n, 1, 8, 8]``; values outside [-1, 1] are clipped.
        cache_dir: folder of the trained classifier; see `cache_folder` for where it is otherwise.

    Returns:
        Features, float64, shape ``[n, 64]``, on the CPU, without gradient.

    Raises:
        ValueError: if the images are not floating point ``[n, 1, 8, 8]``, or not finite.
    """
    if images.shape[1:] != (1, 8, 8) or not images.is_floating_point():
        raise ValueError(f"digits must be floating point [n, 1, 8, 8], got {images.dtype} {list(images.shape)}")
    if not images.isfinite().all():
        raise ValueError(f"digits must be finite, got {(~images.isfinite()).sum()} NaN or infinite values")
    network = load_classifier(cache_dir).network.double()
    levels = images.detach().cpu().double().clamp(-1, 1)
    with one_thread():
        return torch.cat([network(part)[0] for part in levels.split(4096)])


def load_classifier(cache_dir: str | os.PathLike[str] | None = None) -> TrainedClassifier:
    """Read the trained classifier from the cache, or train it and write it there.

    The file's name holds a hash of all that determines the weights: the source of the classifier and of its
    data, the versions of torch and scikit-learn, the kind of processor. A damaged file is noticed (each file
    carries a hash of its weights) and made again. Writing is atomic; a folder that cannot be written costs a
    warning.

    Source: own.

    Args:
        cache_dir: folder of the trained classifier; see `cache_folder` for where it is otherwise.

    Returns:
        The classifier, float32, and its accuracy on held-out digits.
    """
    path = cache_folder(cache_dir) / f"digits-classifier-{_content_key()}.safetensors"
    trained = _read(path)
    if trained is None:
        trained = digits_classifier.train_classifier()
        try:
            _write(path, trained)
        except OSError as error:
            warnings.warn(f"the digits classifier cannot be kept in {path.parent}: {error}", stacklevel=2)
    return trained


def _content_key() -> str:
    """Hash of all that determines the weights."""
    parts = [Path(module.__file__).read_bytes() for module in (digits_classifier, digits)]
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    parts += [text.encode() for text in (torch.__version__, version("scikit-learn"), processor)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _weights_hash(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> TrainedClassifier | None:
    """The classifier in a file, or None if there is no file or it is not what was written."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            notes = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError):
        return None
    if notes.get("sha256") != _weights_hash(weights):
        return None
    network: DigitsClassifier = digits_classifier.empty_classifier()
    network.load_state_dict(weights)
    return TrainedClassifier(network.eval().requires_grad_(False), float(notes["accuracy"]))


def _write(path: Path, trained: TrainedClassifier) -> None:
    """Keep the classifier: a reader sees the whole file or none."""
    weights = trained.network.state_dict()
    notes = {"sha256": _weights_hash(weights), "accuracy": repr(trained.accuracy)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(weights, metadata=notes))
