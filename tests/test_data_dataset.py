"""The form of a data set, and images that stay in a file: `ict_lib.data.dataset`."""

import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ict_lib.config import Run
from ict_lib.data import load_dataset
from ict_lib.data.dataset import Dataset
from ict_lib.training.loop import Training

SHAPE = (50, 3, 4, 6)


def levels():
    return torch.randint(256, SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def made(pixels, flip=False, stored=None):
    return Dataset(pixels, torch.arange(len(pixels)) % 10, 10, "made", flip, stored)


def from_file(path, flip=False):
    """As `made`, with the pixels mapped from a file."""
    return made(torch.from_numpy(np.load(path, mmap_mode="c")), flip, "checksum")


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "p.npy", levels().numpy())
    return tmp_path / "p.npy"


@pytest.fixture(params=["memory", "file"])
def source(request, file):
    """Makes a data set of the same levels, in memory or mapped."""
    return {"memory": lambda flip=False: made(levels(), flip), "file": partial(from_file, file)}[request.param]


@pytest.fixture
def mapped(file):
    return from_file(file)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# Value


def test_levels_stand_for_minus_one_to_one():
    data = made(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16))
    assert torch.equal(data.images.flatten(), torch.arange(256) / 127.5 - 1)
    assert data.images.aminmax() == (-1, 1)


def test_floats_stay_as_they_are():
    data = load_dataset("digits")
    indices = torch.tensor([5, 0, 5])
    assert torch.equal(data.batch(indices), data.pixels[indices])
    assert torch.equal(data.batch(indices).unique(), data.pixels[indices].unique())


# Invariant


def test_memory_and_file_give_the_same(source):
    data = source(flip=True)
    expected = made(levels(), flip=True)
    indices = torch.randint(50, (30,), generator=seeded(1))
    assert torch.equal(data.images, expected.images)
    assert torch.equal(data.batch(indices), expected.batch(indices))
    assert torch.equal(data.batch(indices, "cpu", seeded(2)), expected.batch(indices, "cpu", seeded(2)))


@pytest.mark.parametrize("announced", ["next", "other", "longer", "twice", "changed"])
def test_an_announcement_never_changes_what_is_read(mapped, announced):
    wanted, other = torch.tensor([3, 1, 4, 1]), torch.tensor([2, 7, 1, 8])
    guess = {"next": wanted, "other": other, "longer": wanted.repeat(2)}.get(announced, wanted).clone()
    mapped.prefetch(other if announced == "twice" else guess)
    if announced == "twice":
        mapped.prefetch(wanted)
    if announced == "changed":
        guess[:] = 9  # the caller's tensor is its own
    for _ in range(2):
        assert torch.equal(mapped.batch(wanted), made(levels()).batch(wanted))
    assert torch.equal(mapped.batch(other), made(levels()).batch(other))


def test_an_announced_batch_is_read_once_and_in_the_background(mapped, monkeypatch):
    threads, select = [], torch.index_select

    def noted(*given, out):
        threads.append(threading.current_thread())
        return select(*given, out=out)

    monkeypatch.setattr(torch, "index_select", noted)
    for start in range(3):
        mapped.prefetch(torch.tensor([start, 5]))
        mapped.batch(torch.tensor([start, 5]))
    assert len(threads) == 3
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("flip", [False, True])
def test_a_training_from_a_file_resumes_bit_for_bit_and_equals_one_from_memory(tmp_path, flip):
    pixels = (load_dataset("digits").images[:200] * 8 + 8).byte()
    np.save(tmp_path / "p.npy", pixels.numpy())
    small = {"network_options": {"width": 16, "blocks": 2}, "batch_size": 8, "device": "cpu"}
    run = Run(**small, steps=6, log_every=1, checkpoint_every=1)

    def trained(data, stop=None, folder=None):
        training = Training(run, folder=folder, data=data)
        for _ in range(stop or 6 - training.step):
            next(training)
        return torch.cat([p.detach().flatten() for p in training.student.parameters()])

    in_memory, mapped = trained(made(pixels, flip)), partial(from_file, tmp_path / "p.npy", flip)
    assert torch.equal(in_memory, trained(mapped()))
    trained(mapped(), stop=4, folder=tmp_path / "kept")
    assert torch.equal(in_memory, trained(mapped(), folder=tmp_path / "kept"))


