"""How much of the difference between neighbouring levels is rounding: `ict_lib.scale.rounding`."""

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch

from ict_lib.__main__ import main as door
from ict_lib.config import Run
from ict_lib.consistency import ConsistencyModel
from ict_lib.grid import karras_sigmas
from ict_lib.recipe import CT, ICT
from ict_lib.scale.rounding import change, of_run, read_rounding, rounding, share_above, some_pairs
from ict_lib.techniques.embedding import FourierFeatures
from ict_lib.training import train
from ict_lib.training.folder import WEIGHTS
from ict_lib.training.model import build_model, save_weights

PAIR = (0.5, 0.75)


class Slope(torch.nn.Module):
    """F(x) = w x: linear, and products of the factors alone are rounded."""

    def __init__(self, num=3):
        super().__init__()
        self.layer = torch.nn.Linear(num, num, bias=False)
        torch.nn.init.normal_(self.layer.weight, generator=torch.Generator().manual_seed(0))

    def forward(self, x, c_noise, label=None):
        return self.layer(x)


class Bare(torch.nn.Module):
    """A model without scalings."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, sigma, label=None):
        return self.network(x, sigma)


class Dropping(Slope):
    """With dropout, which must be off."""

    def forward(self, x, c_noise, label=None):
        return super().forward(torch.nn.functional.dropout(x, 0.5, self.training), c_noise)


def batch(num=8, dims=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, dims, generator=generator), torch.randn(num, dims, generator=generator)


def digits_model(**changes):
    model = build_model(Run(network_options={"width": 16, "blocks": 1}, **changes), (1, 8, 8), 10)
    (block,) = model.network.blocks
    for layer, std in ((model.network.last, 0.2), (block.leave, 0.5)):  # which start at zero
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=std, generator=torch.Generator().manual_seed(0))
    return model


def to_bits(value, bits):
    """Round a number to so many significant bits, ties to even, exactly."""
    if value == 0:
        return Fraction(0)
    unit = Fraction(2) ** (math.floor(math.log2(abs(value))) + 1 - bits)
    return round(Fraction(value) / unit) * unit


# --- value: what the docstring says of one level and the next ---


def test_features_of_the_last_stage_change_by_less_than_16_bits_hold():
    sigmas = karras_sigmas(1281)
    c_noise = sigmas.log() / 4
    at = int((sigmas - 0.33).abs().argmin())
    assert (c_noise[at] - c_noise[at - 1]).item() == pytest.approx(0.0023, rel=0.05)
    features = FourierFeatures(2000, 0.02, torch.Generator().manual_seed(0))(c_noise[at - 1 : at + 1].float())
    assert features.diff(dim=0).square().mean().sqrt().item() == pytest.approx(3e-4, rel=0.5)
    for dtype, jump in ((torch.bfloat16, 2**-8), (torch.float16, 2**-11)):  # below 1, where the cosines are
        below = torch.nextafter(torch.tensor(1.0, dtype=dtype), torch.tensor(0.0, dtype=dtype))
        assert 1 - below.double().item() == jump


def test_pairs_are_neighbours_spread_over_the_grid():
    sigmas = karras_sigmas(1281).tolist()
    pairs = some_pairs(ICT, 1281)
    assert len(pairs) == 12
    assert pairs[0] == (sigmas[0], sigmas[1])
    assert pairs[-1] == (sigmas[-2], sigmas[-1])
    assert all(sigmas.index(hi) == sigmas.index(lo) + 1 for lo, hi in pairs)
    assert len(some_pairs(ICT, 11)) == 10
    assert some_pairs(replace(ICT, sigma_max=10.0), 11)[-1][1] == 10.0


# --- invariant ---


def test_float64_against_itself_is_zero():
    model, (x, noise) = ConsistencyModel(Slope()).double().eval(), batch()
    assert torch.equal(change(model, x, noise, PAIR, "fp32"), change(model, x, noise, PAIR, "fp32"))
    exact = change(model, x.double(), noise.double(), PAIR, "fp32")
    assert torch.equal(change(model, x, noise, PAIR, "fp32"), exact)


def test_the_reference_computes_the_scalings_in_float64():
    model, (x, noise) = ConsistencyModel(Slope()).double().eval(), batch()
    found = change(model, x, noise, PAIR, "fp32")
    weight = model.network.layer.weight.detach().numpy().astype("longdouble")
    outputs = []
    for sigma in PAIR:
        at = (x.double() + sigma * noise.double()).numpy().astype("longdouble")
        skip = 0.25 / ((sigma - 0.002) ** 2 + 0.25)
        out = 0.5 * (sigma - 0.002) / (sigma**2 + 0.25) ** 0.5
        outputs.append(skip * at + out * (at / (sigma**2 + 0.25) ** 0.5) @ weight.T)
    expected = torch.from_numpy((outputs[1] - outputs[0]).astype("float64"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)  # float32 scalings would be off by 1e-8


@pytest.mark.parametrize("num_scales", [11, 1281])
def test_fewer_bits_round_more_and_more_levels_leave_less_signal(num_scales):
    x, noise = batch(16, 64)
    shape = (16, 1, 8, 8)
    rows = rounding(
        digits_model(), x.view(shape), noise.view(shape), some_pairs(ICT, num_scales, 4), ["fp32", "fp16", "bf16"]
    )
    # At the lowest level the network's share is nearly 0; at the highest of 1,281 fp16 loses the signal as bf16 does.
    for i in range(3, len(rows) - 3 * (num_scales == 1281), 3):
        low, middle, high = (row["ratio"] for row in rows[i : i + 3])
        assert 10 * low < middle < high / 2
        assert len({row["signal"] for row in rows[i : i + 3]}) == 1
    top = {
        n: rounding(digits_model(), x.view(shape), noise.view(shape), [some_pairs(ICT, n)[-1]], ["bf16"])
        for n in (11, 1281)
    }
    assert top[1281][0]["signal"] < top[11][0]["signal"] / 20
    assert top[1281][0]["ratio"] > 5 * top[11][0]["ratio"]


def test_the_model_stays_as_it_was_and_dropout_is_off():
    model, (x, noise) = ConsistencyModel(Dropping()).train(), batch()
    before = model.network.layer.weight.clone()
    (row,) = rounding(model, x, noise, [PAIR], ["fp32"])
    assert row["ratio"] < 1e-5  # two masks would differ by far more
    assert model.training
    assert model.network.layer.weight.dtype == torch.float32
    assert torch.equal(model.network.layer.weight, before)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_the_passes_are_those_of_a_training_step(precision):
    seen = []

    def look(module, given, kept=seen):
        autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        kept.append((torch.is_grad_enabled(), autocast, torch.backends.cudnn.allow_tf32, given[0].dtype))

    training = train(Run(network_options={"width": 16, "blocks": 1}, precision=precision, log_every=1, batch_size=8))
    training.student.register_forward_pre_hook(look)
    next(training)
    trained, seen[:] = list(seen), []
    x, noise = batch(8, 64)
    change(training.student, x.view(8, 1, 8, 8), noise.view(8, 1, 8, 8), PAIR, precision)
    assert seen == trained
    assert [grad for grad, *_ in seen] == [False, True]  # teacher, student: compiled, they are two programs


# --- independent slow reference ---


@pytest.mark.parametrize(("precision", "bits"), [("bf16", 8), ("fp16", 11)])
def test_the_rounding_of_a_product_is_that_of_exact_fractions(precision, bits):
    model = Bare(Slope(1))
    weight = Fraction(model.network.layer.weight.item())
    x, noise = batch(6, 1)
    (row,) = rounding(model, x, noise, [PAIR], [precision])
    signal, error = [], []
    for clean, z in zip(x.flatten(), noise.flatten(), strict=True):
        inputs = [Fraction((clean + sigma * z).item()) for sigma in PAIR]  # in float32, as a training step adds
        exact = [weight * (Fraction(clean.item()) + Fraction(sigma) * Fraction(z.item())) for sigma in PAIR]
        rounded = [to_bits(to_bits(weight, bits) * to_bits(value, bits), bits) for value in inputs]
        signal.append(abs(exact[1] - exact[0]))
        error.append(abs((rounded[1] - rounded[0]) - (exact[1] - exact[0])))
    assert row["signal"] == pytest.approx(float(sum(signal) / 6), rel=1e-12)
    assert row["rounding"] == pytest.approx(float(sum(error) / 6), rel=1e-6)
    assert row["ratio"] == row["rounding"] / row["signal"]


def test_the_share_of_drawn_pairs_above_one_is_counted_one_by_one():
    rows = [{"sigma_hi": sigma, "ratio": sigma / 0.5} for sigma in (0.002, 0.1, 80.0)]  # above 1 from 0.5 on
    for recipe in (ICT, CT):
        sigmas = karras_sigmas(41).tolist()
        if recipe is CT:
            weights = [1.0] * 40
        else:
            scaled = [(math.log(s) + 1.1) / (2**0.5 * 2.0) for s in sigmas]
            weights = [math.erf(b) - math.erf(a) for a, b in pairwise(scaled)]
        expected = sum(w for w, hi in zip(weights, sigmas[1:], strict=True) if hi > 0.5) / sum(weights)
        assert share_above(rows, recipe, 41) == pytest.approx(expected, rel=1e-5)
    assert share_above(rows, ICT, 41, ratio=1e9) == 0
    assert share_above([{"sigma_hi": 1.0, "ratio": 0.0}], ICT, 41) == 0


# --- shapes: the command on a small run ---


@pytest.fixture
def small_run(tmp_path, monkeypatch):
    """A project with the record of one run, and its weights."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "ict_lib").mkdir()
    monkeypatch.chdir(tmp_path)
    run = Run(name="a/b", network_options={"width": 16, "blocks": 1}, conditional=True, seeds=[3, 4])
    folder = tmp_path / "runs" / "a" / "b"
    (folder / "seed-3").mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"run": run.to_dict()}))
    save_weights(folder / "seed-3" / WEIGHTS, digits_model(conditional=True, seeds=[3]))
    return folder


