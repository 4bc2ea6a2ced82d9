"""The raw networks F(x, c_noise, label): `ict_lib.networks`."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ict_lib.networks import build as networks
from ict_lib.networks.blocks import Attention, ResidualBlock
from ict_lib.networks.build import build_network
from ict_lib.networks.mlp import Block
from ict_lib.recipe import CT, ICT, ICT_DEEP
from ict_lib.techniques.embedding import FourierFeatures
from tests import mutants

OPTIONS = {
    "mlp": {"width": 24, "blocks": 3},
    "small_unet": {"channels": 16, "multipliers": (1, 2), "blocks": 1},
    "ncsnpp": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_resolutions": (4,)},
    "adm": {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention_resolutions": (4,), "head_channels": 8},
}
FOURIER = [name for name in OPTIONS if "fourier_scale" not in networks.unused_fields(name)]
BLOCKS = (Block, ResidualBlock)


def build(name, recipe=ICT, num_classes=0, shape=(1, 8, 8), trained=True, **options):
    """A network; ``trained`` draws all weights, so that nothing is hidden by a zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(name, shape, recipe, num_classes, {**OPTIONS[name], **options})
        if trained:
            for parameter in network.parameters():
                nn.init.normal_(parameter, std=0.2)
    return network


def inputs(batch=4, shape=(1, 8, 8), seed=0):
    gen = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=gen), torch.randn(batch, generator=gen)


def blocks_of(network):
    return [module for module in network.modules() if isinstance(module, BLOCKS)]


@pytest.fixture(params=OPTIONS)
def name(request):
    return request.param


# Value from the paper


def dropout_rates(network):
    return [module.p for module in network.modules() if isinstance(module, nn.Dropout)]


def check_dropout_reaches_every_block(network):
    blocks = blocks_of(network.train())
    assert [dropout_rates(block) for block in blocks] == [[0.3]] * len(blocks)
    for block in blocks:
        layer = next(m for m in block.modules() if isinstance(m, nn.Dropout))
        seen = []
        handle = layer.register_forward_hook(lambda *a, seen=seen: seen.append(a))
        network(*inputs(64))
        handle.remove()
        ((_, (given,), made),) = seen
        assert float((made == 0).float().mean()) == pytest.approx(0.3, abs=0.05)
        assert float((given == 0).float().mean()) < 0.01


def test_trap_10_the_rate_of_the_preset_reaches_every_residual_block(name):
    check_dropout_reaches_every_block(build(name))


@pytest.mark.parametrize("mutant", [mutants.NoDropout, mutants.DropoutInFirstBlock])
def test_trap_10_a_block_without_dropout_is_noticed(mutant, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "mlp", mutant)
    with pytest.raises(AssertionError):
        check_dropout_reaches_every_block(build("mlp"))


def test_ct_has_no_dropout(name):
    assert set(dropout_rates(build(name, CT))) == {0.0}


@pytest.mark.parametrize("name", FOURIER)
@pytest.mark.parametrize("recipe", [CT, ICT])
def test_the_scale_of_the_embedding_is_the_recipes(name, recipe):
    (module,) = (m for m in build(name, recipe).modules() if isinstance(m, FourierFeatures))
    assert float(module.frequencies.square().mean().sqrt()) == pytest.approx(recipe.fourier_scale, rel=0.5)


@pytest.mark.parametrize("name", FOURIER)
def test_the_dial_scales_the_same_frequencies(name):
    fine, coarse = (build(name, recipe).state_dict()["embedding.0.frequencies"] for recipe in (CT, ICT))
    torch.testing.assert_close(fine, coarse * 800)


def test_only_the_positional_embedding_has_no_use_for_the_dial():
    """So a change of the dial changes nothing there, and the record says so."""
    assert {name: networks.unused_fields(name) for name in OPTIONS if name not in FOURIER} == {"adm": ["fourier_scale"]}
    given = inputs()
    assert torch.equal(*(build("adm", replace(CT, fourier_scale=s)).eval()(*given) for s in (0.02, 16.0)))


def test_deep_doubles_the_blocks_per_resolution():
    assert [len(build("mlp", r).blocks) for r in (ICT, ICT_DEEP)] == [3, 6]
    for way, expected in (("down", [1, 2]), ("up", [2, 3])):  # one more a resolution on the way up
        nets = [getattr(build("small_unet", r), way) for r in (ICT, ICT_DEEP)]
        assert [[len(blocks) for blocks in net] for net in nets] == [[n, n] for n in expected]


# Invariant


def test_a_new_network_gives_zero(name):
    x, c_noise = inputs()
    assert torch.equal(build(name, trained=False)(x, c_noise), torch.zeros_like(x))


@pytest.mark.parametrize("channels", [8, 16, 24, 32])
def test_the_noise_level_reaches_every_block_of_the_u_net(channels):
    """A group of one channel would take away again what the embedding adds."""
    for block in blocks_of(build("small_unet", channels=channels).eval()):
        h = torch.randn(1, block.enter[0].num_channels, 4, 4)
        low, high = (block(h, torch.full((1, block.condition.in_features), v)) for v in (-1.0, 1.0))
        assert (low - high).abs().max() > 0.01


def test_noise_level_and_input_change_the_output(name):
    network = build(name).eval()
    x, c_noise = inputs()
    made = network(x, c_noise)
    for other in (network(x, c_noise + 1), network(x.flip(0), c_noise)):
        assert ((made - other).flatten(1).abs().amax(1) > 1e-4).all()


