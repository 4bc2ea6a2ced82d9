"""FID, Inception score, KID, precision and recall of images in memory: torch-fidelity's network and its formulas."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ict_lib.checks import require, require_finite, require_known
from ict_lib.data.cache import published_file
from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.extractor import HELD_OUT, load_extractor, one_thread
from ict_lib.evaluation.reference import Network, kept, summarise
from ict_lib.training.precision import multiplying

EXTRACTORS = (*HELD_OUT, "inception")
INCEPTION = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
LEAST = 10  # images of a set: torch-fidelity averages the Inception score over ten parts, as published
SUBSET = 1000  # images in each of KID's 100 random subsets, as published; half of a smaller set, or subsets would agree
NAMES = {  # ours -> torch-fidelity's
    "fid": "frechet_inception_distance",
    "inception_score": "inception_score_mean",
    "inception_score_std": "inception_score_std",
    "kid": "kernel_inception_distance_mean",
    "kid_std": "kernel_inception_distance_std",
    "precision": "precision",
    "recall": "recall",
}


@multiplying("fp32")
def fidelity(
    generated: Tensor, reference: Tensor | Dataset, extractor: str = "digits", fid_alone: bool = False
) -> dict[str, float]:
    """Compare generated with reference images, 10 or more of both: ``[num, channel, height, width]``, in [-1, 1].

    The extractor is ``"inception"`` (any size, 1 or 3 channels), which computes on a CUDA device where there is one, in
    fp32; or the data set whose small classifier it is (images like its own). Generated images may be floating point, or
    what :func:`to_uint8` makes of them. Of a reference that is a data set Inception's features are computed once and
    kept in the cache folder.

    The result is ``fid`` and, unless it is wanted alone, ``inception_score``, ``inception_score_std``, ``kid``, which
    may be a little below 0, ``kid_std``, and ``precision`` and ``recall``, from 0 to 1. All come from one network; with
    ``"inception"`` precision and recall are on its 2048 pooled features too. They are biased in small sets: compare
    only sets of the same sizes. Of a set of more than 50,000 images all count for the FID, and a fixed random part for
    the rest. The same images give the same numbers: nothing is drawn anew.

    Images that are not finite, shapes or names that do not fit, and small sets are a ValueError; for Inception's
    weights see :func:`~ict_lib.data.cache.published_file`.

    Source: torch-fidelity; FID Heusel et al. 2017, Inception score Salimans et al. 2016, KID Binkowski et al. 2018,
    precision and recall (3 neighbours) Kynkaanniemi et al. 2019.
    """
    stored = isinstance(reference, Dataset)
    real = reference.pixels if stored else reference
    _check_images(generated, real, extractor)
    whole = stored and real.dtype == torch.uint8  # are levels already; a mapped file stays mapped
    levels = [to_uint8(generated).cpu(), (real if whole else to_uint8(real)).cpu()]
    small = extractor != "inception"
    with torch.random.fork_rng(devices=[]), one_thread() if small else nullcontext():
        device = "cuda" if torch.cuda.is_available() and not small else "cpu"
        network = _small(extractor) if small else _inception(device)
        made, computed = (partial(summarise, network, part, device) for part in levels)
        sets = made(), kept(reference, INCEPTION, computed) if stored and not small else computed()
        return _compare(*sets, device, fid_alone)


def to_uint8(images: Tensor) -> Tensor:
    r"""Images as 8-bit levels, clipped to [-1, 1] and rounded; CT's code truncates instead, half a level lower.

    .. math:: p = \mathrm{round}(127.5 (x + 1))

    From floating point ``[num, channel, height, width]``, on the same device; levels stay as they are. Others, and
    values that are not finite, are a ValueError.
    """
    if images.dtype == torch.uint8:
        return images
    fits = images.ndim == 4 and images.is_floating_point()
    require(fits, "images", [images.dtype, *images.shape], "floating point [n, c, h, w]")
    require_finite("images", images)
    return ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def inception_weights(download: bool = True) -> Path:
    """Find the published weights where :func:`~ict_lib.data.cache.published_file` looks, or download them."""
    return published_file(INCEPTION, "ICT_INCEPTION", download=download)


def _check_images(generated: Tensor, reference: Tensor, extractor: str) -> None:
    """Refuse an unknown extractor, images of two forms, and sets that are too small."""
    require_known("extractor", extractor, EXTRACTORS)
    shapes, fits = [list(generated.shape), list(reference.shape)], generated.ndim == 4 and generated.shape[1] in (1, 3)
    fits = fits and generated.shape[1:] == reference.shape[1:]
    require(fits, "images", shapes, "[n, 1 or 3, height, width] of both")
    require(min(len(generated), len(reference)) >= LEAST, "images", shapes, f"{LEAST} images or more of both")


def _small(name: str) -> Network:
    network = load_extractor(name)
    return lambda levels: network(levels.double() / 127.5 - 1)


def _inception(device: str) -> Network:
    from torch_fidelity.utils import create_feature_extractor  # 3 s to import, and so is what follows

    weights, layers = str(inception_weights()), ["2048", "logits_unbiased"]
    options = {"cuda": device == "cuda", "verbose": False, "feature_extractor_weights_path": weights}
    network: Callable = create_feature_extractor("inception-v3-compat", layers, **options)
    return lambda levels: network(levels.expand(-1, 3, -1, -1))


def _compare(made: dict[str, Tensor], real: dict[str, Tensor], device: str, fid_alone: bool) -> dict[str, float]:
    """Apply torch-fidelity's formulas to what :func:`summarise` gives of two sets; distances are taken on a device."""
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    sets = made["features"], real["features"]
    subset = min(SUBSET, *(len(features) // 2 for features in sets))
    moments = [{"mu": part["mean"].numpy(), "sigma": part["covariance"].numpy()} for part in (made, real)]
    found = fid_statistics_to_metric(*moments, verbose=False)
    if not fid_alone:
        found |= isc_features_to_metric(made["logits"])
        found |= kid_features_to_metric(*sets, kid_subset_size=subset, verbose=False)
        found |= prc_features_to_metric(*(part.to(device) for part in sets), save_cpu_ram=True, verbose=False)
    return {ours: float(found[theirs]) for ours, theirs in NAMES.items() if theirs in found}