def test_a_run_that_compiles_is_measured_compiled(small_run, monkeypatch):
    compiled = []
    monkeypatch.setattr("ict_lib.scale.rounding.compile_passes", compiled.append)
    manifest = json.loads((small_run / "manifest.json").read_text())
    for wanted in (False, True):
        manifest["run"]["compile"] = wanted
        (small_run / "manifest.json").write_text(json.dumps(manifest))
        of_run("a/b", samples=4, device="cpu")
        assert len(compiled) == 3 * wanted  # once a grid


def test_the_command_leaves_a_record(small_run, capsys):
    assert door(["rounding", "a/b", "--samples", "8", "--device", "cpu"]) == 0
    assert "share of the pairs that are drawn" in capsys.readouterr().out
    found = json.loads((small_run / "rounding.json").read_text())
    assert (found["run"], found["seed"], found["samples"]) == ("a/b", 3, 8)
    assert found["device"].startswith("CPU")
    assert found["commit"]
    assert len(found["rows"]) == 3 * (10 + 12 + 12)
    assert {row["precision"] for row in found["rows"]} == {"fp32", "bf16", "fp16"}  # no tf32 on a CPU
    assert set(found["share_above_signal"]) == {"11", "161", "1281"}
    assert all(0 <= share <= 1 for shares in found["share_above_signal"].values() for share in shares.values())
    assert read_rounding("a/b") == found


