// Slow motion: the parts of one training step, in the order of the code, with what each of them gave.

import { add } from "./controls.js";

const two = (values, i = 0) => `(${[values[2 * i], values[2 * i + 1]].map((v) => v.toPrecision(2)).join(", ")})`;
const short = (value) => Number(value.toPrecision(3)).toString();

// [line of the code, technique, what it gave to the first point of the batch]
const PARTS = [
  ["num_scales = num_scales_at(recipe, step, total_steps)", "3.4 curriculum", ({ last }) => `N = ${last.num_scales}`],
  ["pairs = levels(recipe, num_scales)", "3.1 weighting, 3.5 noise schedule", ({ last }) => `${last.num_scales - 1} pairs`],
  ["index = pick(pairs.pmf)", "a pair of levels", ({ last: { first } }) => `pair ${first.pair}: σ ${short(first.low)}, ${short(first.high)}`],
  ["noise = normal()", "the same for both", ({ last: { first } }) => two(first.noise)],
  ["target = teacher(x + lo * noise, lo)", "3.2 teacher, 3.1 embedding", ({ last }) => two(last.target)],
  ["output = student(x + hi * noise, hi)", "3.1 embedding", ({ last }) => two(last.output)],
  ["apart = distance(output, target)", "3.3 distance", ({ last: { first } }) => short(first.loss / first.weight)],
  ["loss = mean(pairs.weight[index] * apart)", "3.1 weighting", ({ last }) => short(last.loss)],
  ["optimizer.step(student)", "RAdam, along the gradient", () => "weights moved"],
  ["ema_update(teacher, student)", "3.2 teacher", ({ recipe }) => (recipe.teacher === "ema" ? "follows" : "is the student")],
  ["ema_update(average, student)", "what is sampled", ({ step }) => `step ${step} done`],
];
export const NUM_PARTS = PARTS.length;

// A list that lights up one part; the two columns are the two runs.
export function buildSlow() {
  const rows = PARTS.map(([code, technique]) => {
    const values = [html("span", "ict-left"), html("span", "ict-right")];
    return { values, place: add(html("li"), html("code", "", code), html("em", "", technique), ...values) };
  });
  const what = html("p", "", "One training step, in the order of the code; the values are those of the first point of the batch, left and right.");
  const place = add(html("div", "ict-slow"), what, ...group("ol", "ict-parts", rows));
  const show = (part, snapshots) => rows.forEach(({ place: row, values }, i) => {
    row.toggleAttribute("aria-current", i === part);
    if (i === part) row.setAttribute("aria-current", "step");
    values.forEach((value, side) => { value.textContent = i <= part ? PARTS[i][2](snapshots[side]) : ""; });
  });
  return { place, show };
}
