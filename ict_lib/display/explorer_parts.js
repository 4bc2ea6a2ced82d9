// Panels, sliders and what they are made of. The functions of explorer_scales.js stand in front of this file (see explorer.py).

const SVG = "http://www.w3.org/2000/svg";
const FONT = 12; // px, as in explorer.css
const FAR = 1e5; // px: marks far outside the picture are cut there

function html(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const pixel = (value) => Math.max(-FAR, Math.min(FAR, value)).toFixed(1);
const freshId = () => `ict-${Math.random().toString(36).slice(2)}`; // many figures share a page
const colorOf = (mark) => `var(--ict-${mark.color % 6})`;

// The corners of a mark, in runs without gaps.
function runs(xs, ys, toX, toY) {
  const found = [];
  let open = false;
  for (let i = 0; i < xs.length; i += 1) {
    const [x, y] = [toX(xs[i]), toY(ys[i])];
    if (Number.isNaN(x) || Number.isNaN(y)) {
      open = false;
      continue;
    }
    if (!open) found.push([]);
    open = true;
    found[found.length - 1].push([pixel(x), pixel(y), i]);
  }
  return found;
}

const path = (corners) => `M${corners.map(([x, y]) => `${x} ${y}`).join("L")}`;

function drawLine(mark, at, toX, toY) {
  const d = runs(at(mark.x), at(mark.y), toX, toY).map(path).join("");
  return svg("path", { class: "ict-line", d, stroke: colorOf(mark), ...(mark.dashed && { "stroke-dasharray": "6 5" }) });
}

function drawPoints(mark, at, toX, toY) {
  const dots = runs(at(mark.x), at(mark.y), toX, toY).flat();
  const d = dots.map(([x, y]) => `M${x} ${y}h0`).join("");
  const opacity = dots.length > 300 ? 0.7 : 0.92;
  return svg("path", { class: "ict-points", d, stroke: colorOf(mark), "stroke-width": mark.size, opacity });
}

function drawArea(mark, at, toX, toY, floor) {
  const [xs, lows] = [at(mark.x), at(mark.low)];
  const lowY = (i) => {
    const y = toY(lows[i]);
    return Number.isFinite(y) ? pixel(Math.min(y, floor)) : pixel(floor); // no logarithm: the axis
  };
  const closed = runs(xs, at(mark.y), toX, toY).map((corners) => {
    const back = corners.map(([x, , i]) => [x, lowY(i)]).reverse();
    return `${path([...corners, ...back])}Z`;
  });
  return svg("path", { class: "ict-area", d: closed.join(""), fill: colorOf(mark) });
}

const DRAW = { line: drawLine, points: drawPoints, area: drawArea };

function drawImage(picture, panel, at, width) {
  const { pixels, colored } = panel.marks[0];
  const [rows, columns] = pixels.shape.slice(colored ? -3 : -2);
  const canvas = Object.assign(document.createElement("canvas"), { width: columns, height: rows });
  const context = canvas.getContext("2d");
  const shown = context.createImageData(columns, rows);
  const values = at(pixels);
  const color = colored ? (i) => values.slice(3 * i, 3 * i + 3) : (i) => Array(3).fill(values[i]);
  for (let i = 0; i < rows * columns; i += 1) shown.data.set([...color(i), 255], 4 * i);
  context.putImageData(shown, 0, 0);
  const height = (width * rows) / columns;
  picture.setAttribute("viewBox", `0 0 ${width} ${height.toFixed(1)}`);
  picture.append(svg("image", { href: canvas.toDataURL(), width, height, class: "ict-image", preserveAspectRatio: "none" }));
}

function drawAxes(picture, panel, box, xTicks, yTicks, toX, toY) {
  const grid = svg("g", { class: "ict-grid" });
  for (const { value, text } of xTicks) {
    const x = pixel(toX(value));
    grid.append(svg("path", { d: `M${x} ${box.bottom}v5`, class: "ict-tick" }));
    grid.append(svg("text", { x, y: box.bottom + 18, "text-anchor": "middle" }, text));
  }
  for (const { value, text } of yTicks) {
    const y = pixel(toY(value));
    grid.append(svg("path", { d: `M${box.left} ${y}H${box.right}`, class: "ict-rule" }));
    grid.append(svg("text", { x: box.left - 8, y, dy: "0.34em", "text-anchor": "end" }, text));
  }
  grid.append(svg("path", { d: `M${box.left} ${box.bottom}H${box.right}`, class: "ict-axis" }));
  const label = { class: "ict-axis-label" };
  if (panel.y_label) grid.append(svg("text", { ...label, x: 0, y: FONT }, panel.y_label));
  if (panel.x_label) {
    grid.append(svg("text", { ...label, x: box.right, y: box.bottom + 38, "text-anchor": "end" }, panel.x_label));
  }
  picture.append(grid);
}

function drawPlot(picture, panel, at, width, id) {
  const top = panel.y_label ? 2 * FONT + 4 : FONT;
  const guess = panel.square ? width - 50 : Math.max(190, Math.min(300, width * 0.56));
  const yTicks = ticks(panel.y_range, panel.y_scale, Math.round(guess / 42));
  const left = 12 + 6.9 * Math.max(1, ...yTicks.map(({ text }) => text.length));
  const box = { left, right: width - 14, top, bottom: top + (panel.square ? width - 14 - left : guess) };
  const height = box.bottom + (panel.x_label ? 46 : 26);
  const toX = projection(panel.x_range, panel.x_scale, box.left, box.right);
  const toY = projection(panel.y_range, panel.y_scale, box.bottom, box.top);
  const xTicks = ticks(panel.x_range, panel.x_scale, Math.round((box.right - box.left) / 54));
  picture.setAttribute("viewBox", `0 0 ${width} ${pixel(height)}`);
  drawAxes(picture, panel, box, xTicks, yTicks, toX, toY);
  const frame = { x: box.left, y: box.top - 4, width: box.right - box.left + 4, height: box.bottom - box.top + 8 };
  picture.append(svg("clipPath", { id }, svg("rect", frame)));
  const marks = panel.marks.map((mark) => DRAW[mark.mark](mark, at, toX, toY, box.bottom));
  picture.append(svg("g", { "clip-path": `url(#${id})` }, ...marks));
  return box;
}

function swatch(mark) {
  const picture = svg("svg", { viewBox: "0 0 22 12", "aria-hidden": "true" });
  if (mark.mark === "area") picture.append(svg("path", { class: "ict-area", d: "M1 1H21V11H1Z", fill: colorOf(mark) }));
  else if (mark.mark === "points") {
    picture.append(svg("path", { class: "ict-points", d: "M11 6h0", stroke: colorOf(mark), "stroke-width": 7 }));
  } else {
    const dash = mark.dashed ? { "stroke-dasharray": "6 4" } : {};
    picture.append(svg("path", { class: "ict-line", d: "M1 6H21", stroke: colorOf(mark), ...dash }));
  }
  return picture;
}

function buildPanel(panel, number) {
  const place = html("div", panel.marks[0].mark === "image" ? "ict-panel ict-panel-image" : "ict-panel");
  if (panel.title) place.append(html("div", "ict-title", panel.title));
  const labelled = panel.marks.filter((mark) => mark.label);
  if (labelled.length) {
    const legend = html("ul", "ict-legend");
    for (const mark of labelled) {
      const entry = html("li");
      entry.append(swatch(mark), mark.label);
      legend.append(entry);
    }
    place.append(legend);
  }
  const picture = svg("svg", { role: "img", class: "ict-picture" });
  place.append(picture);
  const name = panel.title || [panel.y_label, panel.x_label].filter(Boolean).join(" against ") || `panel ${number + 1}`;
  const id = freshId();
  const draw = (at, state) => {
    const width = Math.round(place.clientWidth) || 420; // not on the page yet
    picture.setAttribute("aria-label", `${name}, at ${state}`);
    picture.replaceChildren();
    return (panel.marks[0].mark === "image" ? drawImage : drawPlot)(picture, panel, at, width, id);
  };
  return { place, picture, draw };
}

function buildSlider(slider, axis, model) {
  const place = html("div", "ict-slider");
  const id = freshId();
  const last = slider.text.length - 1;
  const input = Object.assign(html("input"), { type: "range", min: 0, max: last, step: 1, id });
  input.dataset.lmSuppressShortcuts = "true"; // in JupyterLab the arrow keys would leave the cell
  const label = Object.assign(html("label", "", slider.label), { htmlFor: id });
  const output = Object.assign(html("output"), { htmlFor: id });
  const ends = html("div", "ict-ends");
  ends.setAttribute("aria-hidden", "true");
  ends.append(html("span", "", slider.text[0]), html("span", "", slider.text[last]));
  input.addEventListener("input", () => {
    const index = [...model.get("index")];
    index[axis] = Number(input.value);
    model.set("index", index);
    model.save_changes();
  });
  const update = (index) => {
    const text = slider.text[index[axis]];
    input.value = index[axis];
    input.setAttribute("aria-valuetext", text);
    input.style.setProperty("--ict-fill", `${(100 * index[axis]) / last}%`);
    output.textContent = text;
  };
  place.append(label, output, input, ends);
  return { place, update };
}

function group(tag, className, parts) {
  const place = html(tag, className);
  place.append(...parts.map((part) => part.place));
  return parts.length ? [place] : [];
}
