// Where a training lives: a worker of the page, or, where a page can have none, slices of its frames.

import { Training } from "./train.js";

// What the page is told after it asked for steps; `last` is what happened in the last one.
function reply(training) {
  const { last } = training;
  if (!last) return training.snapshot();
  const { batch, pairs, lo, per_sample, target, output, loss, num_scales } = last;
  const [low, high] = [pairs.sigmas[lo[0]], pairs.sigmas[lo[0] + 1]];
  const first = { pair: lo[0] + 1, low, high, weight: pairs.weight[lo[0]], loss: per_sample[0], x: batch.x.slice(0, 2), noise: batch.noise.slice(0, 2) };
  return { ...training.snapshot(), last: { first, target, output, loss, num_scales } };
}

// Answers { run } by a new training, and { until } by steps up to that one; `rest` is awaited after each slice.
function trainer(slice, rest) {
  let training;
  return async ({ run, until }) => {
    if (run) training = new Training(run);
    while (training.step < until) {
      const end = performance.now() + slice;
      while (training.step < until && performance.now() < end) training.advance();
      await rest();
    }
    return reply(training);
  };
}
const sliced = () => trainer(12, () => new Promise(requestAnimationFrame)); // ms of each frame; a hidden tab has none: it pauses

function serve(worker) {
  const ask = trainer(Infinity, () => {});
  worker.onmessage = async ({ data }) => worker.postMessage(await ask(data));
}

export class Runner {
  // source: of this very module, which the worker runs too; a page from the disk has no other address for it.
  constructor(source) {
    try {
      const plain = source.replace(/^export default/m, "void"); // of a page from the disk, Chromium runs no module in a worker
      this.worker = new Worker(URL.createObjectURL(new Blob([plain], { type: "text/javascript" })));
      const waiting = []; // answers come in the order of the questions
      this.worker.onmessage = ({ data }) => waiting.shift()[0](data);
      this.worker.onerror = (error) => waiting.shift()?.[1](error);
      this.ask = (order) => new Promise((...settle) => {
        waiting.push(settle);
        this.worker.postMessage(order);
      });
    } catch {
      this.ask = sliced();
    }
  }

  start(run) {
    return this.ask({ run }).catch(() => { // the page may not run workers from a blob
      this.ask = sliced();
      return this.ask({ run });
    });
  }

  stop() {
    this.worker?.terminate();
  }
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) serve(self);
