"""The same dropout mask in student and teacher: `ict_lib.techniques.dropout`."""

import types
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from ict_lib.techniques.dropout import shared_mask
from tests import mutants

CPU = torch.device("cpu")
CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)


def drop(device, num=1000, rate=0.3):
    return nn.functional.dropout(torch.ones(num, device=device), rate, training=True)


class FakeAccelerator(types.SimpleNamespace):
    """A device module with a random state of its own, as ``torch.cuda`` has; its dropout draws from that state."""

    def __init__(self):
        super().__init__(generator=torch.Generator().manual_seed(99), entered=[])

    def manual_seed(self, seed):
        self.generator.manual_seed(seed)

    def get_rng_state(self, device):
        return self.generator.get_state()

    def set_rng_state(self, state, device):
        self.generator.set_state(state)

    @contextmanager
    def device(self, device):
        self.entered.append(device.index)
        yield

    def drop(self):
        return torch.rand(1000, generator=self.generator) < 0.3


@pytest.fixture
def accelerator(monkeypatch):
    fake, real = FakeAccelerator(), torch.get_device_module
    monkeypatch.setattr(
        torch, "get_device_module", lambda d=None: fake if "xpu" in (d, getattr(d, "type", None)) else real(d)
    )
    return fake


# Value from the paper: one mask for both, on each device


def check_one_mask(implementation, device, draw):
    with implementation(7, device):
        student = draw()
    draw()  # what else is drawn meanwhile must not matter
    with implementation(7, device):
        teacher = draw()
    assert torch.equal(student, teacher)


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_two_passes_drop_the_same_units(device):
    check_one_mask(shared_mask, torch.device(device), lambda: drop(device))


def test_trap_9_the_state_of_the_device_is_set_not_only_of_the_cpu(accelerator):
    device = torch.device("xpu", 1)
    check_one_mask(shared_mask, device, accelerator.drop)
    assert accelerator.entered == [1, 1]
    with pytest.raises(AssertionError):
        check_one_mask(mutants.cpu_only_mask, device, accelerator.drop)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trap_9_on_a_gpu():
    device = torch.device("cuda", 0)
    check_one_mask(shared_mask, device, lambda: drop(device))
    with pytest.raises(AssertionError):
        check_one_mask(mutants.cpu_only_mask, device, lambda: drop(device))


# Invariant


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_the_mask_depends_on_the_seed_alone(device):
    masks = []
    for seed, outside in ((1, 0), (1, 5), (2, 0)):
        torch.manual_seed(outside)
        with shared_mask(seed, torch.device(device)):
            masks.append(drop(device))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_what_comes_after_is_as_if_nothing_had_happened(device):
    def numbers(inside):
        torch.manual_seed(3)
        before = torch.rand(5, device=device)
        if inside:
            with shared_mask(1, torch.device(device)):
                drop(device)
        return torch.cat([before, torch.rand(5, device=device)]).tolist(), torch.rand(5).tolist()

    assert numbers(inside=True) == numbers(inside=False)


def test_the_state_of_an_accelerator_is_put_back(accelerator):
    before = accelerator.generator.get_state()
    with shared_mask(1, torch.device("xpu", 0)):
        accelerator.drop()
    assert torch.equal(accelerator.generator.get_state(), before)


def test_the_state_is_put_back_after_an_error_too():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), shared_mask(1, CPU):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


# Independent slow reference: what a rate of 0.3 means


def test_three_in_ten_are_dropped_and_the_mean_is_kept():
    num = 100_000
    with shared_mask(2**62 + 1, CPU):
        kept = drop("cpu", num)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((kept == 0).float().mean()) == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / num) ** 0.5)


# Gradients


def test_the_gradient_is_dropped_where_the_value_is():
    x = torch.ones(1000, requires_grad=True)
    with shared_mask(5, CPU):
        y = nn.functional.dropout(x, 0.3, training=True)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_the_mask_is_the_same_without_gradient():
    x, masks = torch.ones(1000, requires_grad=True), []
    for grad in (True, False):
        with shared_mask(5, CPU), torch.set_grad_enabled(grad):
            masks.append(nn.functional.dropout(x, 0.3, training=True).detach())
    assert torch.equal(*masks)