def test_labels_change_the_output_and_may_be_left_out(name):
    network, (x, c_noise) = build(name, num_classes=3).eval(), inputs(3)
    x, c_noise = x[:1].expand(3, -1, -1, -1), c_noise[:1].expand(3)
    made = network(x, c_noise, torch.arange(3)).detach()
    assert min(float((made[i] - made[j]).abs().max()) for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3
    assert network(x, c_noise).shape == x.shape
    without = build(name).eval()
    assert torch.equal(without(x, c_noise, torch.arange(3)), without(x, c_noise))


def test_evaluation_is_deterministic_and_training_is_not(name):
    network, given = build(name), inputs()
    assert not torch.equal(network.train()(*given), network.train()(*given))
    assert torch.equal(network.eval()(*given), network.eval()(*given))


# Independent slow reference


def test_the_perceptron_against_its_formulas():
    """Each block: h + leave(silu(enter(silu(norm(h))) + condition(e))), written with matrices."""
    network, (x, c_noise) = build("mlp").eval(), inputs()
    w = {k: v.double() for k, v in network.state_dict().items()}

    def linear(key, v):
        return v @ w[f"{key}.weight"].T + w[f"{key}.bias"]

    def norm(key, v):
        centred = v - v.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * w[f"{key}.weight"] + w[f"{key}.bias"]

    def silu(v):
        return v / (1 + (-v).exp())

    angles = 2 * math.pi * c_noise.double()[:, None] * w["embedding.0.frequencies"]
    emb = silu(linear("embedding.1", torch.cat([angles.sin(), angles.cos()], 1)))
    h = linear("first", x.double().flatten(1))
    for i in range(3):
        inner = linear(f"blocks.{i}.enter", silu(norm(f"blocks.{i}.norm", h))) + linear(f"blocks.{i}.condition", emb)
        h = h + linear(f"blocks.{i}.leave", silu(inner))
    expected = linear("last", silu(norm("norm", h))).view_as(x)
    torch.testing.assert_close(network(x, c_noise).double(), expected, rtol=1e-3, atol=1e-3)


def test_attention_against_a_loop_over_positions():
    layer = Attention(8, 8).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    h = torch.randn(1, 8, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q, k, v = layer.qkv(layer.norm(h)).flatten(2)[0].view(3, 8, 6)
    mixed = torch.zeros(8, 6, dtype=torch.float64)
    for i in range(6):
        scores = [(q[:, i] @ k[:, j]).item() / math.sqrt(8) for j in range(6)]
        weights = [math.exp(s - max(scores)) for s in scores]
        for j in range(6):
            mixed[:, i] += weights[j] / sum(weights) * v[:, j].detach()
    torch.testing.assert_close(layer(h), h + layer.leave(mixed.view(1, 8, 2, 3)))


# Shapes, dtypes, batch independence


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (2,)), ("mlp", (3, 4, 4)), ("small_unet", (3, 8, 12))])
@pytest.mark.parametrize("batch", [1, 5])
def test_the_output_has_the_shape_of_the_input(kind, shape, batch):
    assert build(kind, shape=shape)(*inputs(batch, shape)).shape == (batch, *shape)


def test_three_resolutions_from_a_list_as_yaml_gives_it():
    x, c_noise = inputs()
    assert build("small_unet", multipliers=[1, 2, 2])(x, c_noise).shape == x.shape


def test_a_sample_does_not_see_the_others(name):
    network, (x, c_noise) = build(name, num_classes=4).eval(), inputs()
    label = torch.arange(4)
    alone = [network(x[i : i + 1], c_noise[i : i + 1], label[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(network(x, c_noise, label), torch.cat(alone), rtol=1e-4, atol=1e-4)


# Errors and gradients


def test_a_few_steps_reach_every_parameter(name):
    """The zeros at the end of the network, of its blocks and of attention open one after the other."""
    network, (x, c_noise) = build(name, num_classes=4, trained=False), inputs()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for _ in range(3):
        optimizer.zero_grad()
        (network(x, c_noise, torch.arange(4)) - x).square().sum().backward()
        optimizer.step()
    unreached = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("mlp", {"widht": 8}, "unknown option 'widht' of network 'mlp': did you mean 'width'"),
        ("small_unet", {"dropout": 0.5}, "unknown option 'dropout' of network 'small_unet'"),
        ("mlp", {"blocks": 0}, "blocks is 0"),
        ("mlp", {"width": "24"}, "width is '24': a positive whole number"),
        ("mlp", {"blocks": True}, "blocks is True: a positive whole number"),
        ("small_unet", {"multipliers": 2}, "a list of positive whole numbers"),
        ("small_unet", {"blocks": 0}, "blocks is 0"),
        ("small_unet", {"channels": 12}, "channels is 12: a multiple of 8"),
        ("small_unet", {"channels": 0}, "channels is 0"),
        ("small_unet", {"multipliers": (1, 1, 1, 1, 1)}, "both sides divisible by 16"),
    ],
)
def test_a_wrong_option_is_refused(kind, options, said):
    with pytest.raises(ValueError, match=said):
        build(kind, **options)


def test_points_are_no_image():
    with pytest.raises(ValueError, match=r"shape is \(2,\)"):
        build("small_unet", shape=(2,))


def test_an_unknown_network_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="unknown network 'small_net': did you mean 'small_unet'"):
        build_network("small_net", (1, 8, 8), ICT)


def test_options_given_are_not_changed():
    build_network("mlp", (2,), ICT_DEEP, 0, options := {"blocks": 2})
    assert options == {"blocks": 2}
