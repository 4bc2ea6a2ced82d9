// Shows a live model: three views, each with what it computes at every change. What draws and what computes stands in front of
// this file (see live_model.py).

const FAINT = 5, FIRST = 0, SECOND = 1, THIRD = 2; // colours of the palette
const short = (value) => value.toPrecision(3);

// What buildSlider asks of a model, kept here alone.
function keep(index, changed) {
  return { get: () => index, set: (_, value) => { index = value; changed(); }, save_changes() {} };
}

function button(text, act) {
  const place = Object.assign(html("button", "ict-button", text), { type: "button" });
  place.addEventListener("click", act);
  return place;
}

function readout(label) {
  const place = html("div", "ict-readout");
  const value = html("strong");
  place.append(html("span", "", label), value);
  return { place, say: (text) => { value.textContent = text; }, told: () => `${label} ${value.textContent}` };
}

// A sheet of grey images, a pixel apart; -1 is black and 1 is white.
function buildSheet(title, rows, columns, [, height, width]) {
  const place = html("div", "ict-panel ict-panel-image");
  const size = { width: columns * (width + 1) - 1, height: rows * (height + 1) - 1 };
  const canvas = Object.assign(html("canvas", "ict-sheet"), size);
  canvas.setAttribute("role", "img");
  place.append(html("div", "ict-title", title), canvas);
  const draw = (images, label) => {
    const context = canvas.getContext("2d");
    for (let n = 0; n < rows * columns; n += 1) {
      const shown = context.createImageData(width, height);
      for (let i = 0; i < width * height; i += 1) {
        const grey = 127.5 * (1 + images[n * width * height + i]);
        shown.data.set([grey, grey, grey, 255], 4 * i);
      }
      context.putImageData(shown, (n % columns) * (width + 1), Math.floor(n / columns) * (height + 1));
    }
    canvas.setAttribute("aria-label", `${title}: ${label}`);
  };
  return { place, draw };
}

const pixelsOf = ([, height, width]) => height * width;

// Images from noise in one step, and in two from the same noise.
function sheetView(live, spec, later) {
  const [rows, columns, middle] = [5, 5, 30];
  const levels = Array.from({ length: 61 }, (_, i) => spec.sigma_mid * 10 ** ((i - middle) / 20));
  const count = rows * columns * pixelsOf(spec.shape);
  let [seed, drawn] = [1, null];
  const index = keep([middle], later);
  const slider = buildSlider({ label: "σ of the second step", text: levels.map(short) }, 0, index);
  const titles = ["Noise", "One step", "Two steps"];
  const sheets = titles.map((title) => buildSheet(title, rows, columns, spec.shape));
  const number = readout("noise number");
  const draw = () => {
    if (drawn?.seed !== seed) {
      const source = uniforms(seed);
      const noises = [normals(source, count), normals(source, count)];
      drawn = { seed, noises, once: sample(live, [spec.sigma_max], noises) };
    }
    const level = levels[index.get()[0]];
    const twice = addStep(live, drawn.once, level, drawn.noises[1]);
    slider.update(index.get());
    sheets[0].draw(drawn.noises[0].map((z) => z / 3), `number ${seed}`);
    sheets[1].draw(drawn.once, `${rows * columns} images from noise number ${seed}`);
    sheets[2].draw(twice, `the same images after a second step at level ${short(level)}`);
    number.say(seed);
  };
  const reset = () => { seed = 1; index.set("index", [middle]); };
  const buttons = [button("Draw new noise", () => { seed += 1; later(); })];
  return { sliders: [slider], buttons, readouts: [number], panels: sheets, draw, reset };
}

