"use strict";
// Runs an exported network. A model contains two programs, `start` and `step`, each with arrays that it reads (`takes`)
// and fills (`gives`), and functions for what depends on the image and time constants (`early`) and the rest (`late`).

function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return bytes;
}

const floats = (text) => new Float32Array(unpacked(text).buffer);

function transposed(matrix, rows, columns) {
  const out = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = matrix[i * columns + j];
  return out;
}

const MEASURES = {
  mean_square: (values) => values.reduce((sum, x) => sum + x * x, 0) / values.length,
  mean_abs: (values) => values.reduce((sum, x) => sum + Math.abs(x), 0) / values.length,
  values: (values) => Array.from(values),
  softmax: (values) => {
    const top = Math.max(...values), powers = Array.from(values, (x) => Math.exp(x - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((x) => x / sum);
  },
};

function simulation(model, constants) {
  const start = model.start(constants), step = model.step(constants);
  const states = Object.keys(step.takes).filter((key) => key.startsWith("state "));
  const gates = Object.keys(step.takes).filter((key) => key.startsWith("gate "));
  const run = (functions) => { for (const f of functions) f(); };

  function prepare(image, taus) {
    for (const program of [start, step]) {
      for (const [key, array] of Object.entries(program.takes)) if (key.startsWith("shown ")) array.set(image);
    }
    for (const [name, values] of Object.entries(model.taus)) {
      const factor = (taus[name] ?? model.tau[name]) / model.tau[name];
      step.takes["tau " + name].set(values.map((value) => value * factor));
    }
    run(start.early);
    run(start.late);
    for (const key of states) step.takes[key].set(start.gives[key]);
    run(step.early);
  }

  const isShut = (edge, at) => (model.closed[edge] ?? []).some(([begin, end]) => begin <= at && at < end);

  return {
    // Yield the recorded values after each step. `cut` lists edges by name, and `taus` contains time constants in ms.
    *rows({ image, cut = [], taus = {} }) {
      const lesioned = new Set(cut);
      prepare(image, taus);
      for (let at = 0; at < model.steps; at++) {
        for (const key of gates) {
          const edge = key.slice(5);
          step.takes[key][0] = lesioned.has(edge) || isShut(edge, at) ? 0 : 1;
        }
        run(step.late);
        // The new value of a state can be the old array of another one, so copy it before it is overwritten.
        const before = Object.values(step.takes);
        const after = states.map((key) => (before.includes(step.gives[key]) ? step.gives[key].slice() : step.gives[key]));
        states.forEach((key, n) => step.takes[key].set(after[n]));
        const row = {};
        for (const [name, measure] of model.records) row[name] = MEASURES[measure](step.gives["recorded " + name]);
        yield row;
      }
    },
  };
}
