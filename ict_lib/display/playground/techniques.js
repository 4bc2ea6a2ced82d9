// The paper's techniques, as ict_lib/techniques has them: one object each, its alternatives by name.

// 3.1: how much each pair of neighbouring levels counts, [N] -> [N - 1].
export const weighting = {
  uniform: (sigmas) => new Float64Array(sigmas.length - 1).fill(1),
  inverse_root_gap: (sigmas) => pairwise(sigmas, (lo, hi) => (hi - lo) ** -0.5),
  inverse_gap: (sigmas) => pairwise(sigmas, (lo, hi) => 1 / (hi - lo)),
};

// 3.1: how finely the network is told the noise level, c_noise -> [2 * frequencies.length].
export function fourier_features(c_noise, frequencies) {
  const angles = frequencies.map((w) => 2 * Math.PI * c_noise * w);
  return Float64Array.of(...angles.map(Math.sin), ...angles.map(Math.cos));
}

// 3.2: decay of CT's teacher, exp(s0 ln mu0 / N), s0 being N at the start.
export const ema_decay = (num_scales, s0, mu0) => Math.exp((s0 * Math.log(mu0)) / num_scales);

// average <- decay * average + (1 - decay) * model
export function ema_update(average, model, decay) {
  for (let i = 0; i < model.length; i += 1) average[i] += (1 - decay) * (model[i] - average[i]);
}

// 3.3: how far two outputs are apart, from the difference of their two coordinates; and its gradient in them.
export const huber_c = (num_dims) => 0.00054 * Math.sqrt(num_dims);
export const distance = {
  squared_l2: (u, v) => [u * u + v * v, 2 * u, 2 * v],
  l1: (u, v) => [Math.abs(u) + Math.abs(v), Math.sign(u), Math.sign(v)],
  pseudo_huber(u, v, c = huber_c(2)) {
    const n = u * u + v * v;
    const root = Math.sqrt(n + c * c);
    return [n / (root + c), u / root, v / root];
  },
};

// 3.4: how the number of levels N grows.
export const curriculum = {
  square_root(step, total_steps, s0 = 2, s1 = 150) {
    const squared = s0 ** 2 + Math.ceil((step * ((s1 + 1) ** 2 - s0 ** 2)) / total_steps);
    return Math.floor(Math.sqrt(squared - 1)) + 1;
  },
  doubling(step, total_steps, s0 = 10, s1 = 1280) {
    const stages = Math.log2(Math.floor(s1 / s0)) + 1;
    const stage_steps = Math.max(1, Math.floor(total_steps / stages));
    return Math.min(s0 * 2 ** Math.floor(step / stage_steps), s1) + 1;
  },
};
export function num_scales_at(recipe, step, total_steps) {
  return curriculum[recipe.curriculum](step, total_steps, recipe.s0 ?? undefined, recipe.s1 ?? undefined);
}

// 3.5: which pairs are trained on, and how often: probabilities, [N] -> [N - 1].
export const noise_schedule = {
  uniform: (sigmas) => new Float64Array(sigmas.length - 1).fill(1 / (sigmas.length - 1)),
  lognormal(sigmas, p_mean = -1.1, p_std = 2) {
    const at = sigmas.map((sigma) => erf((Math.log(sigma) - p_mean) / (Math.SQRT2 * p_std)));
    const mass = pairwise(at, (lo, hi) => hi - lo);
    const sum = mass.reduce((total, one) => total + one, 0);
    return mass.map((one) => one / sum);
  },
};

function pairwise(values, f) {
  return Float64Array.from({ length: values.length - 1 }, (_, i) => f(values[i], values[i + 1]));
}

// erf(x) = 2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n + 1) / (1 * 3 * ... * (2n + 1)): all terms have one sign.
export function erf(x) {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n += 1) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
