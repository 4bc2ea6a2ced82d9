// The training step and the loop around it, as ict_lib/training/step.py has them.

import { ConsistencyModel, SIGMA_MAX, sample } from "./consistency.js";
import { even_lines, quantiles, sliced_wasserstein } from "./distances.js";
import { consistency_training_loss, draw_batch } from "./objective.js";
import { REFERENCE, SAMPLES, WEIGHTS, stream } from "./random.js";
import { ema_decay, ema_update, num_scales_at } from "./techniques.js";
import { data_of } from "./toy.js";

export const SIGMA_MID = 0.8; // noise level of the second step
export const MEASUREMENTS = 20; // of the distance, evenly over a training
const NUM_SAMPLES = 4000; // of a model for each measurement; of the data four times as many
const LINES = even_lines();

// Rectified Adam, as torch.optim.RAdam computes it with its defaults.
export class RAdam {
  constructor(num, learning_rate) {
    Object.assign(this, { learning_rate, step_count: 0, mean: new Float64Array(num), square: new Float64Array(num) });
  }

  step(weights, gradient) {
    const { mean, square } = this;
    const t = (this.step_count += 1);
    const [first, second] = [1 - 0.9 ** t, 1 - 0.999 ** t];
    const most = 2 / (1 - 0.999) - 1;
    const rho = most - (2 * t * 0.999 ** t) / second;
    const rectified = rho > 5;
    const rate = rectified
      ? Math.sqrt((((rho - 4) * (rho - 2) * most) / ((most - 4) * (most - 2) * rho)) * second) : 1;
    const size = (this.learning_rate * rate) / first;
    for (let i = 0; i < weights.length; i += 1) {
      const g = gradient[i];
      mean[i] += 0.1 * (g - mean[i]);
      square[i] += 0.001 * (g * g - square[i]);
      weights[i] -= rectified ? (size * mean[i]) / (Math.sqrt(square[i]) + 1e-8) : size * mean[i];
    }
  }
}

// All that a training step changes. Every model starts from the same weights and frequencies.
export class Learner {
  constructor(recipe, seed) {
    const make = () => new ConsistencyModel(recipe.fourier_scale, stream(seed, WEIGHTS));
    this.recipe = recipe;
    this.student = make();
    this.teacher = recipe.teacher === "student" ? this.student : make();
    this.average = make(); // what is sampled
    this.optimizer = new RAdam(this.student.network.weights.length, recipe.learning_rate);
  }
}

export const average_decay = (step) => Math.min(0.999, (1 + step) / (10 + step));

export function training_step(learner, batch, step, total_steps) {
  const { student, teacher, average, optimizer, recipe } = learner;
  const output = consistency_training_loss(student, teacher, batch, recipe, step, total_steps, learner.pairs);
  learner.pairs = output.pairs;
  const { weights, gradient } = student.network;
  optimizer.step(weights, gradient);
  if (teacher !== student) {
    const decay = ema_decay(output.num_scales, num_scales_at(recipe, 0, 1), recipe.mu0);
    ema_update(teacher.network.weights, weights, decay);
  }
  ema_update(average.network.weights, weights, average_decay(step));
  return output;
}

// The model of a snapshot, to sample from.
export function model_of({ recipe, seed, weights }) {
  const model = new ConsistencyModel(recipe.fourier_scale, stream(seed, WEIGHTS));
  model.network.weights.set(weights);
  return model;
}

// One and two-step samples, [num, 2] each; the same noise for every model of a seed.
export const draw_samples = (model, num, seed) => sample(model, num, [SIGMA_MAX, SIGMA_MID], stream(seed, SAMPLES));

// The data, what samples of it are compared with, and what fresh data have as distance: the floor.
export function yardstick(data) {
  const generator = stream(0, REFERENCE);
  const reference = quantiles(data(4 * NUM_SAMPLES, generator), LINES);
  const fresh = Array.from({ length: 3 }, () => quantiles(data(NUM_SAMPLES, generator), LINES));
  const floor = fresh.reduce((sum, one) => sum + sliced_wasserstein(one, reference) / fresh.length, 0);
  return { reference, floor };
}

export class Training {
  // run: { recipe, data, cells, seed, total_steps }
  constructor(run) {
    Object.assign(this, { run, step: 0, data: data_of(run.data, run.cells), learner: new Learner(run.recipe, run.seed) });
    Object.assign(this, { losses: [], distances: [] }); // [step, mean since the last]; [step, one step, two steps]
    this.yardstick = yardstick(this.data);
    this.sum = { loss: 0, steps: 0 };
    this.measure();
  }

  measure() {
    const { reference } = this.yardstick;
    const drawn = draw_samples(this.learner.average, NUM_SAMPLES, this.run.seed);
    this.distances.push([this.step, ...drawn.map((x) => sliced_wasserstein(quantiles(x, LINES), reference))]);
  }

  // Takes one step; gives what happened in it.
  advance() {
    const { seed, total_steps } = this.run;
    const batch = draw_batch(this.data, stream(seed, this.step));
    const output = training_step(this.learner, batch, this.step, total_steps);
    this.step += 1;
    this.sum.loss += output.loss;
    this.sum.steps += 1;
    const due = (times) => Math.floor((this.step * times) / total_steps) > Math.floor(((this.step - 1) * times) / total_steps);
    if (due(5 * MEASUREMENTS)) {
      this.losses.push([this.step, this.sum.loss / this.sum.steps]);
      this.sum = { loss: 0, steps: 0 };
    }
    if (due(MEASUREMENTS)) this.measure();
    this.last = { ...output, batch };
    return this.last;
  }

  // Everything that is drawn, saved or embedded; `weights` are those of the average.
  snapshot() {
    const { run, step, losses, distances, yardstick: { floor } } = this;
    return { ...run, step, losses, distances, floor, weights: this.learner.average.network.weights.slice() };
  }
}
