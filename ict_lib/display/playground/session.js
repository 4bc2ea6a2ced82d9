// Two trainings side by side, from the same seed and in step: what is played, paused, and shown. No drawing here.

import { Runner } from "./runner.js";
import { NUM_PARTS } from "./slow.js";
import { pictures_of } from "./draw.js";

const PACE = 300; // ms from one picture to the next
const PART = 800; // ms for each part in slow motion
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const text = (value) => JSON.stringify(value, Object.keys(Object(value)).sort()); // a notebook's file sorts the fields
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Session {
  // source: of this very module. show(): called whenever something changed; say(text): for the reader.
  constructor(source, state, show, say) {
    Object.assign(this, { source, state, show, say, runners: [], chunk: 50, slow: false });
    this.clear();
  }

  clear() {
    this.stop();
    Object.assign(this, { snapshots: [], pictures: [], step: 0, part: -1, busy: false });
  }

  stop() {
    this.playing = false;
    for (const runner of this.runners) runner.stop();
    this.runners = [];
  }

  runOf(side) {
    const { runs, data, cells, seed, steps } = this.state;
    return { recipe: runs[side].recipe, data, cells, seed, total_steps: steps };
  }

  // Whether finished runs are those that the state asks for.
  matches(snapshots) {
    return snapshots.every((one, side) => {
      const { cells, ...run } = this.runOf(side);
      return Object.entries(run).every(([name, value]) => text(value) === text(one[name]));
    });
  }

  take(snapshots) {
    Object.assign(this, { snapshots, pictures: snapshots.map(pictures_of), step: snapshots[0].step });
    return this.step;
  }

  // Trains both up to a step, and gives their snapshots; nothing if they were stopped meanwhile.
  async reach(until) {
    if (!this.runners.length) {
      this.runners = [0, 1].map(() => new Runner(this.source));
      await Promise.all(this.runners.map((runner, side) => runner.start(this.runOf(side))));
    }
    const { runners } = this;
    const found = await Promise.all(runners.map((runner) => runner.ask({ until })));
    return runners === this.runners ? found : null;
  }

  async play(until = this.state.steps) {
    if (!this.runners.length || this.step >= this.state.steps) this.clear(); // what was shown had been finished
    Object.assign(this, { playing: true, until });
    this.say("Training …");
    this.show();
    const turn = (this.turn = {}); // a later call of play ends this one
    const going = () => this.playing && this.turn === turn;
    const began = performance.now();
    await this.guarded(() => (this.slow ? this.playSlowly(going) : this.playFast(until, going)));
    if (this.turn === turn && this.runners.length) this.rest(performance.now() - began);
  }

  // Does some work, and says it if a worker fails.
  async guarded(work) {
    try {
      await work();
    } catch (error) {
      this.say(`The training stopped: ${error.message ?? "its worker failed"}`);
    }
  }

  // While one picture is drawn, the runners are already on their way to the next.
  async playFast(until, going) {
    const pace = calm() ? 4 * PACE : PACE;
    let aim = this.step;
    const ask = async () => {
      const { speed } = this.state;
      const ahead = speed ? Math.max(1, Math.round((speed * pace) / 1000)) : this.chunk;
      aim = Math.min(until, aim + ahead);
      if (speed) await wait((1000 * ahead) / speed);
      if (!going()) return null; // stopped meanwhile, perhaps for another training
      const began = performance.now();
      const found = await this.reach(aim);
      const fits = (this.chunk * pace) / (performance.now() - began);
      if (!speed) this.chunk = Math.round(Math.max(50, Math.min(2000, fits, 2 * this.chunk)));
      return found;
    };
    for (let coming = ask(); coming;) {
      const found = await coming;
      if (!found) return;
      coming = going() && aim < until ? ask() : null;
      this.state.at = this.take(found);
      await new Promise((next) => (document.hidden ? setTimeout(next) : requestAnimationFrame(next)));
      this.show();
    }
  }

  async playSlowly(going) {
    while (going() && (this.step < this.state.steps || this.part < NUM_PARTS - 1)) {
      await this.nextPart();
      if (calm()) return; // one part at a time, at the reader's pace
      await wait(PART);
    }
  }

  async nextStep() {
    const found = await this.reach(Math.min(this.step + 1, this.state.steps));
    if (!found) return;
    this.state.at = this.take(found);
    this.part = 0;
  }

  async nextPart() {
    if (this.part < 0 || this.part >= NUM_PARTS - 1) await this.nextStep();
    else this.part += 1;
    this.show();
  }

  pause() {
    this.playing = false;
    this.show();
  }

  toggleSlow() {
    Object.assign(this, { slow: !this.slow, playing: false, part: -1 });
    return this.slow ? this.play() : this.show();
  }

  // One step, or in slow motion one part of it.
  async one() {
    this.playing = false;
    if (this.busy) return;
    if (!this.runners.length) this.clear();
    this.busy = true;
    await this.guarded(async () => { await (this.slow ? this.nextPart() : this.nextStep()); if (!this.playing) this.rest(0); }); // else Play came
    this.busy = false;
  }

  rest(milliseconds) {
    Object.assign(this, { playing: false, seconds: milliseconds / 1000 });
    this.show();
    const [left, right] = this.snapshots.map(({ distances, step }) => {
      const [at, one, two] = distances.at(-1);
      return `${one.toFixed(3)} in one step, ${two.toFixed(3)} in two${at === step ? "" : ` (at step ${at})`}`;
    });
    if (left) this.say(`Step ${this.step}. Distance to the data: left ${left}; right ${right}; fresh data ${this.snapshots[0].floor.toFixed(3)}.`);
  }
}
