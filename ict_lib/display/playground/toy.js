// Data in the plane, as ict_lib/exact/toy.py draws them: [num, 2] in one Float64Array, standard deviation about 0.5.

export const BOARD = 20; // cells a side of the board that the reader paints, which covers [-1, 1]

function points(num, draw) {
  const drawn = new Float64Array(2 * num);
  for (let i = 0; i < num; i += 1) drawn.set(draw(), 2 * i);
  return drawn;
}

export const TOYS = {
  ring: (num, { uniform, normal }, num_modes = 8, radius = 0.7, std = 0.035) => points(num, () => {
    const angle = Math.floor(uniform() * num_modes) * ((2 * Math.PI) / num_modes);
    return [radius * Math.cos(angle) + std * normal(), radius * Math.sin(angle) + std * normal()];
  }),
  two_moons: (num, { uniform, normal }, std = 0.025) => points(num, () => {
    const angle = uniform() * Math.PI;
    const lower = uniform() < 0.5;
    const x = (lower ? 1 - Math.cos(angle) : Math.cos(angle)) - 0.5;
    const y = (lower ? 0.5 - Math.sin(angle) : Math.sin(angle)) - 0.25;
    return [0.58 * x + std * normal(), 0.58 * y + std * normal()];
  }),
  spiral: (num, { uniform, normal }, std = 0.02) => points(num, () => {
    const radius = Math.sqrt(0.1 ** 2 + uniform() * (0.9 ** 2 - 0.1 ** 2)); // even along an arm of equal turns
    const angle = (3 * Math.PI * (radius - 0.1)) / 0.8;
    return [radius * Math.cos(angle) + std * normal(), radius * Math.sin(angle) + std * normal()];
  }),
  checkerboard: (num, { uniform }, half_width = 0.86) => points(num, () => {
    const row = Math.floor(uniform() * 4);
    const column = 2 * Math.floor(uniform() * 2) + (row % 2);
    return [(column + uniform() - 2) * (half_width / 2), (row + uniform() - 2) * (half_width / 2)];
  }),
};

// Even over the cells that are painted: their numbers, 0 to BOARD^2 - 1, row by row from the top left.
export function painted(num, { uniform }, cells) {
  return points(num, () => {
    const cell = cells[Math.floor(uniform() * cells.length)];
    return [(2 * ((cell % BOARD) + uniform())) / BOARD - 1, 1 - (2 * (Math.floor(cell / BOARD) + uniform())) / BOARD];
  });
}

// The function (num, generator) -> points of a data set's name.
export const data_of = (name, cells) => (name === "painted" ? (num, generator) => painted(num, generator, cells) : TOYS[name]);
