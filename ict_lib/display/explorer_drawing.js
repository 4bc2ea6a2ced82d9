// Draws the pictures of an Explorer. The functions of explorer_scales.js stand in front of this file (see explorer.py).

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

const pixel = (value) => Math.round(10 * Math.max(-FAR, Math.min(FAR, value))) / 10;
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

// Whether a mark looks different at two positions of the sliders.
const moved = (mark, before, index) =>
  [mark.x, mark.y, mark.low, mark.pixels].some(
    (array) => array && blockAt(array.shape, before)[0] !== blockAt(array.shape, index)[0],
  );

const path = (corners) => `M${corners.map(([x, y]) => `${x} ${y}`).join("L")}`;

// The outline of each kind of mark, as a path.
const OUTLINES = {
  line: (mark, at, toX, toY) => runs(at(mark.x), at(mark.y), toX, toY).map(path).join(""),
  points: (mark, at, toX, toY) => runs(at(mark.x), at(mark.y), toX, toY).flat().map(([x, y]) => `M${x} ${y}h0`).join(""),
  area(mark, at, toX, toY, floor) {
    const [xs, lows] = [at(mark.x), at(mark.low)];
    const lowY = (i) => {
      const y = toY(lows[i]);
      return Number.isFinite(y) ? pixel(Math.min(y, floor)) : pixel(floor); // no logarithm: the axis
    };
    const closed = runs(xs, at(mark.y), toX, toY).map((corners) => {
      const back = corners.map(([x, , i]) => [x, lowY(i)]).reverse();
      return `${path([...corners, ...back])}Z`;
    });
    return closed.join("");
  },
};

function styleOf(mark) {
  if (mark.mark === "area") return { class: "ict-area", fill: colorOf(mark) };
  const look = { class: `ict-${mark.mark}`, stroke: colorOf(mark) };
  if (mark.mark === "line") return { ...look, ...(mark.dashed && { "stroke-dasharray": "6 5" }) };
  return { ...look, "stroke-width": mark.size, opacity: mark.x.shape.at(-1) > 300 ? 0.7 : 0.92 };
}

// Draws a picture of pixels; what lies between its tiles stays empty.
function imageDrawer(picture, mark) {
  const { pixels, colored, gaps } = mark;
  const [rows, columns] = pixels.shape.slice(colored ? -3 : -2);
  Object.assign(picture, { width: columns, height: rows });
  const context = picture.getContext("2d");
  const shown = context.createImageData(columns, rows);
  const step = colored ? 3 : 1;
  return (at, changed) => {
    if (!changed(mark)) return;
    const values = at(pixels);
    for (let i = 0, from = 0; i < shown.data.length; i += 4, from += step) {
      shown.data[i] = values[from];
      shown.data[i + 1] = values[colored ? from + 1 : from];
      shown.data[i + 2] = values[colored ? from + 2 : from];
      shown.data[i + 3] = 255;
    }
    context.putImageData(shown, 0, 0);
    for (const row of gaps[0]) context.clearRect(0, row, columns, 1);
    for (const column of gaps[1]) context.clearRect(column, 0, 1, rows);
  };
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

// Draws the axes for one width; the function that it returns draws the marks that changed.
function plotDrawer(picture, panel, width, id) {
  const top = panel.y_label ? 2 * FONT + 4 : FONT;
  const guess = panel.square ? width - 50 : Math.max(190, Math.min(300, width * 0.56));
  const yTicks = ticks(panel.y_range, panel.y_scale, Math.round(guess / 42));
  const left = 12 + 6.9 * Math.max(1, ...yTicks.map(({ text }) => text.length));
  const box = { left, right: width - 14, top, bottom: top + (panel.square ? width - 14 - left : guess) };
  const height = box.bottom + (panel.x_label ? 46 : 26);
  const toX = projection(panel.x_range, panel.x_scale, box.left, box.right);
  const toY = projection(panel.y_range, panel.y_scale, box.bottom, box.top);
  const xTicks = ticks(panel.x_range, panel.x_scale, Math.round((box.right - box.left) / 54));
  picture.replaceChildren();
  picture.setAttribute("viewBox", `0 0 ${width} ${pixel(height)}`);
  drawAxes(picture, panel, box, xTicks, yTicks, toX, toY);
  const frame = { x: box.left, y: box.top - 4, width: box.right - box.left + 4, height: box.bottom - box.top + 8 };
  picture.append(svg("clipPath", { id }, svg("rect", frame)));
  const marks = panel.marks.map((mark) => svg("path", styleOf(mark)));
  picture.append(svg("g", { "clip-path": `url(#${id})` }, ...marks));
  return (at, changed) =>
    panel.marks.forEach((mark, i) => {
      if (changed(mark)) marks[i].setAttribute("d", OUTLINES[mark.mark](mark, at, toX, toY, box.bottom));
    });
}
