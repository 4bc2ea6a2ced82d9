// The page: controls, pictures and tours around a session. The functions of the Explorer stand in front (see __init__.py).

import { karras_sigmas } from "./grid.js";
import { add, buildBoard, buildSwitches, button, entry, labelled, named, select } from "./controls.js";
import { COLORS, buildCurves, drawCloud, drawNet } from "./draw.js";
import { REFERENCE, stream } from "./random.js";
import { Session } from "./session.js";
import { buildSlow } from "./slow.js";
import { DATA, READ, SPEEDS, START, TOTAL_STEPS, from_address, preset, to_address, to_python } from "./state.js";
import { num_scales_at } from "./techniques.js";
import { data_of } from "./toy.js";
import { SIGMA_MID } from "./train.js";

const SIGMAS = [...karras_sigmas(41)];
const NAMES = ["Left", "Right"];
const CLOUDS = ["samples in one step", `samples in two steps, the second at σ = ${SIGMA_MID}`, "where f(x, σ) sends a square net"];
const apart = (sigma) => (one) => Math.abs(Math.log(one / sigma));
const nearest = (sigma) => SIGMAS.indexOf([...SIGMAS].sort((a, b) => apart(sigma)(a) - apart(sigma)(b))[0]);
const inBook = () => document.querySelector("article.bd-article") !== null; // elsewhere the address is not ours
// What stands behind the # of the address, where it is ours; mail programs write its commas as %2C.
const address = () => (inBook() ? location.hash.slice(1).replace(/%([2-7][0-9a-f])/gi, (_, code) => String.fromCharCode(parseInt(code, 16))) : "");

function buildColumn(side) {
  const place = named(html("section", "ict-run"), { "aria-label": `${NAMES[side]} run` });
  const switches = html("div");
  const clouds = CLOUDS.map((title) => {
    const canvas = named(html("canvas"), { role: "img" });
    return { canvas, title, place: add(html("div", "ict-cloud"), canvas, html("span", "", title)) };
  });
  const readouts = ["step", "N", "loss", "one step", "two steps", "floor"].map((label) => {
    const value = html("strong", "", "–");
    return { value, place: add(html("div", "ict-readout"), html("span", "", label), value) };
  });
  add(place, switches, ...group("div", "ict-clouds", clouds), ...group("div", "ict-readouts", readouts));
  return { place, switches, clouds, readouts };
}

class Playground {
  constructor(model, el) {
    const { state, wrong } = from_address(address());
    const recorded = model.get("recorded");
    if (recorded.length && !address()) state.steps = recorded[0].total_steps;
    Object.assign(this, { model, state, root: html("figure", "ict-explorer ict-playground") });
    el.append(this.root);
    this.say = (text) => { this.status.textContent = text; };
    this.session = new Session(model.get("_esm"), state, () => this.show(), this.say);
    this.build();
    if (state.at === null && recorded.length && this.session.matches(recorded)) this.session.take(recorded);
    this.observe();
    this.draw();
    this.follow(state.at, wrong);
  }

  build() {
    this.status = named(html("p", "ict-status"), { role: "status" });
    this.toolbar = html("div", "ict-toolbar");
    this.boardPlace = html("div");
    this.columns = [0, 1].map(buildColumn);
    this.slider = buildSlider({ label: "noise level σ of the nets", text: SIGMAS.map((one) => one.toPrecision(3)) }, 0, {
      get: () => [nearest(this.state.sigma)],
      set: (_, [index]) => { this.state.sigma = SIGMAS[index]; this.show(() => this.drawNets()); },
      save_changes() {},
    });
    this.parts = buildSlow();
    this.curves = buildCurves();
    this.copied = named(Object.assign(html("textarea", "ict-copied"), { readOnly: true, hidden: true, rows: 12 }), { "aria-label": "What was copied" });
    const takeaway = [
      ...(inBook() ? [button("Copy link", () => this.copy(`${location.href.split("#")[0]}#${to_address(this.state)}`, "The link"))] : []),
      ...NAMES.map((name, side) => button(`Copy ${name.toLowerCase()} run as Python`, () => this.copy(to_python(this.model.get("templates"), this.state, this.state.runs[side]), "The Python"))),
      button("Save runs as JSON", () => this.save()),
    ];
    add(this.root, this.toolbar, this.status, this.boardPlace, ...group("div", "ict-runs", this.columns), this.slider.place, this.parts.place);
    add(this.root, add(html("div", "ict-panels"), ...this.curves.places), add(html("div", "ict-toolbar"), ...takeaway), this.copied, this.buildTours());
    this.buildControls();
  }

