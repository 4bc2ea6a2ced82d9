// The raw network F(x, c_noise): a plain MLP, forward and backward by hand. In PyTorch: network.py, beside this file.

import { fourier_features } from "./techniques.js";
import { normals } from "./random.js";

export const BATCH = 64; // rows of one pass
export const WIDTH = 32;
export const FEATURES = 16; // Fourier features of the noise level, beside the two coordinates
const PADDED = 20; // 2 + FEATURES, and two zeros: the kernel works on multiples of 4
export const SIZES = [PADDED, WIDTH, WIDTH, WIDTH, 4]; // of the last four outputs two are used

// out[r, c] = sum over k of a[r * ar + k * ak] * b[c * bc + k * bk], in blocks of 2 by 4 that stay in registers.
export function multiply(out, rows, columns, depth, a, ar, ak, b, bc, bk) {
  const [bc2, bc3] = [2 * bc, 3 * bc];
  for (let r = 0; r < rows; r += 2) {
    for (let c = 0; c < columns; c += 4) {
      let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
      for (let k = 0, i = r * ar, j = c * bc; k < depth; k += 1, i += ak, j += bk) {
        const u = a[i], v = a[i + ar];
        const b0 = b[j], b1 = b[j + bc], b2 = b[j + bc2], b3 = b[j + bc3];
        s0 += u * b0; s1 += u * b1; s2 += u * b2; s3 += u * b3;
        t0 += v * b0; t1 += v * b1; t2 += v * b2; t3 += v * b3;
      }
      const o = r * columns + c;
      out[o] = s0; out[o + 1] = s1; out[o + 2] = s2; out[o + 3] = s3;
      const q = o + columns;
      out[q] = t0; out[q + 1] = t1; out[q + 2] = t2; out[q + 3] = t3;
    }
  }
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
    this.h = SIZES.map((size) => new Float64Array(BATCH * size)); // the input, then the output of each layer
    this.slope = SIZES.map((size) => new Float64Array(BATCH * size)); // of SiLU
    this.d = SIZES.map((size) => new Float64Array(BATCH * size)); // gradient in h
  }

  features(c_noise) {
    return fourier_features(c_noise, this.frequencies);
  }

  // From h[0], [BATCH, PADDED], to the last h, [BATCH, 4].
  forward() {
    const last = this.layers.length - 1;
    this.layers.forEach(({ weight, bias, ins, outs }, l) => {
      const out = this.h[l + 1];
      multiply(out, BATCH, outs, ins, this.h[l], ins, 1, weight, ins, 1);
      activate(out, this.slope[l + 1], bias, l < last);
    });
    return this.h[last + 1];
  }

  // From the gradient in the outputs, d of the last layer, to `gradient`, after forward().
  backward() {
    for (let l = this.layers.length - 1; l >= 0; l -= 1) {
      const { weight, ins, outs } = this.layers[l];
      const d = this.d[l + 1];
      multiply(this.gradients[l].weight, outs, ins, BATCH, d, 1, outs, this.h[l], 1, ins);
      const bias = this.gradients[l].bias.fill(0);
      for (let i = 0; i < d.length;) for (let o = 0; o < outs; o += 1, i += 1) bias[o] += d[i];
      if (l === 0) return;
      multiply(this.d[l], BATCH, ins, outs, d, outs, 1, weight, 1, ins);
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
