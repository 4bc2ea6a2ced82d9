"""FID, Inception score, KID, precision and recall: torch-fidelity's numbers on tensors of images."""

import os
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from ict_lib.data.dataset import Dataset
from ict_lib.evaluation.digits_classifier import one_thread
from ict_lib.evaluation.digits_extractor import register_digits_extractor
from ict_lib.evaluation.inception_weights import inception_weights
from ict_lib.evaluation.levels import stored_levels, to_uint8
from ict_lib.evaluation.reference import MOST, cache_options, keep_statistics, some_of

EXTRACTORS = ("digits", "inception")
INCEPTION = "inception-v3-compat"  # its name in torch-fidelity
ALL = ("isc", "fid", "kid", "prc")  # what it computes, by its names


def fidelity(
    generated: Tensor,
    reference: Tensor | Dataset,
    extractor: str = "digits",
    weights: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    kid_subset_size: int | None = None,
    neighbours: int = 3,
    inception_splits: int = 10,
    batch_size: int = 64,
    device: str = "cpu",
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """Compare generated with reference images, by torch-fidelity, without any output.

    Images become 8-bit first, as in every published FID: clipped to [-1, 1] and rounded to 256 levels. All
    metrics use one network; with ``"inception"`` precision and recall are on its 2048 pooled features too.
    Numbers of small sets are biased: compare only sets of the same sizes.

    Source: torch-fidelity; FID Heusel et al. 2017, Inception score Salimans et al. 2016, KID Binkowski et al.
    2018, precision and recall Kynkaanniemi et al. 2019.

    Args:
        generated: floating point, shape ``[n, channel, height, width]``, meant to be in [-1, 1].
        reference: floating point, shape ``[m, channel, height, width]``; or a data set, of which Inception's
            features are computed once and kept in ``cache_dir``. Of a set of more than 50,000 images all count for
            the FID, and a fixed random part for KID, precision and recall.
        extractor: ``"digits"`` (images ``[1, 8, 8]``) or ``"inception"`` (any size, 1 or 3 channels).
        weights: file of the Inception weights; downloaded once otherwise.
        cache_dir: folder of the networks' weights and of what was computed with them; see `cache_folder` for where
            it is otherwise.
        kid_subset_size: samples in each of KID's 100 random subsets; otherwise 1000, or half of the smaller
            set if that is less.
        neighbours: which nearest neighbour sets the radius in precision and recall.
        inception_splits: parts over which the Inception score is averaged.
        batch_size: images a forward pass.
        device: ``"cpu"`` or ``"cuda"``, where the features are computed.
        generator: draws the seed of the splits and subsets; torch-fidelity's fixed seed otherwise.

    Returns:
        ``fid``, ``inception_score``, ``inception_score_std``, ``kid``, ``kid_std``, ``precision``,
        ``recall``; the last two from 0 to 1. ``kid`` may be a little below 0.

    Raises:
        ValueError: if an image is not finite, a shape or a name does not fit, a set is too small, or
            the Inception weights are damaged.
        FileNotFoundError: if ``weights`` is given and is not a file.
        RuntimeError: if the Inception weights are missing and cannot be downloaded.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {device!r}")
    pixels = reference.pixels if isinstance(reference, Dataset) else reference
    name = _extractor_name(extractor, generated, pixels, weights)
    _check_counts(len(generated), len(pixels), kid_subset_size, neighbours, inception_splits)
    levels = stored_levels(pixels) if isinstance(reference, Dataset) else to_uint8(reference)
    images = _Images(to_uint8(generated), name)
    path = cache_dir if extractor == "digits" else str(inception_weights(weights, cache_dir))
    seed = 2020 if generator is None else int(torch.randint(2**31, (), generator=generator))
    smaller = min(len(generated), len(levels), MOST)
    options = {
        "feature_extractor": name,
        "feature_extractor_weights_path": path,
        "kid_subset_size": kid_subset_size or min(1000, smaller // 2),
        "prc_neighborhood": neighbours,
        "isc_splits": inception_splits,
        "batch_size": batch_size,
        "cuda": device == "cuda",
        "rng_seed": seed,
    }
    with one_thread() if extractor == "digits" else nullcontext():
        if isinstance(reference, Dataset) and extractor == "inception":
            return _with_cache(images, reference, levels, options, cache_dir)
        return _calculate([images, _Images(levels, name)], options, ALL)


class _Images(TorchDataset):
    """Levels of one image after another, as torch-fidelity wants them."""

    def __init__(self, levels: Tensor, name: str):
        self.levels = levels.expand(-1, 3, -1, -1) if name == INCEPTION else levels

    def __len__(self) -> int:
        return len(self.levels)

    def __getitem__(self, index: int) -> Tensor:
        return self.levels[index]


def _extractor_name(extractor: str, generated: Tensor, reference: Tensor, weights: object) -> str:
    """Name of the extractor in torch-fidelity, registered; refuses images that it cannot read."""
    if extractor not in EXTRACTORS:
        nearest = get_close_matches(str(extractor), EXTRACTORS, n=1, cutoff=0.0)[0]
        raise ValueError(f"no extractor {extractor!r}, did you mean {nearest!r}?")
    if extractor == "digits" and weights is not None:
        raise ValueError(f"weights = {weights!r} is for the Inception extractor; the digits' are in cache_dir")
    fits = generated.shape[1:] == (1, 8, 8) if extractor == "digits" else generated.shape[1:2] in ((1,), (3,))
    if generated.ndim != 4 or generated.shape[1:] != reference.shape[1:] or not fits:
        wanted = "[n, 1, 8, 8]" if extractor == "digits" else "[n, 1 or 3, height, width]"
        shapes = f"{list(generated.shape)} and {list(reference.shape)}"
        raise ValueError(f"{extractor} needs generated and reference images {wanted}, got {shapes}")
    return register_digits_extractor() if extractor == "digits" else INCEPTION


def _check_counts(generated: int, reference: int, subset: int | None, neighbours: int, splits: int) -> None:
    smaller = min(generated, reference)
    counts = f"got {generated} generated and {reference} reference images"
    if smaller < 4:
        raise ValueError(f"each set needs 4 images or more, {counts}")
    if subset is not None and not 2 <= subset <= smaller:
        raise ValueError(f"kid_subset_size must be 2 to {smaller} here, got {subset}")
    if not 1 <= neighbours < smaller:
        raise ValueError(f"neighbours = {neighbours} must be 1 or more and less than the images, {counts}")
    if not 1 <= splits <= generated:
        raise ValueError(f"inception_splits = {splits} must be 1 to the number of generated images, {counts}")


def _with_cache(images: _Images, data: Dataset, levels: Tensor, options: dict, folder: object) -> dict[str, float]:
    """Compare with a data set; all its images count for the FID, at most `MOST` for the rest."""
    weights = Path(options["feature_extractor_weights_path"])
    part = _Images(some_of(levels, MOST), INCEPTION)
    few = options | cache_options(data, weights, folder, MOST)
    if len(levels) <= MOST:
        return _calculate([images, part], few, ALL)
    whole = _Images(levels, INCEPTION)
    every = options | cache_options(data, weights, folder, len(levels))
    keep_statistics(whole, INCEPTION, every)
    found = _calculate([images, whole], every, ("fid",))  # reads the statistics, not the images
    return found | _calculate([images, part], few, ("isc", "kid", "prc"))


def _calculate(inputs: list[TorchDataset], options: dict, metrics: tuple[str, ...]) -> dict[str, float]:
    """Run torch-fidelity and give its results our names."""
    with torch.random.fork_rng(devices=[]):  # its loader draws from the global state
        results = torch_fidelity.calculate_metrics(
            input1=inputs[0],
            input2=inputs[1],
            save_cpu_ram=True,
            verbose=False,
            **dict.fromkeys(metrics, True),
            **{"cache": False, **options},
        )
    names = {
        "fid": torch_fidelity.KEY_METRIC_FID,
        "inception_score": torch_fidelity.KEY_METRIC_ISC_MEAN,
        "inception_score_std": torch_fidelity.KEY_METRIC_ISC_STD,
        "kid": torch_fidelity.KEY_METRIC_KID_MEAN,
        "kid_std": torch_fidelity.KEY_METRIC_KID_STD,
        "precision": torch_fidelity.KEY_METRIC_PRECISION,
        "recall": torch_fidelity.KEY_METRIC_RECALL,
    }
    return {ours: float(results[theirs]) for ours, theirs in names.items() if theirs in results}
