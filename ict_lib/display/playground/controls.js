// The controls of the page: native inputs with labels, and the board that the reader paints.

import { CHOICES, PRESETS, RANGES, override } from "./recipe.js";
import { BOARD } from "./toy.js";
import { COLORS } from "./draw.js";
import { preset } from "./state.js";

export function button(text, onClick) {
  const element = Object.assign(html("button", "ict-button", text), { type: "button" });
  element.addEventListener("click", onClick);
  element.dataset.lmSuppressShortcuts = "true"; // in JupyterLab keys would edit the notebook
  return element;
}

// A control with its label above it.
export function labelled(text, control) {
  const place = html("label", "ict-field");
  control.dataset.lmSuppressShortcuts = "true";
  place.append(html("span", "", text), control);
  return place;
}

// choices: [value, text] each.
export function select(choices, value, onChange) {
  const element = html("select");
  for (const [one, text] of choices) element.append(Object.assign(html("option", "", text), { value: String(one) }));
  element.value = String(value);
  element.addEventListener("change", () => onChange(choices.find(([one]) => String(one) === element.value)[0]));
  return element;
}

// A text that is applied when the reader leaves it or presses Enter; `apply` throws where it is refused.
export function entry(value, apply, say) {
  const element = Object.assign(html("input"), { type: "text", inputMode: "decimal", value, size: 6 });
  let good = value;
  element.addEventListener("change", () => {
    try {
      apply(element.value.trim());
      good = element.value.trim();
    } catch (error) {
      element.value = good;
      say(error.message);
    }
  });
  return element;
}

const LABELS = {
  weighting: "weighting (3.1)", fourier_scale: "fourier_scale (3.1)", teacher: "teacher (3.2)", distance: "distance (3.3)",
  curriculum: "curriculum (3.4)", noise_schedule: "noise_schedule (3.5)",
};

// Preset and switches of one run; `change` gets the new run, { base, recipe }.
export function buildSwitches(run, side, change, say) {
  const place = html("div", "ict-switches");
  const same = PRESETS.find(([, , recipe]) => Object.keys(recipe).every((field) => recipe[field] === run.recipe[field]));
  const choices = PRESETS.map(([key, name]) => [key, name]);
  if (!same) choices.unshift(["", "own mixture"]);
  const swatch = html("span", "ict-swatch");
  swatch.style.background = `var(--ict-${COLORS[side]})`;
  const name = ["Left", "Right"][side];
  const head = labelled(`${name} run`, select(choices, same?.[0] ?? "", (key) => change(preset(key))));
  head.firstChild.prepend(swatch);
  const more = html("details");
  const grid = html("div", "ict-fields");
  const apply = (field) => (value) => change({ ...run, recipe: override(run.recipe, field, value) });
  for (const [field, value] of Object.entries(run.recipe)) {
    const control = field in CHOICES
      ? select(CHOICES[field].map((one) => [one, one]), value, apply(field))
      : entry(value ?? "", apply(field), say);
    if (field in RANGES && value === null) control.placeholder = "as published";
    grid.append(labelled(LABELS[field] ?? field, control));
  }
  more.append(html("summary", "", `Switches of the ${name.toLowerCase()} run`), grid);
  place.append(head, more);
  return place;
}

// The board on which the reader paints data: with a pointer, a finger, or arrow keys and space.
export function buildBoard(cells, change, say) {
  const place = html("div", "ict-board");
  const canvas = Object.assign(html("canvas"), { width: 12 * BOARD, height: 12 * BOARD, tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `Board of ${BOARD} by ${BOARD} cells to paint data: arrow keys move, space paints or erases`);
  canvas.dataset.lmSuppressShortcuts = "true";
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
  const finish = () => {
    if (on.size) change([...on].sort((a, b) => a - b));
    else say("The board is empty: paint a cell first.");
  };
  const put = (cell) => {
    on[paints ? "add" : "delete"](cell);
    draw();
  };
  const cellAt = ({ offsetX, offsetY }) => {
    const [x, y] = [offsetX, offsetY].map((at) => Math.floor((at / canvas.clientWidth) * BOARD));
    return x >= 0 && y >= 0 && x < BOARD && y < BOARD ? y * BOARD + x : null;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    cursor = cellAt(event) ?? cursor;
    paints = !on.has(cursor);
    put(cursor);
  });
  canvas.addEventListener("pointermove", (event) => {
    const cell = paints === null ? null : cellAt(event);
    if (cell !== null) put(cell);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => {
    paints = null;
    finish();
  });
  canvas.addEventListener("keydown", (event) => {
    const [column, row] = [cursor % BOARD, Math.floor(cursor / BOARD)];
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!(event.key in moves) && event.key !== " ") return;
    event.preventDefault();
    const [right, down] = moves[event.key] ?? [0, 0];
    cursor = Math.min(BOARD - 1, Math.max(0, row + down)) * BOARD + Math.min(BOARD - 1, Math.max(0, column + right));
    paints = !on.has(cursor);
    if (event.key === " ") put(cursor);
    paints = null;
    draw();
    say(`column ${1 + (cursor % BOARD)}, row ${1 + Math.floor(cursor / BOARD)}: ${on.has(cursor) ? "painted" : "empty"}`);
    if (event.key === " ") finish();
  });
  for (const event of ["focus", "blur"]) canvas.addEventListener(event, draw);
  const clear = button("Clear the board", () => {
    on.clear();
    draw();
    say("The board is empty: paint a cell first.");
  });
  place.append(html("p", "", "Paint what the model shall learn:"), canvas, clear);
  return { place, draw };
}
