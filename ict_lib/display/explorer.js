// Shows an Explorer, with the parts of explorer_parts.js, which stand in front of this file (see explorer.py).

function buildReadout(readout) {
  const place = html("div", "ict-readout");
  const value = html("strong");
  place.append(html("span", "", readout.label), value);
  const update = (index) => {
    value.textContent = readout.text[blockAt(readout.shape, index)[0]];
  };
  return { place, update };
}

function render({ model, el }) {
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
  );
  el.append(root);
  const draw = () => {
    const index = model.get("index");
    const state = spec.sliders.map((slider, axis) => `${slider.label} ${slider.text[index[axis]]}`).join(", ");
    for (const part of [...sliders, ...readouts]) part.update(index);
    for (const panel of panels) panel.draw((reference) => valuesAt(buffer, reference, index), state);
  };
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth !== width) draw(); // the height follows from the width
    width = root.clientWidth;
  });
  draw();
  observer.observe(root);
  model.on("change:index", draw);
  return () => {
    observer.disconnect();
    model.off("change:index", draw);
  };
}

export default { render };
