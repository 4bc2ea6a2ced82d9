"""The page that trains: its JavaScript computes what ict_lib computes, and what a reader sees and copies is true."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ict_lib.consistency import ConsistencyModel
from ict_lib.data.small import TOYS
from ict_lib.display.figures.playground import NAMES, still, table
from ict_lib.display.playground import HERE, Playground, bundle, quote, record, run_node, train
from ict_lib.display.playground.network import FEATURES, PlainMLP
from ict_lib.display.playground.tours import TOURS
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

ROOT = Path(__file__).resolve().parents[1]
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
      weighting: ["uniform", "inverse_root_gap", "inverse_gap"].map((name) => of_grid(techniques.weighting[name])),
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
        for j, name in enumerate(("uniform", "inverse_root_gap", "inverse_gap")):
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


# --- what a reader copies ---

STATE = """
import * as page from "./state.js";
import { override } from "./recipe.js";
"""


def copied(left: str, data: str = "ring", seed: int = 3) -> str:
    """What *copy as Python* gives for a run, by its preset and changes as in the address."""
    script = STATE + "result = page.to_python(given.templates, page.from_address(given.address).state,"
    script += " page.from_address(given.address).state.runs[0]);"
    address = f"data={data}&seed={seed}&left={left}&right=iCT"
    return run_node(script, {"templates": Playground().templates, "address": address})


@pytest.mark.parametrize(
    ("left", "data", "field", "value"),
    [
        ("iCT", "ring", "teacher", "student"),
        ("CT", "two_moons", "fourier_scale", 16.0),
        ("CT-tuned", "spiral", "s1", 40),
        ("without-distance", "checkerboard", "distance", "squared_l2"),
        ("iCT,s0:20,mu0:0.5", "painted", "s0", 20),
    ],
)
def test_the_copied_python_trains_the_run_that_was_on_the_page(left, data, field, value, capsys):
    """Run as it is, but shorter: that it ends where the page does takes minutes, and is the next test."""
    code = copied(left, data)
    assert "total_steps=10000" in code
    namespace = {}
    exec(
        code.replace("total_steps=10000", "total_steps=40").replace("4_000", "100").replace("16_000", "400"), namespace
    )
    assert getattr(namespace["recipe"], field) == value
    assert namespace["recipe"].dropout == 0
    assert namespace["learner"].optimizer.param_groups[0]["lr"] == (5e-3 if left == "CT-tuned" else 2e-3)
    assert namespace["data"].abs().max() < 1.2
    assert len(re.findall(r"step\(s\): \d\.\d+ from the data", capsys.readouterr().out)) == 2


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two trainings of a minute each, on a quiet processor
def test_the_copied_python_ends_where_the_page_does(capsys):
    """Other random numbers, the same method: collapse in one place, modes found in the other."""
    ends = {}
    for left in ("CT", "iCT"):
        exec(copied(left), {})
        ends[left] = [float(number) for number in re.findall(r"(\d\.\d+) from", capsys.readouterr().out)]
    assert ends["CT"][0] > 0.25
    assert ends["iCT"][0] < 0.06
    assert ends["iCT"][1] < 0.03


@pytest.mark.parametrize(
    "address",
    [
        "data=ring&seed=0&steps=10000&speed=0&sigma=80&left=CT&right=iCT",
        "data=two_moons&seed=7&steps=5000&speed=100&sigma=0.5&at=300&left=CT-tuned,mu0:0.2&right=iCT,s1:,s0:12",
        "data=painted&seed=0&steps=20000&speed=0&sigma=80&cells=7ps&left=without-teacher&right=iCT,distance:l1",
        "data=ring&seed=0&steps=10000&speed=0&sigma=80&left=CT-tuned,s0:50,s1:150&right=iCT,s0:3,s1:5",  # both at once
    ],
)
def test_an_address_says_the_whole_state(address):
    script = STATE + "const { state, wrong } = page.from_address(given.address); result = [state, wrong,"
    script += "page.to_address(state), page.from_address(page.to_address(state)).state];"
    state, wrong, again, same = run_node(script, {"address": address})
    assert wrong == []
    assert same == state
    assert dict(part.split("=") for part in again.split("&")) == dict(
        part.split("=") for part in address.replace(",s1:,", ",").split("&")
    )


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("data=rings", "data is rings; it must be one of ring, two_moons"),
        ("seed=-1", "seed is -1; it must be a whole number from 0"),
        ("seed=", "seed is ; it must be"),
        ("steps=7", "one of 5000, 10000, 20000"),
        ("sigma=1e9", "sigma is 1e9; it must be from 0.002 to 80"),
        ("left=ICT", "unknown preset ICT"),
        ("left=iCT,mu0:1", "mu0 is 1; it must be from 0.001 to 0.999"),
        ("left=iCT,s0:2000", "s0 is 2000; it must be a whole number from 2 to 1280"),
        ("left=iCT,s0:100,s1:50", "s0 = 100 is above s1 = 50"),
        ("left=iCT,teacher:nobody", "teacher is nobody; it must be one of ema, student"),
        ("left=iCT,learning_rates:1", "unknown field learning_rates"),
        ("data=painted&cells=0", "no cell is painted"),
        ("colour=red", "unknown part colour"),
    ],
)
def test_what_is_wrong_in_an_address_is_left_out_and_said(address, rule):
    script = STATE + "const { state, wrong } = page.from_address(given.address);"
    script += "result = [wrong, page.to_address(state), page.to_address(page.from_address('').state)];"
    wrong, state, start = run_node(script, {"address": address})
    assert len(wrong) == 1
    assert rule in wrong[0]
    assert state.replace("data=painted", "data=ring").split("&cells")[0] in start or "painted" in state


def test_every_tour_sets_up_runs_that_exist():
    keys = [preset for tour in TOURS for preset in tour["runs"]]
    recipes = run_node(STATE + "result = given.keys.map((key) => page.preset(key).recipe);", {"keys": keys})
    assert all(a != b for a, b in zip(recipes[::2], recipes[1::2], strict=True))
    assert len(TOURS) == 5


# --- a training ---


def test_the_same_seed_trains_the_same_and_another_one_not():
    first, again, other = (train("iCT", seed=seed, total_steps=60) for seed in (0, 0, 1))
    assert first["weights"] == again["weights"]
    assert first["weights"] != other["weights"]
    assert [step for step, *_ in first["distances"]] == list(range(0, 61, 3))
    assert len(first["losses"]) == 60
    assert len(first["samples"][0]) == 2000


def test_both_runs_see_the_same_data_and_noise():
    """At step 0 the models are equal, but for the embedding, and so are the samples that they give."""
    script = """
    import { PRESETS } from "./recipe.js";
    import { Training } from "./train.js";
    result = PRESETS.filter(([key]) => ["iCT", "without-teacher"].includes(key)).map(([, , recipe]) => {
      const training = new Training({ recipe, data: "ring", cells: [], seed: 4, total_steps: 5000 });
      const { batch } = training.advance();
      return [[...batch.x], [...batch.noise], [...batch.uniform]];
    });"""
    first, second = run_node(script, {})
    assert first == second


@pytest.mark.slow
def test_the_ring_separates_ct_tuned_ct_and_ict():
    """The bars of the page, over the seeds of the record and one training anew."""
    rows = json.loads((ROOT / "runs" / "playground.json").read_text("utf8"))
    ends = {preset: [row for row in rows if (row["preset"], row["data"]) == (preset, "ring")] for preset in NAMES}
    assert all(len(found) == 3 for found in ends.values())
    assert max(row["one_step"] for row in ends["iCT"]) <= 0.05
    assert max(row["two_steps"] for row in ends["iCT"]) <= 0.025
    assert min(row["one_step"] for row in ends["CT"]) > 0.3
    for row in ends["CT-tuned"]:
        assert 0.05 < row["one_step"] < 0.3
    run = train("iCT", seed=1)
    recorded = next(row for row in ends["iCT"] if row["seed"] == 1)
    assert run["distances"][-1][1:] == pytest.approx([recorded["one_step"], recorded["two_steps"]], rel=1e-3)


# --- the module and the figure ---


def test_the_bundle_is_one_module_without_imports_and_a_worker_without_exports():
    module = bundle()
    assert not re.findall(r"^import ", module, re.MULTILINE)
    assert re.findall(r"^export .*$", module, re.MULTILINE) == ["export default { render: Playground.render };"]
    assert len(module) < 100_000


def test_the_runs_on_the_page_have_a_length_that_it_offers():
    with pytest.raises(ValueError, match=r"total_steps is 7: one of \(5000, 10000, 20000\)"):
        record(total_steps=7)
    assert run_node('import { TOTAL_STEPS } from "./state.js"; result = TOTAL_STEPS;', {}) == [5000, 10_000, 20_000]


def test_the_javascript_is_small():
    lines = [len(path.read_text("utf8").splitlines()) for path in HERE.glob("*.js")]
    assert sum(lines) <= 1500
    assert max(lines) <= 250


def test_the_widget_carries_its_runs_without_what_only_the_still_picture_needs():
    runs = [train(preset, total_steps=20) for preset in ("CT", "iCT")]
    playground = Playground(runs)
    assert [run["weights"] for run in playground.recorded] == [run["weights"] for run in runs]
    assert all("samples" not in run for run in playground.recorded)
    assert "20 steps on ring, seed 0" in repr(playground)
    still(runs)  # draws


def test_the_code_that_the_chapter_quotes_ends_with_its_function():
    shown = quote("objective.js", "export function consistency_training_loss").data
    assert shown.startswith("```javascript\nexport function consistency_training_loss(")
    assert shown.endswith("\n}\n```")
    with pytest.raises(ValueError, match=r"start is 'nothing'.*objective\.js"):
        quote("objective.js", "nothing")


def test_the_table_says_mean_and_range_and_what_is_missing():
    rows = [{"preset": "CT", "data": "ring", "one_step": n / 10, "two_steps": 0.2} for n in (1, 2, 6)]
    expected = {"recipe": "CT, constants as published", "one step": "0.300 (0.100 to 0.600)"}
    assert table(rows, ["CT"])[0].items() >= expected.items()
    with pytest.raises(ValueError, match="no run of preset 'iCT' on 'ring'"):
        table(rows, ["iCT"])


def test_a_script_that_fails_says_why():
    with pytest.raises(RuntimeError, match="nobody"):
        run_node("result = nobody();", {})