  // Builds all controls anew from the state.
  buildControls() {
    const { state, session, say } = this;
    const choose = (name, choices, anew = true) => labelled(name, select(choices, state[name], (value) => this.change({ [name]: value }, anew), say));
    this.playButton = button("Play", () => (session.playing ? session.pause() : session.play()));
    this.slowButton = button("Slow motion", () => session.toggleSlow());
    this.toolbar.replaceChildren(
      this.playButton, button("Step", () => session.one()), this.slowButton, button("Reset", () => this.change({})),
      choose("data", DATA.map((one) => [one, one.replace("_", " ")])),
      labelled("seed", entry(String(state.seed), (text) => this.change({ seed: READ.seed(text) }), say)),
      choose("steps", TOTAL_STEPS.map((one) => [one, one.toLocaleString("en")])),
      choose("speed", SPEEDS.map((one) => [one, one ? `${one} steps a second` : "as fast as it goes"]), false),
    );
    this.buildRuns();
  }

  // Builds what depends on recipes and data anew: not the buttons, of which one may be pressed just now. Focus stays.
  buildRuns() {
    const { state, say } = this;
    const all = () => [...this.root.querySelectorAll("button, select, input, summary")];
    const active = document.activeElement;
    const focused = all().indexOf(active);
    this.columns.forEach(({ switches }, side) => {
      const open = switches.querySelector("details")?.open ?? false;
      const change = (run) => this.change({ runs: state.runs.map((old, i) => (i === side ? run : old)) });
      switches.replaceChildren(buildSwitches(state.runs[side], side, change, say));
      switches.querySelector("details").open = open;
    });
    const board = (this.board = state.data === "painted" ? buildBoard(state.cells, (cells) => this.change({ cells }, true, () => {}), say) : null);
    this.boardPlace.replaceChildren(...(board ? [board.place] : []));
    board?.draw();
    if (focused >= 0 && !active.isConnected) all()[focused].focus();
  }

  buildTours() {
    this.tours = {};
    const place = named(html("section", "ict-tours"), { "aria-label": "Guided tours" });
    this.model.get("tours").forEach(({ key, title, predict, look, why }, i) => {
      const answer = add(html("details"), html("summary", "", "Why"), html("p", "", why));
      const set = button("Set up and play", () => this.openTour(key).play());
      this.tours[key] = add(html("details"), html("summary", "", `Tour ${i + 1}. ${title}`), html("p", "", `Predict: ${predict}`), set, html("p", "", `Look for: ${look}`), answer);
      place.append(this.tours[key]);
    });
    return place;
  }

  openTour(wanted) {
    const { runs } = this.model.get("tours").find(({ key }) => key === wanted);
    this.tours[wanted].open = true;
    this.change({ ...START, runs: runs.map(preset) }, true, () => this.buildControls());
    return this.session;
  }

  // Applies changes; unless they are for the eye only, the training starts anew.
  change(changes, anew = true, rebuild = () => this.buildRuns()) {
    Object.assign(this.state, changes);
    if (anew) {
      this.session.clear();
      this.state.at = null;
      rebuild();
      this.say("");
    }
    this.show();
  }

  // Does what an address asks for, unless a part of it was wrong: opens a tour, or trains up to its step.
  follow(at, wrong) {
    if (wrong.length) this.say(`Left out of the address: ${wrong.join("; ")}.`);
    const tour = /^tour=([a-z]+)$/.exec(address())?.[1];
    if (Object.hasOwn(this.tours, tour)) {
      this.openTour(tour);
      this.tours[tour].scrollIntoView({ block: "center" });
    } else if (at && !wrong.length) this.session.play(at);
  }

  show(draw = () => this.draw()) {
    draw();
    if (!inBook() || this.session.playing) return;
    clearTimeout(this.rest); // browsers allow few changes of the address a second
    this.rest = setTimeout(() => history.replaceState(null, "", `#${this.written = to_address(this.state)}`), 300);
  }