// An image with pixels that can be rubbed out, by pointer or by keys.
function buildEraser(title, [, height, width], known, changed) {
  const place = html("div", "ict-panel ict-panel-image");
  const picture = svg("svg", { class: "ict-picture ict-editor", viewBox: `0 0 ${width} ${height}`, tabindex: 0, role: "application" });
  picture.dataset.lmSuppressShortcuts = "true"; // in JupyterLab the arrow keys would leave the cell
  const help = "arrow keys move the frame, the space bar rubs the pixel out or brings it back";
  let [cursor, rubbing, said] = [0, null, ""];
  place.append(html("div", "ict-title", title), picture);
  const set = (i, value) => { if (known[i] !== value) { known[i] = value; changed(); } };
  const under = (event) => {
    const box = picture.getBoundingClientRect();
    const [column, row] = [((event.clientX - box.left) / box.width) * width, ((event.clientY - box.top) / box.height) * height];
    return column >= 0 && column < width && row >= 0 && row < height ? Math.floor(row) * width + Math.floor(column) : null;
  };
  picture.addEventListener("pointerdown", (event) => {
    const i = under(event);
    if (i === null) return;
    if (event.button || event.ctrlKey) return; // opens a menu
    picture.setPointerCapture(event.pointerId);
    [cursor, rubbing] = [i, !known[i]];
    set(i, rubbing);
  });
  picture.addEventListener("pointermove", (event) => {
    const i = rubbing === null ? null : under(event);
    if (i !== null) set(i, rubbing);
  });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { rubbing = null; });
  picture.addEventListener("keydown", (event) => {
    const [column, row] = [cursor % width, Math.floor(cursor / width)];
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    const clip = (value, most) => Math.max(0, Math.min(most, value));
    cursor = clip(row + move[1], height - 1) * width + clip(column + move[0], width - 1);
    if (event.key === " ") set(cursor, !known[cursor]);
    else changed();
  });
  const draw = (image) => {
    const pixels = [...image].map((value, i) => {
      const [x, y, grey] = [i % width, Math.floor(i / width), Math.round(127.5 * (1 + Math.max(-1, Math.min(1, value))))];
      if (known[i]) return svg("rect", { x, y, width: 1.01, height: 1.01, fill: `rgb(${grey} ${grey} ${grey})` });
      return svg("path", { class: "ict-missing", d: `M${x + 0.15} ${y + 0.85}L${x + 0.85} ${y + 0.15}` });
    });
    const frame = { class: "ict-cursor", x: cursor % width, y: Math.floor(cursor / width), width: 1, height: 1 };
    picture.replaceChildren(...pixels, svg("rect", frame));
    const state = known[cursor] ? "known" : "rubbed out";
    const spot = `row ${frame.y + 1}, column ${frame.x + 1}, ${state}`;
    said = `${known.filter((one) => !one).length} pixels rubbed out; ${spot}`;
    picture.setAttribute("aria-label", `${title}: ${said}; ${help}`);
  };
  return { place, draw, told: () => said };
}

// An image that the model drew, rubbed out by the reader and filled in by the model, several times from different noise.
function repairView(live, spec, later) {
  const [rows, columns, counts, usual] = [2, 2, [1, 2, 4, 8, 16], 3];
  const [num, size] = [rows * columns, pixelsOf(spec.shape)];
  const lowerHalf = (_, i) => i < size / 2;
  const known = Array.from({ length: size }, lowerHalf);
  let [digit, seed] = [1, 1];
  const index = keep([usual], later);
  const slider = buildSlider({ label: "steps of repair", text: counts.map(String) }, 0, index);
  const eraser = buildEraser("Rub pixels out here", spec.shape, known, later);
  const sheet = buildSheet("Filled in from four noises", rows, columns, spec.shape);
  const draw = () => {
    const [drawing, repairing] = [uniforms(1000 + digit), uniforms(seed)];
    const noises = [normals(drawing, size), normals(drawing, size)];
    const image = sample(live, [spec.sigma_max, spec.sigma_mid], noises);
    const repeated = (one) => Array.from({ length: num * size }, (_, i) => one[i % size]);
    const steps = counts[index.get()[0]];
    const levels = karrasSigmas(steps + 1, spec.sigma_min, spec.sigma_max, spec.rho).reverse().slice(0, steps);
    const fresh = levels.map(() => normals(repairing, num * size));
    slider.update(index.get());
    eraser.draw(image);
    sheet.draw(inpaint(live, repeated(image), repeated(known), levels, fresh), `${num} repairs in ${steps} steps`);
  };
  const fill = (rule) => known.forEach((_, i) => { known[i] = rule(_, i); });
  const reset = () => { fill(lowerHalf); [digit, seed] = [1, 1]; index.set("index", [usual]); };
  const buttons = [
    button("Another digit", () => { digit += 1; later(); }),
    button("New noise", () => { seed += 1; later(); }),
    button("Bring all back", () => { fill(() => true); later(); }),
  ];
  return { sliders: [slider], buttons, readouts: [], panels: [eraser, sheet], draw, reset, told: eraser.told };
}

