// The controls of the page: native inputs with labels, and the board that the reader paints.

import { CHOICES, PRESETS, RANGES, override } from "./recipe.js";
import { BOARD } from "./toy.js";
import { COLORS } from "./draw.js";
import { preset } from "./state.js";

export function add(place, ...parts) {
  place.append(...parts);
  return place;
}

export function named(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

const quiet = (control) => named(control, { "data-lm-suppress-shortcuts": "true" }); // in JupyterLab keys would edit the notebook

export function button(text, onClick) {
  const element = Object.assign(html("button", "ict-button", text), { type: "button" });
  element.addEventListener("click", onClick);
  return quiet(element);
}

// A control with its label above it.
export const labelled = (text, control) => add(html("label", "ict-field"), html("span", "", text), quiet(control));

// What the reader chooses, or enters and leaves, is applied; where `apply` throws, the old value is back, and the rule is said.
function applied(element, value, apply, say) {
  element.value = value;
  element.addEventListener("change", () => {
    try {
      apply(element.value.trim());
      value = element.value;
    } catch (error) {
      element.value = value;
      say(error.message);
    }
  });
  return element;
}

// choices: [value, text] each.
export function select(choices, value, apply, say) {
  const element = html("select");
  for (const [one, text] of choices) element.append(Object.assign(html("option", "", text), { value: String(one) }));
  return applied(element, String(value), (chosen) => apply(choices.find(([one]) => String(one) === chosen)[0]), say);
}
export const entry = (value, apply, say) => applied(Object.assign(html("input"), { type: "text", inputMode: "decimal", size: 6 }), value, apply, say);

const SECTIONS = { weighting: "3.1", fourier_scale: "3.1", teacher: "3.2", distance: "3.3", curriculum: "3.4", noise_schedule: "3.5" };

// Preset and switches of one run; `change` gets the new run, { base, recipe }.
export function buildSwitches(run, side, change, say) {
  const same = PRESETS.find(([, , recipe]) => Object.keys(recipe).every((field) => recipe[field] === run.recipe[field]));
  const choices = [...(same ? [] : [["", "own mixture"]]), ...PRESETS.map(([key, name]) => [key, name])];
  const swatch = html("span", "ict-swatch");
  swatch.style.background = `var(--ict-${COLORS[side]})`;
  const name = ["Left", "Right"][side];
  const head = labelled(`${name} run`, select(choices, same?.[0] ?? "", (key) => change(preset(key)), say));
  head.firstChild.prepend(swatch);
  const grid = html("div", "ict-fields");
  const apply = (field) => (value) => change({ ...run, recipe: override(run.recipe, field, value) });
  for (const [field, value] of Object.entries(run.recipe)) {
    const control = field in CHOICES
      ? select(CHOICES[field].map((one) => [one, one]), value, apply(field), say)
      : entry(value ?? "", apply(field), say);
    if (field in RANGES && value === null) control.placeholder = "as published";
    grid.append(labelled(field in SECTIONS ? `${field} (${SECTIONS[field]})` : field, control));
  }
  const more = add(html("details"), html("summary", "", `Switches of the ${name.toLowerCase()} run`), grid);
  return add(html("div", "ict-switches"), head, more);
}

// The board on which the reader paints data: with a pointer, a finger, or arrow keys and space.
export function buildBoard(cells, change, say) {
  const canvas = Object.assign(html("canvas"), { width: 12 * BOARD, height: 12 * BOARD, tabIndex: 0 });
  named(canvas, { role: "application", "aria-label": `Board of ${BOARD} by ${BOARD} cells to paint data: arrow keys move, space paints or erases` });
  const on = new Set(cells);
  let [cursor, paints] = [BOARD * 10 + 10, null];
  const draw = () => {
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = style.getPropertyValue("--ict-2").trim() || "green";
    for (const cell of on) context.fillRect(12 * (cell % BOARD), 12 * Math.floor(cell / BOARD), 11, 11);
    context.strokeStyle = style.color;
    if (document.activeElement === canvas) context.strokeRect(12 * (cursor % BOARD) + 0.5, 12 * Math.floor(cursor / BOARD) + 0.5, 11, 11);
  };
  const finish = () => (on.size ? change([...on].sort((a, b) => a - b)) : say("The board is empty: paint a cell first."));
  const put = (cell) => { on[paints ? "add" : "delete"](cell); draw(); };
  const stroke = (to) => { // through all cells between: of a pointer one place a frame is told
    const [[column, row], [right, down]] = [cursor, to].map((cell) => [cell % BOARD, Math.floor(cell / BOARD)]);
    const steps = Math.max(Math.abs(right - column), Math.abs(down - row), 1);
    for (let i = 1; i <= steps; i += 1) put(Math.round(row + ((down - row) * i) / steps) * BOARD + Math.round(column + ((right - column) * i) / steps));
    cursor = to;
  };
  const clip = (at) => Math.min(BOARD - 1, Math.max(0, at));
  const cellAt = (event) => {
    const [column, row] = [event.offsetX, event.offsetY].map((at) => clip(Math.floor((at / canvas.clientWidth) * BOARD)));
    return row * BOARD + column;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || event.ctrlKey) return; // opens a menu
    canvas.setPointerCapture(event.pointerId);
    cursor = cellAt(event);
    paints = !on.has(cursor);
    put(cursor);
  });
  canvas.addEventListener("pointermove", (event) => { if (paints !== null) stroke(cellAt(event)); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => {
    if (paints !== null) finish(); // pressed here
    paints = null;
  });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in moves) && event.key !== " ") return;
    event.preventDefault();
    const [right, down] = moves[event.key] ?? [0, 0];
    cursor = clip(Math.floor(cursor / BOARD) + down) * BOARD + clip((cursor % BOARD) + right);
    if (event.key === " ") on[on.has(cursor) ? "delete" : "add"](cursor);
    draw();
    if (event.key === " ") finish();
    if (on.size || event.key !== " ") say(`column ${1 + (cursor % BOARD)}, row ${1 + Math.floor(cursor / BOARD)}: ${on.has(cursor) ? "painted" : "empty"}`);
  });
  for (const event of ["focus", "blur"]) canvas.addEventListener(event, draw);
  const clear = button("Clear the board", () => { on.clear(); draw(); finish(); });
  return { place: add(html("div", "ict-board"), html("p", "", "Paint what the model shall learn:"), quiet(canvas), clear), draw };
}
