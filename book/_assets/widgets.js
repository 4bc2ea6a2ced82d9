// Brings the widgets of a built page to life without a kernel: one ES module and one model a widget.
(() => {
  "use strict";
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";

  function decode({ data, encoding }) {
    const text = encoding === "base64" ? atob(data) : data.replace(/../g, (pair) => String.fromCharCode(parseInt(pair, 16)));
    return new DataView(Uint8Array.from(text, (character) => character.charCodeAt(0)).buffer);
  }

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

  async function mount(script, states) {
    const place = Object.assign(document.createElement("div"), { className: "widget-place" });
    script.after(place);
    try {
      const entry = states[JSON.parse(script.textContent).model_id];
      addStyle(entry.state._css);
      const { default: widget } = await load(entry.state._esm);
      await widget.render({ model: makeModel(entry), el: place });
    } catch (error) {
      place.textContent = `This figure could not start: ${error.message}`;
      console.error(error);
    }
  }

  const saved = document.querySelector(`script[type="${STATE}"]`);
  const states = saved ? JSON.parse(saved.textContent).state : {};
  for (const script of document.querySelectorAll(`script[type="${VIEW}"]`)) mount(script, states);
})();