// Data points, and noise for them, of a mixture in the plane.
function cloudOf({ weights, means, stds }, count) {
  const source = uniforms(7);
  return Array.from({ length: count }, () => {
    let [share, mode] = [source(), 0];
    while (mode < weights.length - 1 && share >= weights[mode]) share -= weights[mode++];
    const [spread, noise] = [normals(source, 2), normals(source, 2)];
    return { clean: means[mode].map((m, i) => m + stds[mode] * spread[i]), noise };
  });
}

// Marks whose points come anew with each drawing: at(mark.x) is a column of what is shown under the mark's name.
const [CLOUD, LEVELS] = [400, 41];
const lookup = (name, count) => ({ x: { name, axis: 0, shape: [count] }, y: { name, axis: 1, shape: [count] } });
const columnOf = (shown) => ({ name, axis }) => shown[name].map((point) => point[axis]);
const POINT_MARKS = [
  { mark: "points", color: FAINT, size: 3, ...lookup("cloud", CLOUD) },
  { mark: "line", color: FIRST, label: "exact trajectory", ...lookup("path", LEVELS) },
  { mark: "points", color: SECOND, size: 13, label: "the point x", ...lookup("now", 1) },
];
const END_MARKS = [
  { mark: "points", color: FAINT, size: 3, label: "data", ...lookup("cloud", CLOUD) },
  { mark: "points", color: SECOND, size: 5, ...lookup("answers", LEVELS) },
  { mark: "points", color: FIRST, size: 13, label: "exact end point", ...lookup("end", 1) },
  { mark: "points", color: SECOND, size: 9, label: "f(x, σ) of the model; small: at the other σ", ...lookup("answer", 1) },
  { mark: "points", color: THIRD, size: 9, label: "denoiser E[x₀ | x]", ...lookup("mean", 1) },
];

// A point of the plane on its exact trajectory, and where the model sends it.
function pointView(live, spec, later) {
  const [levels, usual, reach, start] = [karrasSigmas(LEVELS, spec.sigma_min, spec.sigma_max, spec.rho), 24, 2.6, [0.9, -0.5]];
  const [cloud, scale] = [cloudOf(spec.mixture, CLOUD), levels.map((sigma) => cIn(sigma, spec.sigma_data))];
  const times = (point, factor) => point.map((v) => factor * v);
  const index = keep([usual], later);
  const slider = buildSlider({ label: "noise level σ", text: levels.map(short) }, 0, index);
  const plane = { x_range: [-reach, reach], y_range: [-reach, reach], x_scale: "linear", y_scale: "linear", square: true };
  const noisy = buildPanel({ ...plane, title: "The noisy plane: drag the point", x_label: "c_in(σ) · x", marks: POINT_MARKS }, 0);
  const ends = { x_range: [-1.1, 1.1], y_range: [-1.1, 1.1], title: "Where it is sent", x_label: "clean values", marks: END_MARKS };
  const clean = buildPanel({ ...plane, ...ends }, 1);
  const [exact, said, off] = ["exact end point", "f(x, σ) of the model", "distance between them"].map((label) => readout(label));
  let [path, answers] = [[], []];
  const follow = (point, k) => { // the whole trajectory through a point at level k, and the model's answers along it
    path = [];
    path[k] = point;
    for (let i = k - 1; i >= 0; i -= 1) path[i] = flow(spec.mixture, path[i + 1], levels[i + 1], levels[i]);
    for (let i = k + 1; i < levels.length; i += 1) path[i] = flow(spec.mixture, path[i - 1], levels[i - 1], levels[i]);
    answers = path.map((x, i) => live.f(x, levels[i]));
  };
  const begin = () => follow(times(start, 1 / scale.at(-1)), levels.length - 1);
  const draw = () => {
    const [k] = index.get();
    const [end, answer, mean] = [path[0], answers[k], denoiser(spec.mixture, path[k], levels[k])];
    const scaled = cloud.map(({ clean: x, noise }) => x.map((v, i) => scale[k] * (v + levels[k] * noise[i])));
    const now = times(path[k], scale[k]);
    slider.update([k]);
    noisy.draw(columnOf({ cloud: scaled, path: path.map((x, i) => times(x, scale[i])), now: [now] }), null);
    clean.draw(columnOf({ cloud: cloud.map((one) => one.clean), answers, end: [end], answer: [answer], mean: [mean] }), null);
    const place = ([x, y]) => `(${x.toFixed(2)}, ${y.toFixed(2)})`.replaceAll("-", "−");
    noisy.describe(`σ ${short(levels[k])}, c_in · x ${place(now)}; arrow keys move it`);
    clean.describe(`σ ${short(levels[k])}`);
    exact.say(place(end));
    said.say(place(answer));
    off.say(Math.hypot(answer[0] - end[0], answer[1] - end[1]).toFixed(3));
  };
  const moveTo = (u) => {
    const [k] = index.get();
    follow(u.map((v) => Math.max(-reach, Math.min(reach, v)) / scale[k]), k);
    later();
  };
  const current = () => times(path[index.get()[0]], scale[index.get()[0]]);
  makeDraggable(noisy.place.querySelector("svg.ict-picture"), (across, up) => moveTo([(2 * across - 1) * reach, (2 * up - 1) * reach]),
    (dx, dy) => moveTo(current().map((v, i) => v + 0.05 * [dx, dy][i])));
  begin();
  const reset = () => { begin(); index.set("index", [usual]); };
  return { sliders: [slider], buttons: [], readouts: [exact, said, off], panels: [noisy, clean], draw, reset };
}

