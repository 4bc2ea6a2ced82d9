// A consistency model in the browser: the weights of a safetensors file, the residual MLP of ict_lib/networks/mlp.py, the scalings
// of consistency.py, the samplers of sampling.py and editing.py, and the exact mixture of exact/. Held to PyTorch by
// tests/test_display_live_model.py. A batch is one block of numbers, sample after sample.

const EPSILON = 1e-5; // of torch's LayerNorm

// A number from the 16 bits of its half precision.
export function halfToNumber(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
  return bits >> 15 ? -size : size;
}

// Tensors by name: { shape, values }, of a safetensors file in half precision.
export function readTensors(view) {
  const buffer = view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)));
  const tensors = {};
  delete header.__metadata__;
  for (const [name, { shape, data_offsets: [from, to] }] of Object.entries(header)) {
    const bits = new DataView(buffer, start + from, to - from);
    const values = Float32Array.from({ length: (to - from) / 2 }, (_, i) => halfToNumber(bits.getUint16(2 * i, true)));
    tensors[name] = { shape, values };
  }
  return tensors;
}

// A linear layer, its outputs filled up to a multiple of 4 with rows of zeros.
function linearOf(tensors, name) {
  const [outs, ins] = tensors[`${name}.weight`].shape;
  const rows = 4 * Math.ceil(outs / 4);
  const weight = new Float32Array(rows * ins);
  weight.set(tensors[`${name}.weight`].values);
  const bias = new Float32Array(rows);
  bias.set(tensors[`${name}.bias`].values);
  return { weight, bias, ins, outs, rows };
}

// [num, ins] -> [num, outs]. Two samples and four outputs at a time stay in registers; the last of an odd number goes twice.
function linear({ weight, bias, ins, outs, rows }, x, num) {
  const y = new Float64Array(num * rows);
  for (let b = 0; b < num; b += 2) {
    const [second, p] = [Math.min(b + 1, num - 1), b * ins];
    const q = second * ins;
    for (let o = 0; o < rows; o += 4) {
      const w0 = o * ins, w1 = w0 + ins, w2 = w1 + ins, w3 = w2 + ins;
      let a0 = bias[o], a1 = bias[o + 1], a2 = bias[o + 2], a3 = bias[o + 3];
      let c0 = a0, c1 = a1, c2 = a2, c3 = a3;
      for (let i = 0; i < ins; i += 1) {
        const s = x[p + i], t = x[q + i];
        const v0 = weight[w0 + i], v1 = weight[w1 + i], v2 = weight[w2 + i], v3 = weight[w3 + i];
        a0 += s * v0; a1 += s * v1; a2 += s * v2; a3 += s * v3;
        c0 += t * v0; c1 += t * v1; c2 += t * v2; c3 += t * v3;
      }
      const u = b * rows + o, v = second * rows + o;
      y[u] = a0; y[u + 1] = a1; y[u + 2] = a2; y[u + 3] = a3;
      y[v] = c0; y[v + 1] = c1; y[v + 2] = c2; y[v + 3] = c3;
    }
  }
  if (rows === outs) return y;
  return Float64Array.from({ length: num * outs }, (_, k) => y[Math.floor(k / outs) * rows + (k % outs)]);
}

const silu = (values) => values.map((v) => v / (1 + Math.exp(-v)));

// Each sample to mean 0 and variance 1, then scaled and shifted.
function layerNorm(tensors, name, x, num) {
  const [gain, shift] = [tensors[`${name}.weight`].values, tensors[`${name}.bias`].values];
  const [width, y] = [gain.length, new Float64Array(x.length)];
  for (let b = 0; b < num; b += 1) {
    const row = x.subarray(b * width, (b + 1) * width);
    const mean = row.reduce((sum, v) => sum + v, 0) / width;
    const variance = row.reduce((sum, v) => sum + (v - mean) ** 2, 0) / width;
    const scale = 1 / Math.sqrt(variance + EPSILON);
    for (let i = 0; i < width; i += 1) y[b * width + i] = (row[i] - mean) * scale * gain[i] + shift[i];
  }
  return y;
}

function fourierFeatures(frequencies, cNoise) {
  const angles = Float64Array.from(frequencies, (w) => 2 * Math.PI * cNoise * w);
  return Float64Array.from([...angles.map(Math.sin), ...angles.map(Math.cos)]);
}

// The raw network F of tensors: (x, c_noise, num) -> [num, dims]; one noise level for the whole batch.
function residualMLP(tensors) {
  const layer = (name) => linearOf(tensors, `network.${name}`);
  const blocks = [];
  while (`network.blocks.${blocks.length}.enter.weight` in tensors) {
    const name = `blocks.${blocks.length}`;
    const [enter, condition, leave] = ["enter", "condition", "leave"].map((part) => layer(`${name}.${part}`));
    blocks.push({ norm: `network.${name}.norm`, enter, condition, leave });
  }
  const [embed, first, last] = ["embedding.1", "first", "last"].map(layer);
  return (x, cNoise, num) => {
    const features = fourierFeatures(tensors["network.embedding.0.frequencies"].values, cNoise);
    const emb = silu(linear(embed, features, 1));
    let h = linear(first, x, num);
    for (const { norm, enter, condition, leave } of blocks) {
      const inner = linear(enter, silu(layerNorm(tensors, norm, h, num)), num);
      const told = linear(condition, emb, 1);
      const change = linear(leave, silu(inner.map((v, k) => v + told[k % told.length])), num);
      h = h.map((v, k) => v + change[k]);
    }
    return linear(last, silu(layerNorm(tensors, "network.norm", h, num)), num);
  };
}