# --- errors ---


def test_what_cannot_be_compared_is_refused():
    x, noise = batch()
    with pytest.raises(ValueError, match="float64"):
        rounding(ConsistencyModel(Slope()).double(), x, noise, [PAIR], ["fp32"])
    with pytest.raises(ValueError, match="sigma_lo < sigma_hi"):
        rounding(ConsistencyModel(Slope()), x, noise, [(0.5, 0.5)], ["fp32"])
    still = Bare(Slope())
    torch.nn.init.zeros_(still.network.layer.weight)
    with pytest.raises(ValueError, match="tells the levels"):
        rounding(still, x, noise, [PAIR], ["fp32"])


def test_a_run_that_was_not_measured_is_refused_with_the_command(small_run):
    with pytest.raises(FileNotFoundError, match=r"python -m ict_lib rounding a/b"):
        read_rounding("a/b")


def test_a_run_without_weights_is_refused(small_run, capsys):
    (small_run / "seed-3" / WEIGHTS).unlink()
    assert door(["rounding", "a/b"]) == 2
    assert "make run RUN=runs/a/b/manifest.json" in capsys.readouterr().err
    assert door(["rounding", "a/none"]) == 2
    assert "no record yet" in capsys.readouterr().err
    assert not (small_run / "rounding.json").exists()