// Calls to(across, up) while a pointer is down, in shares of a plot's width and height, and by(dx, dy) for each arrow key.
function makeDraggable(picture, to, by) {
  for (const [name, value] of [["tabindex", 0], ["role", "application"]]) picture.setAttribute(name, value);
  picture.classList.add("ict-draggable");
  picture.dataset.lmSuppressShortcuts = "true";
  let down = false;
  const move = (event) => {
    const frame = picture.querySelector(".ict-axis").getBoundingClientRect(); // as wide as the plot, which is square
    to((event.clientX - frame.left) / frame.width, (frame.bottom - event.clientY) / frame.width);
  };
  picture.addEventListener("pointerdown", (event) => {
    if (event.button || event.ctrlKey) return; // opens a menu
    picture.setPointerCapture(event.pointerId);
    down = true;
    move(event);
  });
  picture.addEventListener("pointermove", (event) => down && move(event));
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { down = false; });
  picture.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    by(...step);
  });
}

const VIEWS = { sheet: sheetView, repair: repairView, point: pointView };

function render({ model, el }) {
  const spec = model.get("spec");
  const root = html("figure", "ict-explorer ict-live");
  const spoken = html("p", "ict-spoken"); // what changed, for screen readers, once the controls rest
  spoken.setAttribute("role", "status");
  let [asked, rest, width] = [0, 0, -1];
  const tell = () => { spoken.textContent = view.told?.() ?? view.readouts.map((one) => one.told()).join(", "); };
  const later = () => { // at most one redraw a frame, none in a hidden tab
    asked ||= requestAnimationFrame(() => { asked = 0; view.draw(); });
    clearTimeout(rest);
    rest = setTimeout(tell, 400);
  };
  const view = VIEWS[spec.view](consistencyModel(model.get("data"), spec), spec, later);
  const buttons = html("div", "ict-buttons");
  buttons.append(...view.buttons, button("Reset", view.reset));
  root.append(
    ...group("div", "ict-sliders", view.sliders),
    buttons,
    ...group("div", "ict-readouts", view.readouts),
    ...group("div", "ict-panels", view.panels),
    ...(spec.caption ? [html("figcaption", "ict-caption", spec.caption)] : []),
    spoken,
  );
  el.append(root);
  const fit = () => { // the height follows from the width
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    for (const panel of view.panels) panel.fit?.();
    view.draw();
  };
  const observer = new ResizeObserver(fit);
  fit();
  observer.observe(root);
  return () => {
    clearTimeout(rest);
    cancelAnimationFrame(asked);
    observer.disconnect();
  };
}

export default { render };
