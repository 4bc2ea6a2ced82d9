// Two trainings side by side, from the same seed and in step: what is played, paused, and shown. No drawing here.

import { Runner } from "./runner.js";
import { NUM_PARTS } from "./slow.js";
import { pictures_of } from "./draw.js";

const PACE = 220; // ms from one picture to the next
const PART = 800; // ms for each part in slow motion
const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Session {
  // source: of this very module. show(): called whenever something changed; say(text): for the reader.
  constructor(source, state, show, say) {
    Object.assign(this, { source, state, show, say, runners: [], chunk: 50, slow: false });
    this.clear();
  }

  clear() {
    this.stop();
    Object.assign(this, { snapshots: [], pictures: [], step: 0, part: -1 });
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
      const { recipe, cells, ...run } = this.runOf(side);
      const same = (mine, theirs) => Object.keys(mine).every((name) => mine[name] === theirs[name]);
      return same(run, one) && same(recipe, one.recipe);
    });
  }

  take(snapshots) {
    Object.assign(this, { snapshots, pictures: snapshots.map(pictures_of), step: snapshots[0].step });
  }

  // Trains both up to a step; false if they were stopped meanwhile.
  async advance(until) {
    if (!this.runners.length) {
      this.runners = [0, 1].map(() => new Runner(this.source));
      await Promise.all(this.runners.map((runner, side) => runner.start(this.runOf(side))));
    }
    const { runners } = this;
    const found = await Promise.all(runners.map((runner) => runner.advance(until)));
    if (runners !== this.runners) return false;
    this.take(found);
    return true;
  }

  async play(until = this.state.steps) {
    if (!this.runners.length || this.step >= this.state.steps) this.clear(); // what was shown had been finished
    this.playing = true;
    this.say("Training …");
    this.show();
    const turn = {};
    this.turn = turn; // a later call of play ends this one
    const going = () => this.playing && this.turn === turn;
    const began = performance.now();
    try {
      await (this.slow ? this.playSlowly(going) : this.playFast(until, going));
    } catch (error) {
      this.say(`The training stopped: ${error.message ?? "its worker failed"}`);
    }
    if (this.turn === turn && this.runners.length) this.rest(performance.now() - began);
  }

  async playFast(until, going) {
    const pace = calm() ? 4 * PACE : PACE;
    while (going() && this.step < until) {
      const { speed } = this.state;
      const ahead = speed ? Math.max(1, Math.round((speed * pace) / 1000)) : this.chunk;
      const began = performance.now();
      if (!(await this.advance(Math.min(until, this.step + ahead)))) return;
      const took = performance.now() - began;
      if (!speed) this.chunk = Math.max(50, Math.min(2000, Math.round(this.chunk * Math.min(2, pace / took))));
      await new Promise((next) => (document.hidden ? setTimeout(next) : requestAnimationFrame(next)));
      this.show();
      if (speed) await wait((1000 * ahead) / speed - (performance.now() - began));
    }
  }

  async playSlowly(going) {
    while (going() && (this.step < this.state.steps || this.part < NUM_PARTS - 1)) {
      await this.nextPart();
      if (calm()) return; // one part at a time, at the reader's pace
      await wait(PART);
    }
  }

  async nextPart() {
    const fresh = this.part < 0 || this.part >= NUM_PARTS - 1;
    if (fresh && !(await this.advance(Math.min(this.step + 1, this.state.steps)))) return;
    this.part = fresh ? 0 : this.part + 1;
    this.show();
  }

  pause() {
    this.playing = false;
    this.show();
  }

  toggleSlow() {
    Object.assign(this, { slow: !this.slow, playing: false, part: -1 });
    if (this.slow) this.play();
    else this.show();
  }

  // One step, or in slow motion one part of it.
  async one() {
    this.playing = false;
    if (this.busy) return;
    this.busy = true;
    if (!this.runners.length) this.clear();
    if (this.slow) await this.nextPart();
    else if (this.step < this.state.steps) await this.advance(this.step + 1);
    this.busy = false;
    this.rest(0);
  }

  rest(milliseconds) {
    Object.assign(this, { playing: false, seconds: milliseconds / 1000 });
    this.state.at = this.step;
    this.show();
    const [left, right] = this.snapshots.map(({ distances, step }) => {
      const [at, one, two] = distances.at(-1);
      return `${one.toFixed(3)} in one step, ${two.toFixed(3)} in two${at === step ? "" : ` (at step ${at})`}`;
    });
    if (left) this.say(`Step ${this.step}. Distance to the data: left ${left}; right ${right}; fresh data ${this.snapshots[0].floor.toFixed(3)}.`);
  }
}
