"""The network of ImageNet 64: `ict_lib.networks.adm`; what all U-Nets share is in `test_networks_unet.py`.

Floating-point operations are counted as torch does: a multiplication and an addition are two.
"""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ict_lib.networks.adm import ADM
from ict_lib.networks.blocks import Attention, ResidualBlock
from ict_lib.networks.build import build_network
from ict_lib.recipe import CT, ICT, ICT_DEEP
from tests import mutants, slow_unet

TINY = {
    "channels": 8,
    "multipliers": (2, 1, 2),
    "blocks": 2,
    "attention_resolutions": (4, 2),
    "head_channels": 4,
    "dropout_resolution": 4,
}
ADAPTIVE = pytest.mark.parametrize("adaptive_norm", [False, True])


def full(recipe=ICT, **options):
    """The paper's network, without memory."""
    with torch.device("meta"):
        return build_network("adm", (3, 64, 64), recipe, 1000, options)


def full_inputs():
    return torch.empty(1, 3, 64, 64, device="meta"), torch.empty(1, device="meta"), torch.zeros(1).long().to("meta")


def tiny(num_classes=3, dropout=0.3, kind=ADM, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = kind((3, 8, 8), dropout, num_classes, **{**TINY, **options})
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


@pytest.mark.parametrize(
    ("recipe", "options", "count"),
    [
        (ICT, {}, 282_168_003),
        (ICT_DEEP, {}, 472_767_555),
        (CT, {"adaptive_norm": True}, 295_899_267),
        (ICT, {"embedding_scale": 1000}, 282_168_003),
        (ICT, {"normalise_qk": True}, 282_168_003),
    ],
)
def test_the_number_of_parameters_is_the_papers(recipe, options, count):
    assert sum(p.numel() for p in full(recipe, **options).parameters()) == count


@pytest.mark.parametrize(("recipe", "gigaflops"), [(ICT, 219), (ICT_DEEP, 363)])
def test_the_cost_of_a_forward_pass(recipe, gigaflops):
    with FlopCounterMode(display=False) as counter:
        full(recipe)(*full_inputs())
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, rel=0.02)


@pytest.mark.parametrize(("recipe", "down", "up"), [(ICT, 3, 4), (ICT_DEEP, 6, 7)])
def test_blocks_per_resolution(recipe, down, up):
    network = full(recipe)
    assert [len(blocks) for blocks in network.down] == [down] * 4
    assert [len(blocks) for blocks in network.up] == [up] * 4
    assert len(of(network, ResidualBlock)) == 4 * (down + up) + 3 + 3 + 2  # and shrink, grow, middle


def test_every_normalisation_adds_a_hundred_thousandth_to_the_variance():
    assert {norm.eps for norm in of(full(), nn.GroupNorm)} == {1e-5}


def test_attention_stands_at_32_16_and_8_with_64_channels_a_head():
    network, seen = full(), Counter()
    for layer in of(network, Attention):
        layer.register_forward_hook(lambda _, given, made: seen.update([made.shape[2]]))
    network(*full_inputs())
    assert seen == {32: 3 + 4, 16: 3 + 4, 8: 3 + 4 + 1}
    assert {layer.head_channels for layer in of(network, Attention)} == {64}


def check_dropout_at_16_and_below(kind):
    """Which rate acts on feature maps of which height, over a forward pass of the full network."""
    with torch.device("meta"):
        network = kind((3, 64, 64), dropout=0.2, num_classes=1000)
    seen = Counter()
    for layer in of(network.train(), nn.Dropout):
        layer.register_forward_hook(lambda layer, given, made: seen.update([(made.shape[2], layer.p)]))
    network(*full_inputs())
    assert seen == {(64, 0.0): 3 + 4 + 1, (32, 0.0): 3 + 4 + 2, (16, 0.2): 3 + 4 + 2, (8, 0.2): 3 + 4 + 1 + 2}


def test_trap_10_dropout_acts_at_16_and_below_only():
    check_dropout_at_16_and_below(ADM)


def test_trap_10_dropout_at_every_resolution_is_noticed():
    with pytest.raises(AssertionError):
        check_dropout_at_16_and_below(mutants.DropoutAtEveryResolution)


def test_trap_10_masks_are_drawn_where_the_rate_says():
    network, seen = tiny().train(), []
    for layer in of(network, nn.Dropout):
        layer.register_forward_hook(
            lambda _, given, made: seen.append((made.shape[2], float((made == 0).float().mean())))
        )
    network(*inputs(64))
    assert len(seen) == len(of(network, ResidualBlock))
    for height, share in seen:
        assert share == pytest.approx(0.3 if height <= 4 else 0.0, abs=0.05)


