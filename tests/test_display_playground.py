"""The page that trains: its JavaScript computes what ict_lib computes, and what a reader sees and copies is true."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.data.small import TOYS
from ict_lib.display.playground import run_node
from ict_lib.display.playground.network import FEATURES, PlainMLP
from ict_lib.exact.distances import sliced_wasserstein
from ict_lib.grid import karras_sigmas
from ict_lib.group import Alone
from ict_lib.objective import consistency_training_loss, distance_between
from ict_lib.recipe import CT, ICT, LADDER, Recipe
from ict_lib.sampling import sample
from ict_lib.techniques import curriculum, noise_schedule, weighting
from ict_lib.techniques.embedding import FourierFeatures
from ict_lib.techniques.teacher import ema_decay
from ict_lib.training.step import Learner, Shard, training_step

SIZES = [20, 32, 32, 32, 4]  # of the layers in JavaScript, padded: 2 + 16 inputs, 2 outputs
DATA = ["ring", "two_moons", "spiral", "checkerboard"]
close = np.testing.assert_allclose


def js_recipe(recipe: Recipe, learning_rate: float = 2e-3) -> dict:
    """The fields that the page has."""
    names = ["weighting", "fourier_scale", "teacher", "distance", "curriculum", "noise_schedule", "s0", "s1", "mu0"]
    return {name: getattr(recipe, name) for name in names} | {"learning_rate": learning_rate}


def load(model: ConsistencyModel, flat: list[float], frequencies: list[float]) -> ConsistencyModel:
    """Put the weights of the page's flat array into a PyTorch model, in float64."""
    model, at = model.double(), 0
    model.network.embedding.frequencies = torch.tensor(frequencies, dtype=torch.float64)
    for layer, ins, outs in zip(model.network.layers, SIZES[:-1], SIZES[1:], strict=True):
        weight = torch.tensor(flat[at : at + outs * ins], dtype=torch.float64).view(outs, ins)
        bias = torch.tensor(flat[at + outs * ins : at + outs * ins + outs], dtype=torch.float64)
        layer.weight.data = weight[: layer.out_features, : layer.in_features].clone()
        layer.bias.data = bias[: layer.out_features].clone()
        at += outs * (ins + 1)
    return model


