"""The network of CIFAR-10: `ict_lib.networks.ncsnpp`; what all U-Nets share is in `test_networks_unet.py`.

Floating-point operations are counted as torch does: a multiplication and an addition are two.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.networks.blocks import Attention, ResidualBlock
from ict_lib.networks.build import build_network
from ict_lib.networks.ncsnpp import NCSNpp
from ict_lib.recipe import CT, ICT, ICT_DEEP
from tests import mutants, slow_unet

TINY = {"channels": 8, "multipliers": (2, 1, 2), "blocks": 2, "attention_resolutions": (4,)}


def full(recipe=ICT):
    """The paper's network, without memory."""
    with torch.device("meta"):
        return build_network("ncsnpp", (3, 32, 32), recipe)


def tiny(num_classes=3, dropout=0.3, kind=NCSNpp, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind((3, 8, 8), 0.5, dropout, num_classes, **{**TINY, **options})
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.15)
    return network.eval()


def inputs(batch=3, dtype=torch.float32):
    gen = torch.Generator().manual_seed(0)
    x, c_noise = torch.randn(batch, 3, 8, 8, generator=gen), torch.randn(batch, generator=gen)
    return x.to(dtype), c_noise.to(dtype), torch.arange(batch) % 3


def of(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


# Value from the paper


@pytest.mark.parametrize(("recipe", "count"), [(CT, 56_395_523), (ICT, 56_395_523), (ICT_DEEP, 97_610_499)])
def test_the_number_of_parameters_is_the_papers(recipe, count):
    """The frequencies of the embedding are drawn once and not learned: they do not count."""
    assert sum(p.numel() for p in full(recipe).parameters()) == count


@pytest.mark.parametrize(("recipe", "gigaflops"), [(ICT, 42.8), (ICT_DEEP, 76.7)])
def test_the_cost_of_a_forward_pass(recipe, gigaflops):
    with FlopCounterMode(display=False) as counter:
        full(recipe)(torch.empty(1, 3, 32, 32, device="meta"), torch.empty(1, device="meta"))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, rel=0.02)


@pytest.mark.parametrize(("recipe", "down", "up"), [(ICT, 4, 5), (ICT_DEEP, 8, 9)])
def test_blocks_per_resolution(recipe, down, up):
    network = full(recipe)
    assert [len(blocks) for blocks in network.down] == [down] * 3
    assert [len(blocks) for blocks in network.up] == [up] * 3
    assert len(of(network, ResidualBlock)) == 3 * (down + up) + 2 + 2 + 2  # and shrink, middle, grow


def test_attention_stands_at_16_and_in_the_middle():
    """On the way down after every block, on the way up after the last, one head of all channels."""
    network = full()
    with_attention = [
        [[hasattr(b.attention, "qkv") for b in blocks] for blocks in way] for way in (network.down, network.up)
    ]
    assert with_attention[0] == [[False] * 4, [True] * 4, [False] * 4]
    assert with_attention[1] == [[False] * 5, [False] * 4 + [True], [False] * 5]
    assert [hasattr(block.attention, "qkv") for block in network.middle] == [True, False]
    assert {layer.head_channels for layer in of(network, Attention)} == {256}


def check_dropout_in_every_block(kind):
    network, seen = tiny(kind=kind).train(), []
    for layer in of(network, nn.Dropout):
        layer.register_forward_hook(lambda _, given, made: seen.append(float((made == 0).float().mean())))
    network(*inputs(64))
    assert len(seen) == len(of(network, ResidualBlock))
    assert seen == pytest.approx([0.3] * len(seen), abs=0.05)


def test_trap_10_dropout_acts_in_every_residual_block():
    check_dropout_in_every_block(NCSNpp)


def test_trap_10_a_way_up_without_dropout_is_noticed():
    with pytest.raises(AssertionError):
        check_dropout_in_every_block(mutants.DropoutOnTheWayDown)


def test_every_normalisation_adds_a_millionth_to_the_variance():
    """As in the released networks of score SDE and CT; torch's own would be ten times as much."""
    assert {norm.eps for norm in of(full(), nn.GroupNorm)} == {1e-6}