export const cSkip = (sigma, sigmaData, sigmaMin) => sigmaData ** 2 / ((sigma - sigmaMin) ** 2 + sigmaData ** 2);
export const cOut = (sigma, sigmaData, sigmaMin) => (sigmaData * (sigma - sigmaMin)) / Math.sqrt(sigma ** 2 + sigmaData ** 2);
export const cIn = (sigma, sigmaData) => 1 / Math.sqrt(sigma ** 2 + sigmaData ** 2);
export const cNoise = (sigma) => Math.log(sigma) / 4;

// f(x, sigma) for a batch at one noise level, with what samplers ask of a model.
export function consistencyModel(view, { sigma_data: sigmaData, sigma_min: sigmaMin }) {
  const tensors = readTensors(view);
  const network = residualMLP(tensors);
  const [, dims] = tensors["network.first.weight"].shape;
  const f = (x, sigma) => {
    const [skip, out, gain] = [cSkip(sigma, sigmaData, sigmaMin), cOut(sigma, sigmaData, sigmaMin), cIn(sigma, sigmaData)];
    const raw = network(Float64Array.from(x, (v) => gain * v), cNoise(sigma), x.length / dims);
    return raw.map((v, i) => skip * x[i] + out * v);
  };
  return { f, dims, sigmaData, sigmaMin };
}

// Seeded random numbers, evenly in [0, 1): mulberry32.
export function uniforms(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

// Standard normal numbers from a source of even ones, by Box and Muller.
export function normals(source, count) {
  return Float64Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(1 - source()));
    return radius * Math.cos(2 * Math.PI * source());
  });
}

// One step: noise of a level is added, and f takes it away; without x the noise is all there is.
export function addStep(model, x, sigma, noise) {
  const spread = x ? Math.sqrt(sigma ** 2 - model.sigmaMin ** 2) : sigma;
  return model.f(noise.map((z, i) => (x ? x[i] : 0) + spread * z), sigma);
}

// sampling.sample: denoise pure noise, then add noise and denoise again for each further level; one block of noise a level.
export function sample(model, sigmas, noises) {
  return sigmas.reduce((x, sigma, n) => addStep(model, x, sigma, noises[n]), null);
}

// editing.inpaint: the known pixels are put back after each level.
export function inpaint(model, images, known, sigmas, noises) {
  const restore = (x) => x.map((v, i) => (known[i] ? images[i] : v));
  const first = restore(new Float64Array(images.length));
  const start = restore(model.f(noises[0].map((z, i) => first[i] + sigmas[0] * z), sigmas[0]));
  return sigmas.slice(1).reduce((x, sigma, n) => restore(addStep(model, x, sigma, noises[n + 1])), start);
}

// grid.karras_sigmas
export function karrasSigmas(numScales, sigmaMin = 0.002, sigmaMax = 80, rho = 7) {
  const [low, high] = [sigmaMin ** (1 / rho), sigmaMax ** (1 / rho)];
  return Array.from({ length: numScales }, (_, i) => (low + (i / (numScales - 1)) * (high - low)) ** rho);
}

// exact/mixture.py, one point at a time: the mean of the clean points that x may come from.
export function denoiser({ weights, means, stds }, x, sigma) {
  const variances = stds.map((s) => s ** 2 + sigma ** 2);
  const logs = means.map((m, j) => {
    const square = m.reduce((sum, v, i) => sum + (x[i] - v) ** 2, 0);
    return Math.log(weights[j]) - (x.length / 2) * Math.log(variances[j]) - square / (2 * variances[j]);
  });
  const most = Math.max(...logs);
  const shares = logs.map((v) => Math.exp(v - most));
  const total = shares.reduce((sum, v) => sum + v, 0);
  const mean = x.map(() => 0);
  shares.forEach((share, j) => mean.forEach((_, i) => {
    mean[i] += (share / total) * ((stds[j] ** 2 * x[i] + sigma ** 2 * means[j][i]) / variances[j]);
  }));
  return mean;
}

// The probability-flow ODE from one level to another, dx / d ln(sigma) = x - D(x, sigma), by Runge and Kutta's fourth order.
export function flow(mixture, x, from, to, stride = 0.02) {
  const count = Math.max(1, Math.ceil(Math.abs(Math.log(to / from)) / stride));
  const h = Math.log(to / from) / count;
  const slope = (point, time) => {
    const mean = denoiser(mixture, point, Math.exp(time));
    return point.map((v, i) => v - mean[i]);
  };
  let [point, time] = [[...x], Math.log(from)];
  for (let n = 0; n < count; n += 1, time += h) {
    const after = (k, share) => point.map((v, i) => v + share * h * k[i]);
    const k1 = slope(point, time), k2 = slope(after(k1, 0.5), time + h / 2);
    const k3 = slope(after(k2, 0.5), time + h / 2), k4 = slope(after(k3, 1), time + h);
    point = point.map((v, i) => v + (h / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
  }
  return point;
}