def test_the_file_is_never_written(mapped, file):
    before = file.read_bytes()
    mapped.pixels[0] = 7
    assert file.read_bytes() == before


# Independent slow reference


def test_flips_against_a_loop(source):
    data, indices = source(flip=True), torch.randint(50, (200,), generator=seeded(1))
    batch = data.batch(indices, "cpu", seeded(3))
    kept = mirrored = 0
    for image, index in zip(batch, indices.tolist(), strict=True):
        stored = (levels()[index].double() / 127.5 - 1).float()
        mirror = torch.stack([stored[..., k] for k in range(5, -1, -1)], dim=-1)
        kept += torch.allclose(image, stored, atol=1e-6)
        mirrored += torch.allclose(image, mirror, atol=1e-6)
    assert kept + mirrored == 200
    assert 70 < mirrored < 130


# Shapes, dtypes, independence


def test_sizes_and_types(source):
    data = source()
    assert (len(data), data.shape, data.flip) == (50, (3, 4, 6), False)
    batch = data.batch(torch.tensor([1]))
    assert (batch.shape, batch.dtype) == ((1, 3, 4, 6), torch.float32)
    moved = data.to("cpu")
    assert torch.equal(moved.batch(torch.arange(9)), data.batch(torch.arange(9)))


def test_only_flipping_draws_and_an_image_does_not_depend_on_its_neighbours(source):
    for flip in (False, True):
        generator = seeded()
        source(flip).batch(torch.arange(4), "cpu", generator)
        assert torch.equal(generator.get_state(), seeded().get_state()) == (not flip)
    one, two = (source(True).batch(torch.tensor([k, 1, 2]), "cpu", seeded()) for k in (0, 9))
    assert torch.equal(one[1:], two[1:])
    assert torch.equal(source(True).batch(torch.arange(50)), source().images)  # no generator, no flips


def test_checksums_tell_contents_apart():
    sums = [made(pixels).checksum() for pixels in (levels(), levels().flip(0), levels().reshape(50, 3, 6, 4))]
    assert len(set(sums)) == 3
    assert sums[0] == made(levels()).checksum()
    assert load_dataset("digits").checksum() == load_dataset("digits").checksum()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_same_batches_from_pinned_memory(source):
    indices = torch.arange(20)
    data = source(flip=True).to("cuda")
    data.prefetch(indices)
    if data.stored:
        assert data._gather(indices).is_pinned()
    batch = data.batch(indices, "cuda", seeded())
    assert batch.device.type == "cuda"
    assert torch.equal(batch.cpu(), made(levels(), flip=True).batch(indices, "cpu", seeded()))


# Errors


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("pixels", torch.zeros(50, 8, 8), r"\[num, channel, height, width\]"),
        ("pixels", torch.zeros(0, 1, 8, 8), "num >= 1"),
        ("pixels", torch.zeros(50, 1, 8, 8, dtype=torch.int16), "int16"),
        ("pixels", torch.full((50, 1, 8, 8), 1.01), "to 1.01"),
        ("pixels", torch.full((50, 1, 8, 8), torch.nan), "nan"),
        ("labels", torch.zeros(49, dtype=torch.int64), "49"),
        ("labels", torch.zeros(50, dtype=torch.int32), "int32"),
        ("labels", torch.full((50,), 10), "is '10 to 10'"),
        ("labels", torch.full((50,), -1), "is '-1 to -1'"),
        ("num_classes", 9, r"0 \.\. 8"),
    ],
)
def test_what_does_not_fit_is_refused(field, value, message):
    with pytest.raises(ValueError, match=message):
        replace(made(levels()), **{field: value})


@pytest.mark.parametrize("index", [50, -1])
def test_an_index_out_of_range_is_refused_announced_or_not(mapped, index):
    bad = torch.tensor([0, index])
    with pytest.raises(IndexError):
        mapped.batch(bad)
    mapped.prefetch(bad)
    with pytest.raises(IndexError):
        mapped.batch(bad)


def test_too_many_images_for_floats(monkeypatch, source):
    monkeypatch.setattr("ict_lib.data.dataset.MOST_FLOATS", 50 * 72 - 1)
    with pytest.raises(ValueError, match=r"use batch\(indices\)"):
        _ = source().images
