"""What the U-Nets share, with every weight drawn: `ict_lib.networks.unet`; their own is in a file each."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ict_lib.networks.blocks import ResidualBlock
from ict_lib.networks.build import NETWORKS
from ict_lib.networks.unet import Level, plan_levels
from tests import slow_unet

SIZES = {"channels": 8, "multipliers": (2, 1, 2), "blocks": 1}
NCSNPP = {**SIZES, "fourier_scale": 0.5, "attention_resolutions": (4,)}
ADM = {**SIZES, "attention_resolutions": (4, 2), "head_channels": 4, "dropout_resolution": 4}
U_NETS = {
    "small_unet": ("small_unet", {**SIZES, "fourier_scale": 0.5}),
    "ncsnpp": ("ncsnpp", NCSNPP),
    "adm": ("adm", ADM),
    "adm with AdaGN": ("adm", {**ADM, "adaptive_norm": True}),
}


def build(kind, shape=(3, 8, 8), num_classes=3, **options):
    name, usual = U_NETS[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = NETWORKS[name](shape, dropout=0.3, num_classes=num_classes, **{**usual, **options})
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.15)
    return network.eval()


def inputs(batch=3, shape=(3, 8, 8)):
    gen = torch.Generator().manual_seed(0)
    return torch.randn(batch, *shape, generator=gen), torch.randn(batch, generator=gen), torch.arange(batch) % 3


@pytest.fixture(params=U_NETS)
def kind(request):
    return request.param


# Invariant


def test_noise_level_and_label_reach_every_block_and_change_what_it_gives(kind):
    network, (x, c_noise, label) = build(kind), inputs()
    seen = []
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.register_forward_hook(lambda block, given, made: seen.append((block, given)))
    given = [(x, c_noise, label), (x, c_noise + 1, label), (x, c_noise, (label + 1) % 3)]
    first, *others = [(seen.clear(), network(*arguments), list(seen))[2] for arguments in given]
    for other in others:
        for (block, (h, emb)), (_, (_, changed)) in zip(first, other, strict=True):
            assert ((emb - changed).abs().amax(1) > 1e-3).all()
            assert ((block(h, emb) - block(h, changed)).flatten(1).abs().amax(1) > 1e-3).all()


# Independent slow reference: of the small one; the others have theirs beside their values


def slow_small_unet(w, x, c_noise, label, blocks, widths):
    """One stack of feature maps, read backwards on the way up; attention at the lowest resolution alone."""
    heads = [0] * (len(widths) - 1) + [widths[-1]]

    def block(key, h, head=0):
        return slow_unet.residual_block(w, key, h, emb, head)

    angles = 2 * math.pi * c_noise[:, None] * w["embedding.0.frequencies"]
    emb = slow_unet.linear(w, "embedding.1", np.concatenate([np.sin(angles), np.cos(angles)], 1))
    emb = slow_unet.silu(emb + w["classes.weight"][label])
    stack = [slow_unet.conv(w, "first", x)]
    for level, head in enumerate(heads):
        if level:
            stack.append(slow_unet.conv(w, f"shrink.{level - 1}.0", stack[-1], stride=2))
        for i in range(blocks):
            stack.append(block(f"down.{level}.{i}", stack[-1], head))
    h = block("middle.0", stack[-1], widths[-1])
    for level, head in enumerate(reversed(heads)):
        h = slow_unet.conv(w, f"grow.{level - 1}.1", slow_unet.nearest_up(h)) if level else h
        for i in range(blocks + 1):
            h = block(f"up.{level}.{i}", np.concatenate([h, stack.pop()], 1), head)
    assert stack == []
    return slow_unet.conv(w, "last.2", slow_unet.silu(slow_unet.group_norm(w, "last.0", h, widths[0] // 4)))


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_small_u_net_against_itself_written_out(blocks):
    network, (x, c_noise, label) = build("small_unet", blocks=blocks).double(), inputs()
    x, c_noise = x.double(), c_noise.double()
    arrays = x.numpy(), c_noise.numpy(), label.numpy()
    expected = slow_small_unet(slow_unet.weights_of(network), *arrays, blocks, (16, 8, 16))
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(network(x, c_noise, label).detach(), expected, atol=1e-9)


# Shapes, dtypes, batch independence


def test_levels_are_halved_and_told_of_their_attention_and_dropout():
    levels = plan_levels((3, 64, 48), 8, (1, 2, 3, 4), 2, 0.3, (32, 8), 4, 16)
    assert [(level.width, level.dropout) for level in levels] == [(8, 0.0), (16, 0.0), (24, 0.3), (32, 0.3)]
    assert [(level.down, level.up) for level in levels] == [([n] * 2, [n] * 3) for n in (0, 4, 0, 4)]
    assert plan_levels((3, 8, 12), 8, [1, 2], 1, 0.1) == [Level(8, 0.1, [0], [0, 0]), Level(16, 0.1, [16], [16, 16])]


@pytest.mark.parametrize(("shape", "options"), [((1, 8, 16), {}), ((3, 16, 16), {"multipliers": [1, 2]})])
def test_other_sizes(kind, shape, options):
    options = {**options, "dropout_resolution": 8} if options and kind.startswith("adm") else options
    options = {**options, "attention_resolutions": [8]} if options and kind != "small_unet" else options
    assert build(kind, shape, **options)(*inputs(2, shape)).shape == (2, *shape)


def test_channels_last_gives_the_same_and_stays_so_through_every_convolution(kind):
    network, (x, c_noise, label) = build(kind), inputs()
    expected, seen = network(x, c_noise, label), []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, given, made: seen.extend([given[0], made]))
    last = torch.channels_last
    made = network.to(memory_format=last)(x.to(memory_format=last), c_noise, label)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    assert all(tensor.is_contiguous(memory_format=last) for tensor in [*seen, made])


def test_half_precision_by_autocast(kind):
    network, given = build(kind), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        made = network(*given)
    torch.testing.assert_close(made.float(), network(*given), rtol=0.1, atol=0.1)


def test_a_sample_does_not_see_the_others(kind):
    network, given = build(kind), inputs()
    alone = [network(*(part[i : i + 1] for part in given)) for i in range(3)]
    torch.testing.assert_close(network(*given), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_compiles_as_one_graph(kind):
    here = {"attention_resolutions": (4,)} if kind != "small_unet" else {}
    network, given = build(kind, multipliers=(1, 2), **here), inputs()
    torch.compiler.reset()  # other tests of this process count too
    compiled = torch.compile(network, fullgraph=True, backend="eager")
    for mode in (network.train, network.eval):
        mode()
        compiled(*given).sum().backward()
    torch.testing.assert_close(compiled(*given), network(*given))


# Errors and gradients


def test_the_gradient_reaches_every_parameter(kind):
    network = build(kind).train()
    network(*inputs()).square().sum().backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (((3, 6, 8), 8, (1, 1, 1), 1), r"shape is \(3, 6, 8\): .* both sides divisible by 4"),
        (((3, 8, 6), 8, (1, 1, 1), 1), "both sides divisible by 4"),
        (((8,), 8, (1,), 1), r"shape is \(8,\)"),
        (((3, 8, 8), 6, (1,), 1), "channels is 6: a multiple of"),
        (((3, 8, 8), 0, (1,), 1), "channels is 0: a multiple of"),
        (((3, 8, 8), 8, (1,), 0), "blocks is 0: at least one"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(kind, given, said):
    shape, channels, multipliers, blocks = given
    with pytest.raises(ValueError, match=said):
        build(kind, shape, channels=channels, multipliers=multipliers, blocks=blocks)


@pytest.mark.parametrize("kind", ["ncsnpp", "adm"])
def test_attention_at_a_height_that_no_feature_map_has_is_refused(kind):
    with pytest.raises(ValueError, match=r"attention_resolutions is \(16,\): of \[8, 4, 2\]"):
        build(kind, attention_resolutions=(16,))
