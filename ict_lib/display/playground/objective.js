// The training objective, as ict_lib/objective.py has it: every technique is called here, by the name that a recipe gives.

import { BATCH } from "./network.js";
import { scalings } from "./consistency.js";
import { karras_sigmas } from "./grid.js";
import { distance, noise_schedule, num_scales_at, weighting } from "./techniques.js";

// The pairs of levels at one N: scalings, weight [N - 1], pmf [N - 1] and its running sum. Stored as float32, as in Python.
export function levels(network, recipe, num_scales) {
  const exact = karras_sigmas(num_scales);
  const sigmas = exact.map(Math.fround);
  const weight = weighting[recipe.weighting](exact).map(Math.fround);
  const pmf = noise_schedule[recipe.noise_schedule](exact);
  let sum = 0;
  const below = pmf.map((one) => (sum += one));
  return { num_scales, sigmas, weight, pmf, below, table: scalings(network, sigmas) };
}

// The pair that a uniform number draws: the first whose running sum exceeds it.
export function pick(below, uniform) {
  let [low, high] = [0, below.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (below[middle] > uniform) high = middle;
    else low = middle + 1;
  }
  return low;
}

// What one training step draws: clean points x, noise, [BATCH, 2], and a uniform number a row, which picks its pair.
export function draw_batch(data, generator) {
  const uniform = Float64Array.from({ length: BATCH }, generator.uniform);
  const noise = Float64Array.from({ length: 2 * BATCH }, generator.normal);
  return { uniform, noise, x: data(BATCH, generator) };
}

function noised(x, noise, sigmas, index) {
  const found = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += 1) found[i] = x[i] + sigmas[index[i >> 1]] * noise[i];
  return found;
}

// Ask the student at the higher of two neighbouring levels to agree with the teacher at the lower one.
// Leaves the gradient in student.network.gradient. `known` are the levels of an earlier step, if N is still the same.
export function consistency_training_loss(student, teacher, { x, noise, uniform }, recipe, step, total_steps, known) {
  const num_scales = num_scales_at(recipe, step, total_steps); // 3.4: curriculum
  const pairs = known?.num_scales === num_scales ? known : levels(student.network, recipe, num_scales); // 3.1: weighting, 3.5: noise schedule
  const lo = Int32Array.from(uniform, (one) => pick(pairs.below, one));
  const hi = lo.map((i) => i + 1);

  // 3.2: teacher, without gradient; it goes first, so that the student's activations are there for its gradient.
  const target = teacher.forward(noised(x, noise, pairs.sigmas, lo), pairs.table, lo, new Float64Array(2 * BATCH));
  const output = student.forward(noised(x, noise, pairs.sigmas, hi), pairs.table, hi, new Float64Array(2 * BATCH));

  const gradient = new Float64Array(2 * BATCH); // in the output
  const per_sample = new Float64Array(BATCH);
  const apart = distance[recipe.distance]; // 3.3: distance
  let loss = 0;
  for (let r = 0; r < BATCH; r += 1) {
    const [far, du, dv] = apart(output[2 * r] - target[2 * r], output[2 * r + 1] - target[2 * r + 1]);
    const weight = pairs.weight[lo[r]];
    per_sample[r] = weight * far;
    loss += per_sample[r] / BATCH;
    gradient[2 * r] = (weight * du) / BATCH;
    gradient[2 * r + 1] = (weight * dv) / BATCH;
  }
  student.backward(gradient, pairs.table, hi);
  return { loss, per_sample, target, output, lo, pairs, num_scales };
}