# Invariant


def test_a_thousandfold_scale_tells_neighbouring_levels_apart():
    """The top frequency: a hundredth of a unit of c_noise is ten radians with the released code's scale."""
    x, c_noise, label = inputs()
    near = c_noise + 0.01
    moved = [
        float((network(x, near, label) - network(x, c_noise, label)).detach().abs().max())
        for network in (tiny(embedding_scale=scale) for scale in (1.0, 1000.0))
    ]
    assert moved[1] > 10 * moved[0] > 0


# Independent slow reference


def slow_adm(w, x, c_noise, label, options):
    """The network in the order of the papers' description: one stack of feature maps, read backwards on the way up."""
    blocks, levels, channels = options["blocks"], len(options["multipliers"]), options["channels"]
    attends = [x.shape[2] >> level in options["attention_resolutions"] for level in range(levels)]
    heads = [options["head_channels"] if here else 0 for here in attends]

    def block(key, h, head=0, resample=None):
        return slow_unet.residual_block(w, key, h, emb, head, resample, adaptive=options["adaptive_norm"])

    half = channels // 2
    speeds = [math.exp(-math.log(10_000) * j / half) for j in range(half)]
    angles = options["embedding_scale"] * c_noise[:, None] * np.array(speeds)
    emb = slow_unet.linear(w, "embedding.0", np.concatenate([np.cos(angles), np.sin(angles)], 1))
    emb = slow_unet.linear(w, "embedding.2", slow_unet.silu(emb)) + w["classes.weight"][label]
    emb = slow_unet.silu(emb)
    stack = [slow_unet.conv(w, "first", x)]
    for level in range(levels):
        for i in range(blocks):
            stack.append(block(f"down.{level}.{i}", stack[-1], heads[level]))
        if level + 1 < levels:
            stack.append(block(f"shrink.{level}", stack[-1], resample=slow_unet.average_down))
    h = block("middle.1", block("middle.0", stack[-1], options["head_channels"]))
    for step, level in enumerate(reversed(range(levels))):
        for i in range(blocks + 1):
            h = block(f"up.{step}.{i}", np.concatenate([h, stack.pop()], 1), heads[level])
        h = block(f"grow.{step}", h, resample=slow_unet.nearest_up) if level else h
    assert stack == []
    return slow_unet.conv(w, "last.2", slow_unet.silu(slow_unet.group_norm(w, "last.0", h, h.shape[1] // 4)))


@ADAPTIVE
@pytest.mark.parametrize("embedding_scale", [1.0, 1000.0])
def test_against_the_network_written_out(adaptive_norm, embedding_scale):
    options = {**TINY, "adaptive_norm": adaptive_norm, "embedding_scale": embedding_scale}
    network, (x, c_noise, label) = tiny(**options).double(), inputs(2, torch.float64)
    expected = slow_adm(slow_unet.weights_of(network), x.numpy(), c_noise.numpy(), label.numpy(), options)
    assert np.abs(expected).max() > 0.1
    # The frequencies are float32: at scale 1000 the angles carry their rounding.
    np.testing.assert_allclose(network(x, c_noise, label).detach(), expected, atol=1e-6 * embedding_scale)


# Shapes, dtypes, batch independence


@pytest.mark.parametrize(("groups", "found"), [(1, {1}), (2, {2}), (32, {2, 4, 6, 8})])
def test_the_normalisations_have_as_many_groups_as_allowed(groups, found):
    assert {norm.num_groups for norm in of(tiny(groups=groups), nn.GroupNorm)} == found


def test_the_switch_normalises_in_every_attention():
    for switch in (False, True):
        assert {layer.normalise_qk for layer in of(tiny(normalise_qk=switch), Attention)} == {switch}


# Errors and gradients


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"head_channels": 3}, r"head_channels is 3: a divisor of \[8, 16\], the channels with attention"),
        ({"head_channels": 64}, "head_channels is 64: a divisor"),
        ({"dropout_resolution": 1}, "dropout_resolution is 1: 2, the lowest, or more"),
    ],
)
def test_heads_and_resolutions_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ADM((3, 8, 8), **{**TINY, **options})


@pytest.mark.parametrize("option", ["fourier_scale", "dropout"])
def test_what_the_recipe_decides_is_no_option(option):
    with pytest.raises(ValueError, match=f"unknown option '{option}' of network 'adm'"):
        build_network("adm", (3, 8, 8), ICT, 0, {**TINY, option: 0.5})