  draw() {
    const { state, session } = this;
    const { snapshots, pictures, part, slow, step } = session;
    const data = (this.data = data_of(state.data, state.cells)(1000, stream(1, REFERENCE)));
    this.columns.forEach(({ clouds, readouts }, side) => {
      const [picture, snapshot, color] = [pictures[side], snapshots[side], `--ict-${COLORS[side]}`];
      drawCloud(clouds[0].canvas, data, picture?.one, color, slow && part >= 6 ? snapshot?.last : null);
      drawCloud(clouds[1].canvas, data, picture?.two, color);
      for (const { canvas, title } of clouds) named(canvas, { "aria-label": `${NAMES[side]} run, ${title}, at step ${step}` });
      const scales = num_scales_at(state.runs[side].recipe, Math.min(step, state.steps - 1), state.steps);
      const loss = snapshot?.losses.at(-1)?.[1] ?? snapshot?.last?.loss;
      const numbers = snapshot ? [...snapshot.distances.at(-1).slice(1), snapshot.floor] : [];
      const texts = [step, scales, loss?.toPrecision(2) ?? "–", ...numbers.map((value) => value.toFixed(3))];
      readouts.forEach(({ value }, i) => { value.textContent = texts[i] ?? "–"; });
    });
    this.drawNets();
    this.curves.draw(state, snapshots, step);
    this.parts.place.hidden = !slow;
    named(this.slowButton, { "aria-pressed": String(slow) });
    if (slow && snapshots.every((one) => one.last) && snapshots.length) this.parts.show(part, snapshots);
    this.playButton.textContent = session.playing ? "Pause" : "Play";
    Object.assign(this.root.dataset, { step, playing: session.playing, seconds: session.seconds ?? "" });
  }

  // What the slider moves, alone, as the rest takes longer than a frame.
  drawNets() {
    const index = nearest(this.state.sigma);
    this.columns.forEach(({ clouds }, side) => drawNet(clouds[2].canvas, this.data, this.session.pictures[side]?.net(SIGMAS[index]), `--ict-${COLORS[side]}`));
    this.slider.update([index]);
  }

  async copy(text, what) {
    Object.assign(this.copied, { hidden: false, value: text });
    try {
      await navigator.clipboard.writeText(text);
      this.say(`${what} was copied.`);
    } catch {
      this.copied.select();
      this.say(`${what} stands below: copy it from there.`);
    }
  }

  save() {
    const { snapshots, step } = this.session;
    if (!snapshots.length) return this.say("There is nothing to save yet: play first.");
    const runs = snapshots.map(({ last, weights, ...rest }) => ({ ...rest, weights: [...weights] }));
    const text = JSON.stringify({ address: to_address(this.state), runs }, null, 1);
    const href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    Object.assign(document.createElement("a"), { href, download: `playground-${this.state.data}-${step}.json` }).click();
    return this.say("The runs were saved, with the weights of their averages.");
  }

  observe() {
    let width = 0;
    this.sizes = new ResizeObserver(() => {
      if (this.root.clientWidth !== width) this.draw();
      width = this.root.clientWidth;
    });
    this.sizes.observe(this.root);
    this.themes = new MutationObserver(() => [this.draw(), this.board?.draw()]);
    const attributeFilter = ["data-theme", "theme", "data-jp-theme-light"];
    for (const element of [document.documentElement, document.body]) this.themes.observe(element, { attributeFilter });
    this.listening = new AbortController();
    const { session, listening: { signal } } = this;
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) return this.resumes && session.step < session.until && session.play(session.until);
      this.resumes = session.playing;
      return session.pause();
    }, { signal });
    if (inBook()) addEventListener("hashchange", () => { // somebody followed a link to another state of this page
      if (address() === this.written) return; // gone back to what is shown
      const { state, wrong } = from_address(address());
      if (/(^|&)left=/.test(address())) this.change({ ...state }, true, () => this.buildControls());
      this.follow(state.at, wrong);
    }, { signal });
  }

  // What anywidget gets: how to end the page's part.
  static render({ model, el }) {
    const { session, sizes, themes, listening } = new Playground(model, el);
    return () => [session.stop(), sizes.disconnect(), themes.disconnect(), listening.abort()];
  }
}

export default { render: Playground.render };
