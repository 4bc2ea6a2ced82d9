// Builds an Explorer of its parts. What draws and what computes stands in front of this file (see explorer.py).

const textAt = (readout, index) => readout.text[blockAt(readout.shape, index)[0]];

function buildReadout(readout) {
  const place = html("div", "ict-readout");
  const value = html("strong");
  place.append(html("span", "", readout.label), value);
  const update = (index) => {
    value.textContent = textAt(readout, index);
  };
  return { place, update };
}

// A button that copies the address of this figure as it stands; the book's pages know that address, JupyterLab has none.
function buildLink(link) {
  const place = html("div", "ict-link");
  const button = Object.assign(html("button", "", "Copy link to this figure"), { type: "button" });
  const note = html("span");
  note.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(link());
      note.textContent = "The link was copied.";
    } catch { // not allowed here
      note.textContent = link();
    }
  });
  place.append(button, note);
  return place;
}

function render({ model, el, link }) {
  const spec = model.get("spec");
  const buffer = bytesOf(model.get("data"));
  const root = html("figure", "ict-explorer");
  const sliders = spec.sliders.map((slider, axis) => buildSlider(slider, axis, model));
  const readouts = spec.readouts.map(buildReadout);
  const panels = spec.panels.map(buildPanel);
  root.append(
    ...group("div", "ict-sliders", sliders),
    ...group("div", "ict-readouts", readouts),
    ...group("div", "ict-panels", panels),
    ...(spec.caption ? [html("figcaption", "ict-caption", spec.caption)] : []),
    ...(link ? [buildLink(link)] : []),
  );
  const spoken = html("p", "ict-spoken"); // what changed, for screen readers, once the sliders rest
  spoken.setAttribute("role", "status");
  root.append(spoken);
  el.append(root);
  let [width, rest] = [-1, 0];
  const draw = () => {
    const index = model.get("index");
    for (const part of [...sliders, ...readouts]) part.update(index);
    for (const panel of panels) panel.draw((reference) => valuesAt(buffer, reference, index), index);
  };
  const tell = () => {
    const index = model.get("index");
    const state = spec.sliders.map((slider, axis) => `${slider.label} ${slider.text[index[axis]]}`).join(", ");
    for (const panel of panels) panel.describe(state);
    return spec.readouts.map((readout) => `${readout.label} ${textAt(readout, index)}`).join(", ");
  };
  const move = () => {
    draw();
    clearTimeout(rest);
    rest = setTimeout(() => { spoken.textContent = tell(); }, 400);
  };
  const fit = () => { // the height follows from the width
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    for (const panel of panels) panel.fit();
    draw();
  };
  const observer = new ResizeObserver(fit);
  fit();
  tell();
  observer.observe(root);
  model.on("change:index", move);
  return () => {
    clearTimeout(rest);
    observer.disconnect();
    model.off("change:index", move);
  };
}

export default { render };
