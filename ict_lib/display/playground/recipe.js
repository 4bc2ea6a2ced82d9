// One field a design choice, and the ladder, as in ict_lib/recipe.py, but for LPIPS and dropout (none in this network).

export const ICT = {
  weighting: "inverse_gap", // 3.1
  fourier_scale: 0.02, // 3.1
  teacher: "student", // 3.2
  distance: "pseudo_huber", // 3.3
  curriculum: "doubling", // 3.4
  noise_schedule: "lognormal", // 3.5
  s0: null, s1: null, // null takes the curriculum's published value
  mu0: 0.9,
  learning_rate: 2e-3, // of RAdam; in ict_lib a field of the run
};
export const CT = {
  ...ICT, weighting: "uniform", fourier_scale: 16, teacher: "ema", distance: "squared_l2",
  curriculum: "square_root", noise_schedule: "uniform",
};
export const CT_TUNED = { ...CT, s1: 40, mu0: 0.1, learning_rate: 5e-3 };

const RUNGS = {
  weighting: "weighting", fourier_scale: "noise embedding", teacher: "no-EMA teacher", distance: "pseudo-Huber",
  curriculum: "doubling curriculum", noise_schedule: "lognormal noise",
};

// [key in the address, name, recipe]
export const PRESETS = [["CT", "CT, constants as published", CT], ["CT-tuned", "CT, constants tuned here", CT_TUNED]];
let rung = CT;
for (const [field, name] of Object.entries(RUNGS).slice(0, -1)) {
  rung = { ...rung, [field]: ICT[field] };
  PRESETS.push([`plus-${field}`, `CT … + ${name}`, rung]);
}
PRESETS.push(["iCT", "iCT", ICT]);
for (const [field, name] of Object.entries(RUNGS)) { // without the last it is the rung below
  PRESETS.push([`without-${field}`, `iCT without ${name}`, { ...ICT, [field]: CT[field] }]);
}

export const CHOICES = {
  weighting: ["uniform", "inverse_root_gap", "inverse_gap"], distance: ["squared_l2", "l1", "pseudo_huber"],
  teacher: ["ema", "student"], curriculum: ["square_root", "doubling"], noise_schedule: ["uniform", "lognormal"],
};
export const RANGES = { // far around every value that learns; whole numbers for s0 and s1
  fourier_scale: [1e-4, 1000], s0: [2, 1280], s1: [2, 1280], mu0: [0.001, 0.999], learning_rate: [1e-6, 0.1],
};

// Reads a number from `low` to `high`; throws with the rule.
export const number = (name, [low, high], whole = false) => (text) => {
  const value = Number(text);
  const fits = String(text).trim() !== "" && value >= low && value <= high && (!whole || Number.isInteger(value));
  if (!fits) throw new Error(`${name} is ${text}; it must be ${whole ? "a whole number " : ""}from ${low} to ${high}`);
  return value;
};

// The recipe with one field changed; throws with the rule where the value is none. What fits `more` changes may not yet fit.
export function override(recipe, field, value, more = false) {
  if (!Object.hasOwn(ICT, field)) throw new Error(`unknown field ${field}`);
  const choices = CHOICES[field];
  if (choices && !choices.includes(value)) throw new Error(`${field} is ${value}; it must be one of ${choices.join(", ")}`);
  const ends = field === "s0" || field === "s1";
  const read = choices ? value : ends && (value === null || value === "") ? null : number(field, RANGES[field], ends)(value);
  const changed = { ...recipe, [field]: read };
  const { s0, s1 } = changed;
  const [start, end] = changed.curriculum === "doubling" ? [s0 ?? 10, s1 ?? 1280] : [s0 ?? 2, s1 ?? 150];
  if (!more && start > end) throw new Error(`s0 = ${start} is above s1 = ${end}`);
  return changed;
}
