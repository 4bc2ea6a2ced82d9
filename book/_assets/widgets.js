// Brings the widgets of a built page to life without a kernel: one ES module and one model a widget.
(() => {
  "use strict";
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";

  const decode = ({ data }) => new DataView(Uint8Array.from(atob(data), (character) => character.charCodeAt(0)).buffer);

  // What anywidget promises a module: get, set, on, off, save_changes. Nobody listens at the other end.
  function makeModel({ state, buffers = [] }) {
    const values = { ...state };
    for (const buffer of buffers) values[buffer.path[0]] = decode(buffer);
    const page = new EventTarget();
    return {
      get: (name) => values[name],
      set(name, value) {
        values[name] = value;
        page.dispatchEvent(new Event(`change:${name}`));
      },
      on: (event, listener) => page.addEventListener(event, listener),
      off: (event, listener) => page.removeEventListener(event, listener),
      save_changes() {},
    };
  }

  const modules = new Map(); // source text -> its module, imported once
  function load(source) {
    if (!modules.has(source)) {
      const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(address));
    }
    return modules.get(source);
  }

  const styles = new Set();
  function addStyle(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  // What the figures with sliders show stands behind the # of the address, #figure-2=3,5&figure-1=4: a position for each
  // slider. The figure that is named first is scrolled to. Another state of the page, with its own =, is left alone.
  const figures = []; // { name, place, model } each, in the order of the page
  const OURS = /^#figure-\d+(?=[=&]|$)/;
  const opened = location.hash; // other widgets write their own state
  let [moved, rest] = [[], 0];
  const write = (figure) => `${figure.name}=${figure.model.get("index")}`;
  const fits = ({ model }, index) => {
    const sliders = model.get("spec").sliders;
    return index.length === sliders.length && sliders.every(({ text }, axis) => /^\d+$/.test(index[axis]) && index[axis] < text.length);
  };

  // Sets each figure that is named to its positions, if it has them; gives the figures that are named.
  function read(hash) {
    const plain = hash.replace(/%2C/gi, ",").replace(/%3D/gi, "=").replace(/%26/g, "&"); // as mail programs write them
    if (!OURS.test(plain)) return [];
    const named = plain.slice(1).split("&").map((part) => part.split("=")).map(([name, at]) => [figures.find((one) => one.name === name), at]);
    for (const [figure, at] of named) {
      const index = (at ?? "").split(",");
      if (figure && fits(figure, index)) figure.model.set("index", index.map(Number));
    }
    return named.flatMap(([figure]) => figure ?? []);
  }

  const goTo = ([figure]) => figure?.place.scrollIntoView({ block: "start", behavior: "instant" });

  function enter(figure) { // once a slider rests: browsers allow few changes of the address a second
    moved = [figure, ...moved.filter((other) => other !== figure)];
    clearTimeout(rest);
    rest = setTimeout(() => {
      if (OURS.test(location.hash) || !location.hash.includes("=")) history.replaceState(history.state, "", `#${moved.map(write).join("&")}`);
    }, 300);
  }

  function makeFigure(place, entry) {
    const figure = { name: `figure-${figures.length + 1}`, place, model: makeModel(entry) };
    place.id = figure.name;
    figures.push(figure);
    return figure;
  }

  const shared = (entry, key) => { // a figure whose code stands with another names that one
    const own = entry.state[key];
    return own?.of ? states[own.of].state[key] : own;
  };

  async function mount(place, entry, model, figure) {
    try {
      addStyle(shared(entry, "_css"));
      const { default: widget } = await load(shared(entry, "_esm"));
      const link = figure && (() => `${location.href.split("#")[0]}#${write(figure)}`);
      await widget.render({ model, el: place, link });
    } catch (error) {
      place.textContent = `This figure could not start: ${error.message}`;
      console.error(error);
    }
  }

  const saved = document.querySelector(`script[type="${STATE}"]`);
  const states = saved ? JSON.parse(saved.textContent).state : {};
  const mounts = [];
  for (const script of document.querySelectorAll(`script[type="${VIEW}"]`)) {
    const place = Object.assign(document.createElement("div"), { className: "widget-place" });
    script.after(place);
    const entry = states[JSON.parse(script.textContent).model_id];
    const figure = entry?.state.spec?.sliders && makeFigure(place, entry);
    mounts.push([place, entry, figure?.model ?? (entry && makeModel(entry)), figure]);
  }
  const first = read(opened);
  moved = first;
  for (const figure of figures) figure.model.on("change:index", () => enter(figure));
  Promise.all(mounts.map((one) => mount(...one))).then(() => goTo(first)); // their heights are known now
  addEventListener("hashchange", () => { // somebody followed a link to another state of this page
    const named = read(location.hash);
    if (!named.length) return;
    clearTimeout(rest);
    moved = named;
    goTo(named);
  });
})();
