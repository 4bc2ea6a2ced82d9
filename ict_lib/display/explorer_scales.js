// Pure functions of the Explorer: indexing, scales and ticks. Held to numpy by tests/test_display_explorer.py.

// All arrays of a model as one block. Copied, because a view from the network may start at any byte.
export function bytesOf(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}

// The values that a reference of the specification points to.
export function unpack(buffer, { kind, offset, shape }) {
  const count = shape.reduce((product, n) => product * n, 1);
  return new (kind === "u1" ? Uint8Array : Float32Array)(buffer, offset, count);
}

// Where the block of one slider position starts, and how long it is. An axis of length 1 ignores its slider.
export function blockAt(shape, index) {
  const length = shape.slice(index.length).reduce((product, n) => product * n, 1);
  const row = index.reduce((start, i, axis) => start * shape[axis] + (shape[axis] === 1 ? 0 : i), 0);
  return [row * length, length];
}

export function valuesAt(buffer, reference, index) {
  const [start, length] = blockAt(reference.shape, index);
  return unpack(buffer, reference).subarray(start, start + length);
}

// A function from data to pixels: low lands on a, high on b.
export function projection([low, high], scale, a, b) {
  const f = scale === "log" ? Math.log : (value) => value;
  const slope = (b - a) / (f(high) - f(low));
  return (value) => a + (f(value) - f(low)) * slope;
}

// Round values within [low, high], about `most` of them, each with its text.
export function ticks([low, high], scale, most) {
  if (scale === "log") {
    const found = logTicks(low, high, most);
    if (found.length >= 2) return found;
  }
  return linearTicks(low, high, scale === "count" ? Math.min(most, Math.ceil(high - low)) : most);
}

function linearTicks(low, high, most) {
  const rough = (high - low) / Math.max(1, most);
  const power = Math.floor(Math.log10(rough));
  const unit = [1, 2, 5, 10].find((m) => m * 10 ** power >= rough * (1 - 1e-9));
  const exponent = unit === 10 ? power + 1 : power;
  const factor = unit === 10 ? 1 : unit;
  const found = [];
  const first = Math.ceil(low / (factor * 10 ** exponent) - 1e-9);
  const last = Math.floor(high / (factor * 10 ** exponent) + 1e-9);
  for (let k = first; k <= last; k += 1) {
    const value = Number(`${k * factor}e${exponent}`); // exact where a product would not be
    found.push({ value, text: tickText(value, exponent, Math.max(Math.abs(low), Math.abs(high))) });
  }
  return found;
}

function tickText(value, exponent, largest) {
  if (value === 0) return "0";
  let text;
  if (largest >= 1e9 || exponent < -4) text = value.toExponential(Math.max(0, magnitude(value) - exponent));
  else if (exponent >= 5) text = `${value / 1e6}M`;
  else if (largest >= 1e4 && exponent >= 2) text = `${value / 1e3}k`;
  else text = value.toFixed(Math.max(0, -exponent));
  return text.replace("-", "−");
}

function magnitude(value) {
  return Math.floor(Math.log10(Math.abs(value)) + 1e-9);
}

function logTicks(low, high, most) {
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const plain = low >= 0.9e-3 && high <= 1.1e4;
  const found = [];
  if (last - first < 2) { // few powers of ten in sight: 1, 2 and 5 times each
    for (let k = first - 1; k <= last; k += 1) {
      for (const factor of [1, 2, 5]) found.push(logTick(factor, k, true));
    }
    return found.filter(({ value }) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
  }
  const stride = Math.ceil((last - first + 1) / Math.max(2, most));
  for (let k = first; k <= last; k += 1) {
    if ((((k % stride) + stride) % stride) === 0) found.push(logTick(1, k, plain));
  }
  return found;
}

function logTick(factor, power, plain) {
  const value = Number(`${factor}e${power}`);
  const digits = [...String(power)].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("");
  return { value, text: plain ? String(value) : `${factor === 1 ? "" : `${factor}·`}10${digits}` };
}