def test_the_first_weights_are_glorots_and_small_in_attention():
    network = NCSNpp((3, 8, 8), 0.02, channels=32, multipliers=(2, 2), blocks=1, attention_resolutions=(4,))
    block = network.down[1][0]
    for layer, bound in [
        (network.embedding[1], math.sqrt(6 / (64 + 128))),
        (block.enter[2], math.sqrt(6 / (9 * 64 + 9 * 64))),
        (block.attention.qkv, math.sqrt(0.1 * 6 / (64 + 64))),
    ]:
        assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
        assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert not layer.bias.any()
    assert not any(layer.weight.any() for layer in (block.leave[-1], block.attention.leave, network.last[-1]))


# Invariant


def test_the_pyramid_shows_the_input_again_at_every_resolution():
    """With the skip connections and the blocks on the way cut, the input still arrives."""
    network, (x, c_noise, _) = tiny(), inputs()
    nn.init.zeros_(network.first.weight)
    made = network(x, c_noise)
    assert ((made - network(x.flip(0), c_noise)).flatten(1).abs().amax(1)[[0, 2]] > 1e-3).all()
    for layer in network.pyramid:
        nn.init.zeros_(layer.convolve.weight)
    torch.testing.assert_close(network(x, c_noise), network(x.flip(0), c_noise))


# Independent slow reference


def slow_ncsnpp(w, x, c_noise, label, blocks, widths, attention_resolutions):
    """The network in the order of the papers' description: one stack of feature maps, read backwards on the way up."""
    gain, levels = 1 / math.sqrt(2), len(widths)
    heads = [width if x.shape[2] >> level in attention_resolutions else 0 for level, width in enumerate(widths)]

    def block(key, h, head=0, resample=None):
        return slow_unet.residual_block(w, key, h, emb, head, resample, gain, eps=1e-6)

    angles = 2 * math.pi * c_noise[:, None] * w["embedding.0.frequencies"]
    emb = slow_unet.linear(w, "embedding.1", np.concatenate([np.sin(angles), np.cos(angles)], 1))
    emb = slow_unet.linear(w, "embedding.3", slow_unet.silu(emb)) + w["classes.weight"][label]
    emb = slow_unet.silu(emb)
    stack, pyramid = [slow_unet.conv(w, "first", x)], x
    for level in range(levels):
        for i in range(blocks):
            stack.append(block(f"down.{level}.{i}", stack[-1], heads[level]))
        if level + 1 < levels:
            h = block(f"shrink.{level}", stack[-1], resample=slow_unet.fir_down)
            pyramid = gain * (slow_unet.fir_conv_down(w, f"pyramid.{level}", pyramid) + h)
            stack.append(pyramid)
    h = block("middle.1", block("middle.0", stack[-1], widths[-1]))
    for step, level in enumerate(reversed(range(levels))):
        for i in range(blocks + 1):
            h = np.concatenate([h, stack.pop()], 1)
            h = block(f"up.{step}.{i}", h, heads[level] if i == blocks else 0)
        h = block(f"grow.{step}", h, resample=slow_unet.fir_up) if level else h
    assert stack == []
    normed = slow_unet.group_norm(w, "last.0", h, min(widths[0] // 4, 32), 1e-6)
    return slow_unet.conv(w, "last.2", slow_unet.silu(normed))


@pytest.mark.parametrize(("blocks", "attention_resolutions"), [(1, (4,)), (2, (8, 2))])
def test_against_the_network_written_out(blocks, attention_resolutions):
    network = tiny(blocks=blocks, attention_resolutions=attention_resolutions).double()
    x, c_noise, label = inputs(2, torch.float64)
    arrays = x.numpy(), c_noise.numpy(), label.numpy()
    expected = slow_ncsnpp(slow_unet.weights_of(network), *arrays, blocks, (16, 8, 16), attention_resolutions)
    made = network(x, c_noise, label).detach().numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(made, expected, atol=1e-9)
