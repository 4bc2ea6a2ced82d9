// What is drawn of a run. The functions of the Explorer stand in front of this file (see __init__.py).

import { model_of, draw_samples } from "./train.js";
import { SIGMA_DATA, SIGMA_MAX, SIGMA_MIN } from "./consistency.js";
import { karras_sigmas } from "./grid.js";
import { noise_schedule, num_scales_at } from "./techniques.js";

const VIEW = 1.3; // half a side of the pictures, data units
const SHOWN = 1000; // samples
const LINES_OF_NET = 25;
const NET_WIDTH = 2.5; // half a side of the net, in standard deviations of a noisy point

// Where f(., sigma) sends the crossings of a square net: [LINES_OF_NET^2, 2].
function net(model, sigma) {
  const half = NET_WIDTH * Math.hypot(sigma, SIGMA_DATA);
  const x = Float64Array.from({ length: 2 * LINES_OF_NET ** 2 }, (_, i) => {
    const place = i % 2 ? Math.floor((i >> 1) / LINES_OF_NET) : (i >> 1) % LINES_OF_NET;
    return half * ((2 * place) / (LINES_OF_NET - 1) - 1);
  });
  return model.at(x, sigma);
}

// All that the pictures of a run show; computed once for each snapshot.
export function pictures_of(snapshot) {
  const model = model_of(snapshot);
  const [one, two] = draw_samples(model, SHOWN, snapshot.seed);
  return { one, two, net: (sigma) => net(model, sigma) };
}

function begin(canvas) {
  const size = Math.round((canvas.clientWidth || 240) * (window.devicePixelRatio || 1));
  if (canvas.width !== size) Object.assign(canvas, { width: size, height: size });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, size, size);
  const to = (value) => ((value / VIEW + 1) * size) / 2;
  return { context, to, back: (value) => size - to(value), size };
}

function dots({ context, to, back, size }, points, color, alpha) {
  const wide = Math.max(1.5, size / 150);
  Object.assign(context, { fillStyle: color, globalAlpha: alpha });
  for (let i = 0; i < points.length; i += 2) context.fillRect(to(points[i]) - wide / 2, back(points[i + 1]) - wide / 2, wide, wide);
}

function lines({ context, to, back, size }, corners, color) {
  Object.assign(context, { strokeStyle: color, globalAlpha: 0.85, lineWidth: Math.max(1, size / 280) });
  context.beginPath();
  for (const part of corners) part.forEach(([x, y], i) => (i ? context.lineTo(to(x), back(y)) : context.moveTo(to(x), back(y))));
  context.stroke();
}

const inkOf = (canvas, name) => getComputedStyle(canvas).getPropertyValue(name).trim() || "gray";

// Points in front of the data; of a slow step also lines from the student's outputs to the teacher's.
export function drawCloud(canvas, data, points, color, pairs) {
  const at = begin(canvas);
  dots(at, data, inkOf(canvas, "--ict-5"), points ? 0.3 : 0.7);
  if (points) dots(at, points, inkOf(canvas, color), 0.9);
  if (!pairs) return;
  const ends = Array.from({ length: pairs.output.length / 2 }, (_, i) => [pairs.output, pairs.target].map((x) => [x[2 * i], x[2 * i + 1]]));
  lines(at, ends, inkOf(canvas, "--ict-3"));
}

export function drawNet(canvas, data, crossings, color) {
  const at = begin(canvas);
  dots(at, data, inkOf(canvas, "--ict-5"), 0.3);
  if (!crossings) return;
  const range = [...Array(LINES_OF_NET).keys()];
  const corner = (a, b) => [0, 1].map((i) => crossings[2 * (a * LINES_OF_NET + b) + i]);
  lines(at, range.flatMap((a) => [range.map((b) => corner(a, b)), range.map((b) => corner(b, a))]), inkOf(canvas, color));
}

const mark = (color, label, dashed = false) => ({ mark: "line", color, label, dashed, x: [], y: [] });
export const COLORS = [1, 0]; // of the two runs, in the palette of the Explorer

// The four panels of curves under the runs, and what fills them.
export function buildCurves() {
  const both = (more = "", dashed = false) => ["left", "right"].map((side, i) => mark(COLORS[i], side + more, dashed));
  const step = { x_label: "step", x_scale: "linear", y_scale: "log" };
  const panels = {
    distance: { ...step, title: "Distance to the data", y_label: "sliced Wasserstein", marks: [...both(", one step"), ...both(", two steps", true), mark(5, "fresh data: the floor", true)] },
    loss: { ...step, title: "Loss", y_label: "mean of the last steps", marks: both() },
    scales: { ...step, title: "Curriculum N(k)", y_label: "noise levels", marks: [...both(), mark(5, "now", true)] },
    pmf: { title: "Which noise is drawn", x_label: "noise level σ", y_label: "probability a unit of ln σ", x_scale: "log", y_scale: "linear", marks: both() },
  };
  const built = Object.entries(panels).map(([name, panel], i) => ({ name, panel, ...buildPanel(panel, i) }));
  return { places: built.map(({ place }) => place), draw: (state, snapshots, at) => drawCurves(built, panels, state, snapshots, at) };
}

const set = (one, x, y) => Object.assign(one, { x, y: y.map((value) => Math.max(value, 1e-9)) });

function range(marks, least) {
  const values = marks.flatMap(({ y }) => y).filter((value) => value > 1e-8);
  return [Math.min(...values, least[0]) * 0.85, Math.max(...values, least[1]) * 1.15];
}

function drawCurves(built, { distance, loss, scales, pmf }, { runs: chosen, steps }, snapshots, at) {
  chosen.forEach(({ recipe }, i) => {
    const { distances = [], losses = [] } = snapshots[i] ?? {};
    const column = (rows, k) => rows.map((row) => row[k]);
    set(distance.marks[i], column(distances, 0), column(distances, 1));
    set(distance.marks[i + 2], column(distances, 0), column(distances, 2));
    set(loss.marks[i], column(losses, 0), column(losses, 1));
    const planned = [...Array(201).keys()].map((k) => Math.min(steps - 1, Math.round((k * steps) / 200)));
    set(scales.marks[i], planned, planned.map((k) => num_scales_at(recipe, k, steps)));
    const sigmas = karras_sigmas(num_scales_at(recipe, Math.min(at, steps - 1), steps), SIGMA_MIN, SIGMA_MAX);
    const width = (k) => Math.log(sigmas[k + 1] / sigmas[k]);
    const mass = [...noise_schedule[recipe.noise_schedule](sigmas)];
    set(pmf.marks[i], mass.map((_, k) => Math.sqrt(sigmas[k] * sigmas[k + 1])), mass.map((one, k) => one / width(k)));
  });
  const floor = (snapshots[0] ?? snapshots[1])?.floor;
  set(distance.marks[4], floor ? [0, steps] : [], floor ? [floor, floor] : []);
  for (const panel of [distance, loss, scales]) panel.x_range = [0, steps];
  distance.y_range = range(distance.marks, [0.006, 0.5]);
  loss.y_range = range(loss.marks, [1e-3, 1]);
  scales.y_range = range(scales.marks.slice(0, 2), [2, 10]);
  set(scales.marks[2], [at, at], scales.y_range);
  pmf.x_range = [SIGMA_MIN, SIGMA_MAX];
  pmf.y_range = [0, 1.08 * Math.max(...pmf.marks.flatMap(({ y }) => y))];
  for (const { fit, draw, describe } of built) [fit(), draw((values) => values, []), describe(`step ${at}`)];
}
