// The raw network F(x, c_noise): a plain MLP, forward and backward by hand. In PyTorch: network.py, beside this file.

import { fourier_features } from "./techniques.js";
import { normals } from "./random.js";

export const BATCH = 64; // rows of one pass
export const WIDTH = 32;
export const FEATURES = 16; // Fourier features of the noise level, beside the two coordinates
const PADDED = 20; // 2 + FEATURES, and two zeros: the kernel works on multiples of 4
export const SIZES = [PADDED, WIDTH, WIDTH, WIDTH, 4]; // of the last four outputs two are used

// out = a b: [rows, depth] times [depth, columns], in blocks of 2 by 4 that stay in registers; `| 0` keeps indices whole.
export function multiply(out, a, b, rows, depth, columns) {
  for (let r = 0; r < rows; r = (r + 2) | 0) {
    for (let c = 0; c < columns; c = (c + 4) | 0) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
      const end = Math.imul(r + 1, depth);
      for (let i = (end - depth) | 0, h = end, j = c; i < end; i = (i + 1) | 0, h = (h + 1) | 0, j = (j + columns) | 0) {
        const u = a[i], v = a[h];
        const b0 = b[j], b1 = b[(j + 1) | 0], b2 = b[(j + 2) | 0], b3 = b[(j + 3) | 0];
        s0 += u * b0; s1 += u * b1; s2 += u * b2; s3 += u * b3;
        t0 += v * b0; t1 += v * b1; t2 += v * b2; t3 += v * b3;
      }
      const o = (Math.imul(r, columns) + c) | 0, q = (o + columns) | 0;
      out[o] = s0; out[o + 1] = s1; out[o + 2] = s2; out[o + 3] = s3;
      out[q] = t0; out[q + 1] = t1; out[q + 2] = t2; out[q + 3] = t3;
    }
  }
}

// out = a turned on its side: [rows, columns] to [columns, rows].
function transpose(out, a, rows, columns) {
  for (let r = 0; r < rows; r += 1) for (let c = 0; c < columns; c += 1) out[c * rows + r] = a[r * columns + c];
  return out;
}

// Views of one flat array: weight [out, in] and bias [out] of each layer.
function layers_of(flat) {
  let at = 0;
  return SIZES.slice(1).map((outs, l) => {
    const ins = SIZES[l];
    const weight = flat.subarray(at, at + outs * ins);
    const bias = flat.subarray(at + outs * ins, at + outs * ins + outs);
    at += outs * ins + outs;
    return { weight, bias, ins, outs };
  });
}
const NUM_WEIGHTS = SIZES.slice(1).reduce((sum, outs, l) => sum + outs * (SIZES[l] + 1), 0);

export class PlainMLP {
  // Weights are drawn normally, with standard deviation 1 / sqrt(inputs); biases and the last layer start at zero.
  constructor(fourier_scale, generator) {
    this.frequencies = normals(FEATURES / 2, generator).map((one) => fourier_scale * one);
    this.weights = new Float64Array(NUM_WEIGHTS);
    this.gradient = new Float64Array(NUM_WEIGHTS);
    this.layers = layers_of(this.weights);
    this.gradients = layers_of(this.gradient);
    for (const { weight, ins } of this.layers.slice(0, -1)) {
      const used = ins === PADDED ? FEATURES + 2 : ins;
      for (let i = 0; i < weight.length; i += 1) if (i % ins < used) weight[i] = generator.normal() / Math.sqrt(used);
    }
    this.turned = new Float64Array(BATCH * WIDTH); // room for a matrix that is transposed
    this.h = SIZES.map((size) => new Float64Array(BATCH * size)); // the input, then the output of each layer
    this.slope = SIZES.map((size) => new Float64Array(BATCH * size)); // of SiLU
    this.d = SIZES.map((size) => new Float64Array(BATCH * size)); // gradient in h
  }

  features(c_noise) {
    return fourier_features(c_noise, this.frequencies);
  }

  // From h[0], [BATCH, PADDED], to the last h, [BATCH, 4].
  forward() {
    const num = this.layers.length;
    for (let l = 0; l < num; l += 1) {
      const { weight, bias, ins, outs } = this.layers[l];
      multiply(this.h[l + 1], this.h[l], transpose(this.turned, weight, outs, ins), BATCH, ins, outs);
      activate(this.h[l + 1], this.slope[l + 1], bias, l < num - 1);
    }
    return this.h[num];
  }

  // From the gradient in the outputs, d of the last layer, to `gradient`, after forward().
  backward() {
    for (let l = this.layers.length - 1; l >= 0; l -= 1) {
      const { weight, ins, outs } = this.layers[l];
      const d = this.d[l + 1];
      multiply(this.gradients[l].weight, transpose(this.turned, d, BATCH, outs), this.h[l], outs, BATCH, ins);
      const bias = this.gradients[l].bias.fill(0);
      for (let i = 0; i < d.length;) for (let o = 0; o < outs; o += 1, i += 1) bias[o] += d[i];
      if (l === 0) return;
      multiply(this.d[l], d, weight, BATCH, outs, ins);
      for (let i = 0; i < this.d[l].length; i += 1) this.d[l][i] *= this.slope[l][i];
    }
  }
}

// Adds the bias and, within the network, applies SiLU(z) = z / (1 + exp(-z)) in place; keeps its slope.
function activate(z, slope, bias, within) {
  for (let i = 0; i < z.length;) {
    for (let o = 0; o < bias.length; o += 1, i += 1) {
      const value = z[i] + bias[o];
      const gate = within ? 1 / (1 + Math.exp(-value)) : 1;
      z[i] = value * gate;
      slope[i] = gate + z[i] * (1 - gate);
    }
  }
}
