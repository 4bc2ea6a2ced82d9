// The whole state of the page: in the address, as Python, and read back with everything checked.

import { ICT, PRESETS, number, override } from "./recipe.js";
import { BOARD, TOYS } from "./toy.js";
import { SIGMA_MID } from "./train.js";

export const TOTAL_STEPS = [5000, 10000, 20000]; // shorter, the average that is sampled would still hold its start
export const SPEEDS = [0, 1000, 100, 10]; // steps a second; 0 is as fast as possible
export const DATA = [...Object.keys(TOYS), "painted"];
const TWO_BARS = [...Array(BOARD ** 2).keys()].filter((cell) => [4, 5, 14, 15].includes(cell % BOARD));
export const START = { data: "ring", cells: TWO_BARS, seed: 0, steps: 10000, speed: 0, sigma: 80, at: null, runs: ["CT", "iCT"].map(preset) };

// The run of a preset: what it was made from, and its recipe.
export function preset(key) {
  const found = PRESETS.find(([name]) => name === key);
  if (!found) throw new Error(`unknown preset ${key}`);
  return { base: key, recipe: found[2] };
}

const write_run = ({ base, recipe }) => [base, ...Object.entries(recipe)
  .filter(([field, value]) => value !== preset(base).recipe[field])
  .map(([field, value]) => `${field}:${value ?? ""}`)].join(",");

function read_run(text) {
  const [base, ...changes] = text.split(",");
  const start = preset(base);
  const change = (recipe, [field, value], i) => override(recipe, field, value, i < changes.length - 1);
  return { base, recipe: changes.map((one) => one.split(/:(.*)/s)).reduce(change, start.recipe) };
}

// Painted cells as one number, a bit each, in base 36.
const write_cells = (cells) => cells.reduce((bits, cell) => bits | (1n << BigInt(cell)), 0n).toString(36);
function read_cells(text) {
  const bits = [...text].reduce((sum, digit) => sum * 36n + BigInt(parseInt(digit, 36)), 0n);
  const cells = [...Array(BOARD ** 2).keys()].filter((cell) => (bits >> BigInt(cell)) & 1n);
  if (!cells.length) throw new Error("no cell is painted");
  return cells;
}

const among = (name, choices) => (text) => {
  const found = choices.find((one) => String(one) === text);
  if (found === undefined) throw new Error(`${name} is ${text}; it must be one of ${choices.join(", ")}`);
  return found;
};
export const READ = {
  data: among("data", DATA),
  seed: number("seed", [0, 2 ** 31 - 1], true),
  steps: among("steps", TOTAL_STEPS),
  speed: among("speed", SPEEDS),
  sigma: number("sigma", [0.002, 80]),
  at: number("at", [0, 20000], true),
  cells: read_cells,
};

export function to_address({ runs, cells, ...state }) {
  const parts = Object.entries(state).filter(([, value]) => value !== null);
  if (state.data === "painted") parts.push(["cells", write_cells(cells)]);
  return [...parts, ["left", write_run(runs[0])], ["right", write_run(runs[1])]].map(([name, value]) => `${name}=${value}`).join("&");
}

// The state of an address, and what was wrong in it: one text each.
export function from_address(text) {
  const state = { ...START, runs: [...START.runs] };
  const wrong = [];
  for (const [, name, value] of text.matchAll(/([^&=]+)=([^&]*)/g)) {
    try {
      if (name === "left") state.runs[0] = read_run(value);
      else if (name === "right") state.runs[1] = read_run(value);
      else if (Object.hasOwn(READ, name)) state[name] = READ[name](value);
      else if (name !== "tour") throw new Error(`unknown part ${name}`);
    } catch (error) {
      wrong.push(error.message);
    }
  }
  if (state.at > state.steps) state.at = state.steps;
  return { state, wrong };
}

const python = (value) => (value === null ? "None" : typeof value === "string" ? `"${value}"` : String(value));

// The lines that train the same in a notebook: other random numbers, and so other weights, but the same method.
export function to_python(templates, { data, cells, seed, steps }, { recipe: { learning_rate, ...recipe } }) {
  const changes = Object.entries(recipe).filter(([field, value]) => value !== ICT[field]);
  const fields = changes.map(([field, value]) => `, ${field}=${python(value)}`).join("");
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
  const painted = { cells: `[${cells.join(", ")}]`, board: BOARD };
  const points = data === "painted" ? fill(templates.painted, painted).trim() : `points = TOYS["${data}"]`;
  return fill(templates.whole, { recipe: fields, seed, steps, learning_rate, points, sigma_mid: SIGMA_MID });
}
