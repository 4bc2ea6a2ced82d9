// Panels and sliders, of an Explorer and of a live model. What draws and what computes stands in front of this file (see explorer.py).

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
  const image = panel.marks[0].mark === "image";
  const picture = image ? html("canvas", "ict-picture ict-image") : svg("svg", { class: "ict-picture" });
  picture.setAttribute("role", "img");
  place.append(picture);
  const name = panel.title || [panel.y_label, panel.x_label].filter(Boolean).join(" against ") || `panel ${number + 1}`;
  const id = freshId();
  let [drawer, before] = [null, null];
  const fit = () => {
    const width = Math.round(place.clientWidth) || 420; // not on the page yet
    drawer = image ? imageDrawer(picture, panel.marks[0]) : plotDrawer(picture, panel, width, id);
    before = null; // all is to be drawn
  };
  const draw = (at, index) => {
    drawer(at, (mark) => !before || moved(mark, before, index));
    before = index;
  };
  const describe = (state) => picture.setAttribute("aria-label", `${name}, at ${state}`);
  return { place, fit, draw, describe };
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