def flat_parts(model: ConsistencyModel, flat: list[float]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pair each weight of PyTorch with the page's, as arrays."""
    theirs = load(ConsistencyModel(PlainMLP(1.0)), flat, [0.0] * (FEATURES // 2))
    return [
        (p.detach().numpy(), q.detach().numpy()) for p, q in zip(model.parameters(), theirs.parameters(), strict=True)
    ]


# --- value: the same numbers in both languages ---

CURRICULA = [
    ("doubling", {}),
    ("doubling", {"s0": 3, "s1": 50}),
    ("square_root", {}),
    ("square_root", {"s0": 5, "s1": 40}),
]


@pytest.fixture(scope="module")
def tables() -> dict:
    """Everything that takes no network, from one call of node."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(50, 4)) * 10.0 ** rng.integers(-5, 2, size=(50, 1))
    given = {
        "steps": [0, 1, 49, 50, 333, 712, 999, 1000],
        "curricula": CURRICULA,
        "pairs": pairs.tolist(),
        "c_noise": rng.normal(size=20).tolist(),
        "frequencies": (3 * rng.normal(size=8)).tolist(),
    }
    script = """
    import { karras_sigmas } from "./grid.js";
    import * as techniques from "./techniques.js";
    import { CT, ICT, PRESETS } from "./recipe.js";
    import { average_decay } from "./train.js";
    const of_grid = (f) => [2, 11, 151, 1281].map((n) => [...f(karras_sigmas(n))]);
    result = {
      grid: of_grid((sigmas) => sigmas),
      weighting: ["uniform", "inverse_gap"].map((name) => of_grid(techniques.weighting[name])),
      pmf: ["uniform", "lognormal"].map((name) => of_grid(techniques.noise_schedule[name])),
      scales: given.curricula.map(([curriculum, ends]) =>
        given.steps.map((k) => techniques.num_scales_at({ curriculum, ...ends }, k, 1000))),
      distances: ["squared_l2", "l1", "pseudo_huber"].map((name) =>
        given.pairs.map(([a, b, c, d]) => techniques.distance[name](a - c, b - d)[0])),
      features: given.c_noise.map((c) => [...techniques.fourier_features(c, Float64Array.from(given.frequencies))]),
      decays: [2, 11, 151, 1281].map((n) => techniques.ema_decay(n, 2, 0.9)),
      presets: PRESETS,
      average: [0, 10, 1e5].map(average_decay),
    };"""
    return {"given": given} | run_node(script, given)


def test_grid_weights_and_probabilities_are_the_librarys(tables):
    for i, n in enumerate((2, 11, 151, 1281)):
        sigmas = karras_sigmas(n)
        close(tables["grid"][i], sigmas, rtol=1e-12)
        for j, name in enumerate(("uniform", "inverse_gap")):
            close(tables["weighting"][j][i], weighting.CHOICES[name](sigmas), rtol=1e-9)
        for j, name in enumerate(("uniform", "lognormal")):
            close(tables["pmf"][j][i], noise_schedule.CHOICES[name](sigmas), rtol=1e-9)


def test_curricula_are_the_librarys(tables):
    for (name, ends), found in zip(CURRICULA, tables["scales"], strict=True):
        assert found == [curriculum.CHOICES[name](k, 1000, **ends) for k in tables["given"]["steps"]]


def test_distances_are_the_librarys(tables):
    x, y = torch.tensor(tables["given"]["pairs"], dtype=torch.float64).split(2, dim=1)
    for name, found in zip(("squared_l2", "l1", "pseudo_huber"), tables["distances"], strict=True):
        close(found, distance_between(replace(ICT, distance=name), x, y), rtol=1e-9)


def test_embedding_and_decays_are_the_librarys(tables):
    embedding = FourierFeatures(16, 1.0)
    embedding.frequencies = torch.tensor(tables["given"]["frequencies"], dtype=torch.float64)
    close(
        tables["features"],
        embedding(torch.tensor(tables["given"]["c_noise"], dtype=torch.float64)),
        rtol=1e-9,
        atol=1e-12,
    )
    close(tables["decays"], [ema_decay(n, 2, 0.9) for n in (2, 11, 151, 1281)], rtol=1e-12)
    assert tables["average"] == [0.1, 11 / 20, 0.999]


def test_the_presets_are_the_librarys_ladder_without_dropout(tables):
    presets = {key: recipe for key, _, recipe in tables["presets"]}
    assert presets["CT"] == js_recipe(CT)
    assert presets["iCT"] == js_recipe(ICT)
    rungs = [recipe for key, _, recipe in tables["presets"] if key.startswith("plus-")]
    assert rungs == [js_recipe(recipe) for name, recipe in LADDER[1:-1] if name != "+ dropout"]
    for field in ("weighting", "fourier_scale", "teacher", "distance", "curriculum", "noise_schedule"):
        assert presets[f"without-{field}"] == js_recipe(replace(ICT, **{field: getattr(CT, field)}))


@pytest.mark.parametrize("order", [1, 2])
def test_sliced_wasserstein_is_the_librarys(order):
    x, y = torch.randn(30, 2, dtype=torch.float64), 0.5 * torch.randn(45, 2, dtype=torch.float64) + 0.3
    lines = torch.randn(2, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    lines = (lines / lines.norm(dim=0)).T.flatten().tolist()
    script = """import { quantiles, sliced_wasserstein } from "./distances.js";
    const [x, y] = [given.x, given.y].map((points) => quantiles(Float64Array.from(points), given.lines));
    result = sliced_wasserstein(x, y, given.order);"""
    found = run_node(script, {"x": x.flatten().tolist(), "y": y.flatten().tolist(), "lines": lines, "order": order})
    expected = sliced_wasserstein(x, y, 16, torch.Generator().manual_seed(3), order=order)
    assert found == pytest.approx(expected, rel=1e-9)


# --- reference: model, loss, gradient and training against PyTorch, from the same numbers ---

SETTINGS = {
    "iCT": ICT,
    "CT": CT,
    "mixed": replace(ICT, distance="l1", teacher="ema", mu0=0.5, curriculum="square_root", s1=30, fourier_scale=1.0),
}
RUN = """
import { Learner, training_step, average_decay } from "./train.js";
import { draw_batch, consistency_training_loss } from "./objective.js";
import { data_of } from "./toy.js";
import { stream } from "./random.js";
const [data, learner] = [data_of("ring"), new Learner(given.recipe, 5)];
const { network } = learner.student;
const start = [...network.weights];
const drawn = [];
for (let step = 0; step < given.steps; step += 1) {
  const batch = draw_batch(data, stream(5, step));
  const output = training_step(learner, batch, step, given.steps);
  drawn.push({ x: [...batch.x], noise: [...batch.noise], index: [...output.lo], loss: output.loss, n: output.num_scales,
    gradient: step === 0 ? [...network.gradient] : [] });
}
result = { start, drawn, frequencies: [...network.frequencies], end: [...network.weights],
  average: [...learner.average.network.weights] };
"""


@pytest.mark.parametrize("name", SETTINGS)
def test_200_steps_from_the_same_numbers_end_at_the_same_weights(name, monkeypatch):
    recipe = replace(SETTINGS[name], dropout=0.0)
    told = run_node(RUN, {"recipe": js_recipe(recipe), "steps": 200})
    student = load(ConsistencyModel(PlainMLP(1.0)), told["start"], told["frequencies"])
    learner = Learner(student, recipe, learning_rate=2e-3)
    for step, drawn in enumerate(told["drawn"]):
        points = {key: torch.tensor(drawn[key], dtype=torch.float64).view(64, 2) for key in ("x", "noise")}
        monkeypatch.setattr(torch, "multinomial", lambda *_, index=drawn["index"], **__: torch.tensor(index))
        monkeypatch.setattr(torch, "randn", lambda *_, noise=points["noise"], **__: noise)
        decay = min(0.999, (1 + step) / (10 + step))
        output = training_step(learner, [Shard(points["x"], None, torch.Generator())], step, 200, decay, Alone())
        assert output.num_scales == drawn["n"]
        assert drawn["loss"] == pytest.approx(float(output.loss), rel=1e-5)
        if step == 0:  # the gradient of the first step, before the weights moved
            grads = flat_parts(student, drawn["gradient"])
            for weight, (_, theirs) in zip(student.parameters(), grads, strict=True):
                close(theirs, weight.grad, rtol=1e-5, atol=1e-12)
    for model, flat in ((student, told["end"]), (learner.average, told["average"])):
        for ours, theirs in flat_parts(model, flat):
            close(theirs, ours, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", SETTINGS)
def test_loss_and_gradient_are_pytorchs_and_those_of_finite_differences(name, monkeypatch):
    """At random weights: the last layer starts at zero, where most of the gradient is zero too."""
    recipe = replace(SETTINGS[name], dropout=0.0)
    script = """
    import { Learner } from "./train.js";
    import { draw_batch, consistency_training_loss } from "./objective.js";
    import { data_of } from "./toy.js";
    import { normals, stream } from "./random.js";
    import { SIZES } from "./network.js";
    const learner = new Learner({ ...given.recipe, teacher: "ema" }, 1); // a teacher that the differences do not move
    const generator = stream(3, 3);
    for (const model of [learner.student, learner.teacher]) {
      model.network.layers.forEach(({ weight, bias, ins, outs }, l) => {
        for (const part of [weight, bias]) part.set(normals(part.length, generator).map((one) => 0.2 * one));
      });
    }
    const { weights, gradient } = learner.student.network;
    const batch = draw_batch(data_of("spiral"), generator);
    const loss = () => consistency_training_loss(learner.student, learner.teacher, batch, given.recipe, 500, 1000);
    const { lo, loss: value } = loss();
    const exact = [...gradient];
    const differences = given.places.map((i) => {
      const [before, h] = [weights[i], 1e-6];
      weights[i] = before + h;
      const up = loss().loss;
      weights[i] = before - h;
      const down = loss().loss;
      weights[i] = before;
      return (up - down) / (2 * h);
    });
    result = { value, exact, differences, lo: [...lo],
      weights: [...weights], teacher: [...learner.teacher.network.weights],
      frequencies: [...learner.student.network.frequencies], x: [...batch.x], noise: [...batch.noise] };"""
    places = list(range(0, 2916, 31))
    told = run_node(script, {"recipe": js_recipe(recipe), "places": places})
    exact = np.array(told["exact"])
    close(told["differences"], exact[places], rtol=2e-4, atol=1e-5 * np.abs(exact).max())
    student, teacher = (
        load(ConsistencyModel(PlainMLP(1.0)), told[key], told["frequencies"]) for key in ("weights", "teacher")
    )
    points = {key: torch.tensor(told[key], dtype=torch.float64).view(64, 2) for key in ("x", "noise")}
    monkeypatch.setattr(torch, "multinomial", lambda *_, **__: torch.tensor(told["lo"]))
    monkeypatch.setattr(torch, "randn", lambda *_, **__: points["noise"])
    output = consistency_training_loss(student, teacher, points["x"], recipe, 500, 1000, torch.Generator())
    output.loss.backward()
    assert told["value"] == pytest.approx(float(output.loss.detach()), rel=1e-5)
    for weight, (_, theirs) in zip(student.parameters(), flat_parts(student, told["exact"]), strict=True):
        close(theirs, weight.grad, rtol=1e-5, atol=1e-9 * np.abs(exact).max())


@pytest.mark.parametrize("sigmas", [(80.0,), (80.0, 0.8)])
def test_samples_are_the_librarys_from_the_same_weights_and_noise(sigmas, monkeypatch):
    script = """
    import { ConsistencyModel, sample } from "./consistency.js";
    import { normals, stream } from "./random.js";
    const model = new ConsistencyModel(0.3, stream(1, 1));
    model.network.weights.set(normals(model.network.weights.length, stream(1, 2)).map((one) => 0.2 * one));
    const drawn = sample(model, 100, given.sigmas, stream(4, 4));
    const again = stream(4, 4);
    result = { samples: [...drawn.at(-1)], noise: given.sigmas.map(() => [...normals(200, again)]),
      weights: [...model.network.weights], frequencies: [...model.network.frequencies] };"""
    told = run_node(script, {"sigmas": sigmas})
    model = load(ConsistencyModel(PlainMLP(1.0)), told["weights"], told["frequencies"])
    noise = iter([torch.tensor(one, dtype=torch.float64).view(100, 2) for one in told["noise"]])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(noise))
    monkeypatch.setattr(torch, "zeros", lambda shape, **_: torch.full(shape, 0.0, dtype=torch.float64))
    expected = sample(model, 100, (2,), sigmas)
    close(np.reshape(told["samples"], (100, 2)), expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", DATA)
def test_data_are_the_librarys(name):
    """As near to the library's as fresh data of its own are, with room for chance."""
    script = """import { TOYS } from "./toy.js"; import { stream } from "./random.js";
    result = [...TOYS[given.name](4000, stream(0, 0))];"""
    theirs = torch.tensor(run_node(script, {"name": name}), dtype=torch.float64).view(-1, 2)
    generator = torch.Generator().manual_seed(0)
    ours, fresh, more = (TOYS[name](n, generator) for n in (16_000, 4_000, 4_000))
    apart, *floors = (sliced_wasserstein(x, ours, order=1) for x in (theirs, fresh, more))
    assert apart < 2.5 * max(floors)


def test_painted_points_lie_in_the_painted_cells():
    script = """import { painted } from "./toy.js"; import { stream } from "./random.js";
    result = [...painted(200, stream(0, 0), [0, 399])];"""
    points = np.reshape(run_node(script, {}), (200, 2))
    top = points[points[:, 1] > 0]
    assert 50 < len(top) < 150
    assert ((top[:, 0] < -0.9) & (top[:, 1] > 0.9)).all()
    rest = points[points[:, 1] <= 0]
    assert ((rest[:, 0] > 0.9) & (rest[:, 1] < -0.9)).all()
