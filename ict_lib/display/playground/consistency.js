// The parametrisation and sampling, as ict_lib/consistency.py and ict_lib/sampling.py have them.

import { BATCH, FEATURES, PlainMLP } from "./network.js";
import { normals } from "./random.js";

export const SIGMA_DATA = 0.5;
export const SIGMA_MIN = 0.002;
export const SIGMA_MAX = 80;

export const c_skip = (sigma) => SIGMA_DATA ** 2 / ((sigma - SIGMA_MIN) ** 2 + SIGMA_DATA ** 2);
export const c_out = (sigma) => (SIGMA_DATA * (sigma - SIGMA_MIN)) / Math.sqrt(sigma ** 2 + SIGMA_DATA ** 2);
export const c_in = (sigma) => 1 / Math.sqrt(sigma ** 2 + SIGMA_DATA ** 2);
export const c_noise = (sigma) => Math.log(sigma) / 4;

// What a network is told of each level, computed once: the scalings [levels], and the features [levels, FEATURES].
export function scalings(network, sigmas) {
  const features = new Float64Array(sigmas.length * FEATURES);
  sigmas.forEach((sigma, i) => features.set(network.features(c_noise(sigma)), i * FEATURES));
  return { skip: sigmas.map(c_skip), out: sigmas.map(c_out), scale: sigmas.map(c_in), features };
}

export class ConsistencyModel {
  constructor(fourier_scale, generator) {
    this.network = new PlainMLP(fourier_scale, generator);
  }

  // f(x, sigma) = c_skip x + c_out F(c_in x, c_noise) of x, [BATCH, 2]; row r is at level index[r] of `table`.
  forward(x, table, index, result) {
    const { network } = this;
    const input = network.h[0];
    const ins = input.length / BATCH;
    for (let r = 0; r < BATCH; r += 1) {
      const i = index[r];
      input[r * ins] = table.scale[i] * x[2 * r];
      input[r * ins + 1] = table.scale[i] * x[2 * r + 1];
      for (let f = 0; f < FEATURES; f += 1) input[r * ins + 2 + f] = table.features[i * FEATURES + f];
    }
    const raw = network.forward();
    for (let r = 0; r < BATCH; r += 1) {
      const i = index[r];
      result[2 * r] = table.skip[i] * x[2 * r] + table.out[i] * raw[4 * r];
      result[2 * r + 1] = table.skip[i] * x[2 * r + 1] + table.out[i] * raw[4 * r + 1];
    }
    return result;
  }

  // The gradient in the weights from that in the result of forward(), [BATCH, 2].
  backward(gradient, table, index) {
    const d = this.network.d[this.network.d.length - 1].fill(0);
    for (let r = 0; r < BATCH; r += 1) {
      d[4 * r] = table.out[index[r]] * gradient[2 * r];
      d[4 * r + 1] = table.out[index[r]] * gradient[2 * r + 1];
    }
    this.network.backward();
  }

  // f of any number of points at one level.
  at(x, sigma) {
    const table = scalings(this.network, Float64Array.of(sigma));
    const index = new Int32Array(BATCH);
    const [result, input, output] = [x.length, 2 * BATCH, 2 * BATCH].map((size) => new Float64Array(size));
    for (let start = 0; start < x.length; start += 2 * BATCH) {
      const part = x.subarray(start, start + 2 * BATCH);
      input.set(part);
      result.set(this.forward(input, table, index, output).subarray(0, part.length), start);
    }
    return result;
  }
}

// Samples after each of the steps at the falling levels `sigmas`: a list of [num, 2].
export function sample(model, num, sigmas, generator) {
  const after = [];
  sigmas.forEach((sigma, i) => {
    const spread = i === 0 ? sigma : Math.sqrt(sigma ** 2 - SIGMA_MIN ** 2);
    const noise = normals(2 * num, generator);
    after.push(model.at(noise.map((z, j) => (i === 0 ? 0 : after[i - 1][j]) + spread * z), sigma));
  });
  return after;
}
