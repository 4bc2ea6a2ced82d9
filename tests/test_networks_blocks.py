"""What the U-Nets are made of: `ict_lib.networks.blocks`."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ict_lib.networks.blocks import Attention, ResidualBlock, group_norm, zeroed
from ict_lib.networks.fir import FIRDownsample, FIRUpsample
from tests import slow_unet

RESAMPLINGS = {  # ours -> slow
    "none": (None, None),
    "fir down": (FIRDownsample(), slow_unet.fir_down),
    "fir up": (FIRUpsample(), slow_unet.fir_up),
    "average down": (nn.AvgPool2d(2), slow_unet.average_down),
    "nearest up": (nn.Upsample(scale_factor=2, mode="nearest"), slow_unet.nearest_up),
}


def trained(module, std=0.3):
    """All weights drawn, in float64, so that nothing is hidden by a zero."""
    gen = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std, generator=gen)
    return module.double().eval()


def images(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Value from the paper


@pytest.mark.parametrize(("channels", "groups"), [(128, 32), (256, 32), (384, 32), (576, 32), (1344, 32), (64, 16)])
def test_the_papers_widths_have_32_groups_or_groups_of_four(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_a_sum_of_two_branches_of_variance_one_keeps_it():
    layer = Attention(8, 8, math.sqrt(0.5))  # new: its own branch is zero
    h = images(1, 8, 4, 4).float()
    torch.testing.assert_close(layer(h), h / math.sqrt(2))


# Invariant


@pytest.mark.parametrize("channels", [*range(4, 70, 2), 96, 130, 144])
def test_groups_divide_the_channels_and_hold_four_or_more(channels):
    groups = group_norm(channels).num_groups
    assert channels % groups == 0
    assert channels // groups >= 4


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_new_block_adds_nothing_whatever_it_is_told(adaptive):
    block, h = ResidualBlock(8, 8, 6, 0.0, head_channels=4, adaptive=adaptive), images(2, 8, 4, 4).float()
    assert torch.equal(block(h, torch.randn(2, 6)), h)


def test_attention_does_not_know_where_a_position_is():
    layer, h = trained(Attention(8, 4)), images(2, 8, 3, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled = layer(h.flatten(2)[:, :, order].view_as(h))
    torch.testing.assert_close(shuffled, layer(h).flatten(2)[:, :, order].view_as(h))


@pytest.mark.parametrize("kind", RESAMPLINGS)
def test_a_projected_shortcut_has_a_convolution_where_the_channels_agree(kind):
    resample, _ = RESAMPLINGS[kind]
    parameters = [
        sum(p.numel() for p in ResidualBlock(8, 8, 6, 0.0, resample=resample, project=project).parameters())
        for project in (False, True)
    ]
    assert parameters[1] - parameters[0] == 8 * 8 + 8


# Independent slow reference


@pytest.mark.parametrize("normalise_qk", [False, True])
@pytest.mark.parametrize("head_channels", [8, 4, 2])
def test_attention_against_softmax_one_position_at_a_time(head_channels, normalise_qk):
    layer, h = trained(Attention(8, head_channels, gain=0.7, normalise_qk=normalise_qk)), images(2, 8, 2, 3)
    w = {f"a.{key}": value for key, value in slow_unet.weights_of(layer).items()}
    expected = slow_unet.attention(w, "a", h.numpy(), head_channels, 0.7, normalise_qk=normalise_qk)
    np.testing.assert_allclose(layer(h).detach(), expected, atol=1e-4 if normalise_qk else 1e-10)


@pytest.mark.parametrize("kind", RESAMPLINGS)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (8, 12)])
def test_the_block_against_its_formula(kind, adaptive, inputs, outputs):
    resample, slow = RESAMPLINGS[kind]
    options = {"head_channels": 4, "adaptive": adaptive, "gain": 0.8}
    block = trained(ResidualBlock(inputs, outputs, 6, 0.3, resample=resample, **options))
    h, emb = images(2, inputs, 4, 6), images(2, 6, seed=1)
    w = {f"b.{key}": value for key, value in slow_unet.weights_of(block).items()}
    expected = slow_unet.residual_block(w, "b", h.numpy(), emb.numpy(), resample=slow, **options)
    np.testing.assert_allclose(block(h, emb).detach(), expected, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("channels", [8, 64, 96])
def test_the_normalisation_written_out_is_torchs_and_keeps_the_channels_last(channels, dtype, tolerance, monkeypatch):
    norm, h = trained(group_norm(channels)).to(dtype), 3 * images(2, channels, 4, 6).to(dtype) + 1
    h = h.to(memory_format=torch.channels_last).requires_grad_()
    expected = norm(h)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    found = norm(h)
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    assert found.is_contiguous(memory_format=torch.channels_last)
    slopes = [torch.autograd.grad((made**3).sum(), [h, *norm.parameters()]) for made in (found, expected)]
    torch.testing.assert_close(*slopes, rtol=10 * tolerance, atol=100 * tolerance)


def test_compiled_it_is_written_out_and_16_bits_are_summed_in_32():
    norm, seen = group_norm(8), []
    torch.compiler.reset()
    compiled = torch.compile(norm, fullgraph=True, backend=lambda graph, _: seen.append(graph.code) or graph.forward)
    made = compiled(images(2, 8, 4, 4).half())
    assert made.dtype == torch.float32
    assert "group_norm" not in seen[0]
    torch.testing.assert_close(made, norm(images(2, 8, 4, 4).half().float()), rtol=0, atol=1e-6)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_normalised_queries_and_keys_keep_large_numbers_in_16_bits(dtype, monkeypatch):
    """The logits of 64 channels stay within 8, whatever the weights have grown to."""
    layer, seen, real = (
        trained(Attention(64, 64, normalise_qk=True), std=30.0).float(),
        [],
        F.scaled_dot_product_attention,
    )
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *qkv: seen.extend(qkv) or real(*qkv))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        layer(images(2, 64, 4, 4).float())
    q, k, v = (tensor.detach() for tensor in seen)
    assert (q.dtype, k.dtype, v.dtype) == (dtype, dtype, dtype)
    assert float(v.float().abs().max()) > 256  # whose square fp16 cannot hold
    assert float((q.float() @ k.float().mT / 8).abs().max()) <= 8.1


def test_attention_copies_nothing_where_the_channels_come_last():
    """Queries, keys and values are views of one tensor, with the channels of a head side by side, as kernels want."""
    layer, seen = Attention(8, 4), []
    layer.leave.register_forward_hook(lambda _, given, made: seen.extend([given[0], made]))
    h = images(2, 8, 4, 4).float().to(memory_format=torch.channels_last)
    layer.to(memory_format=torch.channels_last)(h)
    assert all(tensor.is_contiguous(memory_format=torch.channels_last) for tensor in seen)


# Errors and gradients


@pytest.mark.parametrize("head_channels", [3, 0, -1, 16])
def test_heads_share_the_channels_evenly(head_channels):
    with pytest.raises(ValueError, match=f"head_channels is {head_channels}: a divisor of the 8 channels"):
        Attention(8, head_channels)


def test_a_zeroed_layer_still_learns():
    layer = zeroed(nn.Conv2d(2, 2, 1))
    assert not layer.weight.any()
    layer(torch.ones(1, 2, 1, 1)).sum().backward()
    assert layer.weight.grad.all()
