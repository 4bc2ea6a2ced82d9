// Randomness as a function: what is drawn depends on seed and step alone, not on what was drawn before.

export const WEIGHTS = 2 ** 31; // a number that no step has: the stream of the initial weights
export const [SAMPLES, REFERENCE] = [WEIGHTS + 1, WEIGHTS + 2]; // of the noise of samples, and of the data they are compared with

function mixed(h) { // the finisher of MurmurHash3: every bit of the result depends on every bit of h
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

// The source of all random numbers of one step: uniform() in (0, 1), normal(). The generator is Chris Doty-Humphrey's sfc32.
export function stream(seed, step) {
  let a = mixed(seed ^ 0x9e3779b9);
  let b = mixed(step ^ a);
  let c = mixed(a ^ b);
  let counter = 1;
  let spare = NaN;
  const next = () => {
    const result = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + result) | 0;
    return result;
  };
  for (let i = 0; i < 12; i += 1) next();
  const uniform = () => ((next() >>> 0) + 0.5) / 2 ** 32;
  const normal = () => { // Box and Muller: two at a time
    const kept = spare;
    spare = NaN;
    if (!Number.isNaN(kept)) return kept;
    const [radius, angle] = [Math.sqrt(-2 * Math.log(uniform())), 2 * Math.PI * uniform()];
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
  return { uniform, normal };
}

export const normals = (num, generator) => Float64Array.from({ length: num }, generator.normal);
