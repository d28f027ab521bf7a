const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const constants = DATA.constants.map(floats);
const KINDS = {
  bottom_up: "bottom-up", lateral: "lateral", top_down: "top-down", prediction: "prediction",
  error: "prediction error", modulatory: "modulatory",
};
const [CHANNELS, HEIGHT, WIDTH] = DATA.image, PIXELS = HEIGHT * WIDTH;
const simulations = MODELS.map((model) => simulation(model, constants));
const examples = DATA.examples.map((each) => ({
  ...each, pixels: each.bytes ? Float32Array.from(unpacked(each.bytes), (x) => Math.fround(x / 255)) : floats(each.floats),
}));
const state = {
  mode: 0, example: 0, cut: new Set(), taus: MODELS.map((model) => ({ ...model.tau })),
  occluder: new Float32Array(PIXELS).fill(NaN), brush: { x: WIDTH >> 1, y: HEIGHT >> 1, shown: false },
  rows: [], before: [], at: 0,
};
const model = () => MODELS[state.mode];
const time = (row) => (row + 1) * model().dt;
const short = (x) => (x && Math.abs(x) < 1e-3 ? x.toExponential().replace(/(\.\d\d)\d*/, "$1") : String(Number(x.toPrecision(3))));

function made(parent, tag, attributes = {}, text = "") {
  const isDrawn = parent.namespaceURI === SVG || tag === "svg";
  const element = isDrawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text) element.textContent = text;
  return parent.appendChild(element);
}

// ---------------------------------------------------------------------- running

function shownImage() {
  const image = examples[state.example].pixels.slice();
  for (let n = 0; n < image.length; n++) {
    const shade = state.occluder[n % PIXELS];
    if (!Number.isNaN(shade)) image[n] = shade;
  }
  return image;
}

let turn = 0, beforeKey = "", asked = 0;
const pause = () => new Promise((go) => { const c = new MessageChannel(); c.port1.onmessage = go; c.port2.postMessage(0); });

// Run the network as it is now, then the intact one if the image is new, in slices, so that the page stays responsive.
async function update() {
  const own = ++turn, began = performance.now(), image = shownImage(), mode = state.mode;
  asked = began;
  const collect = async (settings, name) => {
    const found = [];
    let last = performance.now();
    for (const row of simulations[mode].rows(settings)) {
      found.push(row);
      if (performance.now() - last > 24) {
        if (name === "rows") { state.rows = found; drawCurves(); }
        await pause();
        if (own !== turn) return false;
        last = performance.now();
      }
    }
    state[name] = found;
    return true;
  };
  const key = mode + ":" + image.join();
  if (key !== beforeKey) state.before = [];
  if (!(await collect({ image, cut: state.cut, taus: state.taus[mode] }, "rows"))) return;
  drawCurves();
  page.milliseconds = performance.now() - began;
  if (key !== beforeKey) {
    await pause();
    if (own !== turn || !(await collect({ image }, "before"))) return;
    beforeKey = key;
    drawCurves();
  }
  page.settled = own === turn;
}

// ---------------------------------------------------------------------- the image

function paintPixels(canvas, pixels, channels) {
  canvas.width = WIDTH; canvas.height = HEIGHT;
  const context = canvas.getContext("2d"), data = context.createImageData(WIDTH, HEIGHT);
  for (let n = 0; n < PIXELS; n++) {
    for (let c = 0; c < 3; c++) data.data[4 * n + c] = 255 * pixels[n + (channels === 3 ? c * PIXELS : 0)];
    data.data[4 * n + 3] = 255;
  }
  context.putImageData(data, 0, 0);
}

function drawImage() {
  paintPixels($("canvas"), shownImage(), CHANNELS);
  if (state.brush.shown) {
    const context = $("canvas").getContext("2d"), size = Number($("size").value);
    context.strokeStyle = "#3a86ff"; context.lineWidth = 0.6;
    context.strokeRect(Math.round(state.brush.x - (size - 1) / 2) - 0.3, Math.round(state.brush.y - (size - 1) / 2) - 0.3, size + 0.6, size + 0.6);
  }
  const covered = state.occluder.reduce((count, x) => count + !Number.isNaN(x), 0);
  const label = examples[state.example].label;
  const text = (label === null ? "Image" : `Digit ${label}`) + (covered ? `, ${Math.round(100 * covered / PIXELS)} % covered by you` : "");
  $("canvas-text").textContent = text;
  $("canvas").setAttribute("aria-label", `${text}. Arrow keys move the brush, Space paints, Delete removes the occluder.`);
}

function dab(x, y) {
  const size = Number($("size").value), shade = document.querySelector("input[name=shade]:checked").value;
  const left = Math.round(x - (size - 1) / 2), top = Math.round(y - (size - 1) / 2);
  for (let v = top; v < top + size; v++) for (let u = left; u < left + size; u++) {
    if (u >= 0 && v >= 0 && u < WIDTH && v < HEIGHT) state.occluder[v * WIDTH + u] = shade === "erase" ? NaN : Number(shade);
  }
}

// The median of all pixels.
function backdrop() {
  const values = examples.flatMap((each) => Array.from(each.pixels)).sort((a, b) => a - b);
  return String(values[values.length >> 1]);
}

function setUpImage() {
  const canvas = $("canvas"), brush = state.brush;
  const shades = [["0", "black"], [backdrop(), "background"], ["1", "white"], ["erase", "erase"]];
  for (const [value, name] of shades) {
    const label = made($("shades"), "label", { class: "choice" });
    const input = made(label, "input", { type: "radio", name: "shade", value });
    input.checked = name === "black";
    made(label, "span", {}, name);
  }
  const place = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width * WIDTH - 0.5, (event.clientY - frame.top) / frame.height * HEIGHT - 0.5];
  };
  let last = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event); dab(...last); brush.shown = false; drawImage(); update();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    const next = place(event), count = Math.max(1, Math.ceil(Math.hypot(next[0] - last[0], next[1] - last[1])));
    for (let n = 1; n <= count; n++) dab(last[0] + (next[0] - last[0]) * n / count, last[1] + (next[1] - last[1]) * n / count);
    last = next; drawImage(); update();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { last = null; });
  canvas.addEventListener("blur", () => { brush.shown = false; drawImage(); });
  canvas.addEventListener("focus", () => { brush.shown = canvas.matches(":focus-visible"); drawImage(); });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, move = moves[event.key];
    if (move) {
      const far = event.shiftKey ? 4 : 1;
      brush.x = Math.min(WIDTH - 1, Math.max(0, brush.x + far * move[0]));
      brush.y = Math.min(HEIGHT - 1, Math.max(0, brush.y + far * move[1]));
    } else if (event.key === " " || event.key === "Enter") { dab(brush.x, brush.y); update(); }
    else if (event.key === "Delete" || event.key === "Backspace") { state.occluder.fill(NaN); update(); }
    else return;
    brush.shown = true; event.preventDefault(); drawImage();
  });
  const showSize = () => { $("size-text").textContent = `${$("size").value} px`; drawImage(); };
  $("size").addEventListener("input", showSize);
  $("clean").addEventListener("click", () => { state.occluder.fill(NaN); drawImage(); update(); });
  examples.forEach((each, number) => {
    const label = made($("examples"), "label", { class: "choice" });
    const name = each.label === null ? `image ${number + 1}` : `digit ${each.label}, image ${number + 1}`;
    const input = made(label, "input", { type: "radio", name: "example", value: number, "aria-label": name });
    input.checked = number === 0;
    paintPixels(made(label, "canvas", { "aria-hidden": "true" }), each.pixels, CHANNELS);
    input.addEventListener("change", () => { state.example = number; drawImage(); update(); });
  });
  showSize();
}

// ---------------------------------------------------------------------- the network

// A polyline with rounded corners.
function rounded(points) {
  const toward = ([x, y], [u, v]) => {
    const far = Math.hypot(u - x, v - y) || 1, step = Math.min(12, far / 2);
    return [x + (u - x) * step / far, y + (v - y) * step / far];
  };
  let path = `M${points[0]}`;
  for (let n = 1; n < points.length - 1; n++) {
    path += `L${toward(points[n], points[n - 1])}Q${points[n]} ${toward(points[n], points[n + 1])}`;
  }
  return `${path}L${points[points.length - 1]}`;
}

function middle(points) {
  const lengths = points.slice(1).map(([x, y], n) => Math.hypot(x - points[n][0], y - points[n][1]));
  let left = lengths.reduce((a, b) => a + b, 0) / 2, n = 0;
  while (n < lengths.length - 1 && left > lengths[n]) left -= lengths[n++];
  const share = left / (lengths[n] || 1), [x, y] = points[n], [u, v] = points[n + 1];
  return [x + (u - x) * share, y + (v - y) * share];
}

function edgeText(edge) {
  return `${edge.source} to ${edge.target}, ${KINDS[edge.kind]}${edge.delay && !model().isFlow ? `, delay ${edge.delay} step${edge.delay > 1 ? "s" : ""}` : ""}`;
}

function setUpNetwork() {
  const graph = $("graph"), { view, boxes, edges } = DATA.graph;
  graph.setAttribute("viewBox", view.join(" "));
  graph.style.maxWidth = `${view[2] * 0.8}px`;
  const defs = made(graph, "defs");
  const kinds = [...new Set(edges.map((edge) => edge.kind))];
  for (const kind of [...kinds, "cut"]) {
    const marker = made(defs, "marker", { id: `head-${kind}`, class: kind, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 17, markerHeight: 17, markerUnits: "userSpaceOnUse", orient: "auto" });
    made(marker, "path", { d: "M0 0L10 5L0 10z", class: "head", style: kind === "cut" ? "fill: var(--cut)" : "" });
  }
  for (const box of boxes) {
    const group = made(graph, "g", { class: `box${box.isInput ? " input" : ""}` });
    made(group, "rect", { x: box.x - 50, y: box.y - 20, width: 100, height: 40, rx: 7 });
    const text = made(group, "text", { x: box.x, y: box.y }, box.name);
    if (box.name.length > 7) { text.setAttribute("textLength", 92); text.setAttribute("lengthAdjust", "spacingAndGlyphs"); }
  }
  for (const edge of edges) {
    const group = made(graph, "g", { class: `edge ${edge.kind}`, tabindex: 0, role: "switch", "data-edge": edge.name });
    made(group, "title");
    const d = rounded(edge.route);
    made(group, "path", { class: "hit", d });
    made(group, "path", { class: "drawn", d, "marker-end": `url(#head-${edge.kind})` });
    const [x, y] = middle(edge.route);
    made(group, "path", { class: "cross", d: `M${x - 11} ${y - 11}l22 22m0 -22l-22 22` });
    group.addEventListener("click", () => flip(edge.name));
    group.addEventListener("keydown", (event) => {
      if (event.key === " " || event.key === "Enter") { event.preventDefault(); flip(edge.name); }
    });
    const label = made($("switches"), "label");
    const input = made(label, "input", { type: "checkbox", "data-edge": edge.name });
    input.addEventListener("change", () => flip(edge.name));
    made(label, "span");
  }
  for (const kind of kinds) {
    const item = made($("kinds"), "li", { class: kind });
    made(made(item, "svg", { viewBox: "0 0 34 10", "aria-hidden": "true" }), "line", { class: "key", x1: 0, x2: 34, y1: 5, y2: 5 });
    item.append(KINDS[kind]);
  }
  $("restore").addEventListener("click", () => { state.cut.clear(); drawNetwork(); update(); });
  if (MODELS.length > 1) {
    $("modes").hidden = false;
    MODELS.forEach((each, number) => {
      const label = made($("modes"), "label", { class: "choice" });
      const input = made(label, "input", { type: "radio", name: "mode", value: number });
      input.checked = number === 0;
      made(label, "span", {}, each.label);
      input.addEventListener("change", () => { state.mode = number; state.rows = []; setUpTaus(); setUpCursor(); drawNetwork(); drawFacts(); update(); });
    });
  }
}

function flip(name) {
  if (!state.cut.delete(name)) state.cut.add(name);
  drawNetwork();
  update();
}

function drawNetwork() {
  for (const edge of DATA.graph.edges) {
    const isOpen = !state.cut.has(edge.name), text = edgeText(edge);
    const group = document.querySelector(`.edge[data-edge="${CSS.escape(edge.name)}"]`);
    group.setAttribute("aria-checked", isOpen);
    group.setAttribute("aria-label", text);
    group.querySelector("title").textContent = `${text}. Click to ${isOpen ? "cut" : "restore"}.`;
    group.querySelector(".drawn").setAttribute("marker-end", `url(#head-${isOpen ? edge.kind : "cut"})`);
    const input = document.querySelector(`input[data-edge="${CSS.escape(edge.name)}"]`);
    input.checked = isOpen;
    input.nextSibling.textContent = text;
  }
  $("restore").disabled = state.cut.size === 0;
}

function setUpTaus() {
  const place = $("taus"), taus = state.taus[state.mode], own = model().tau;
  place.textContent = "";
  const names = Object.keys(own);
  if (!names.length && MODELS.length > 1) made(place, "p", {}, "Time constants exist only in continuous time.");
  for (const name of names) {
    const low = Math.log2(Math.max(2 * model().dt, own[name] / 4)), label = made(place, "label");
    made(label, "span", {}, `tau of ${name}`);
    const input = made(label, "input", { type: "range", min: low, max: Math.log2(own[name] * 8), step: "any" });
    const output = made(label, "output");
    const show = () => { output.textContent = `${short(taus[name])} ms`; input.setAttribute("aria-valuetext", output.textContent); };
    input.value = Math.log2(taus[name]);
    input.addEventListener("input", () => { taus[name] = Number((2 ** input.value).toPrecision(3)); show(); update(); });
    show();
  }
  if (names.length) {
    made(made(place, "p", { class: "tools" }), "button", { type: "button" }, "Restore time constants").addEventListener("click", () => {
      Object.assign(taus, own); setUpTaus(); update();
    });
  }
}

// ---------------------------------------------------------------------- the curves

function setUpCursor() {
  $("cursor").max = model().steps - 1;
  $("cursor").value = state.at = model().steps - 1;
}

// About `count` round numbers in [low, top].
function ticks(low, top, count = 4) {
  const rough = (top - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-6), last = Math.floor(top / step + 1e-6);
  return Array.from({ length: last - first + 1 }, (_, n) => (first + n) * step);
}

// Draw curves over time. A line has points [ms, value], a colour, a label and a class.
function chart(svg, { lines, label, low, top, high = 230, isLast = true }) {
  const wide = Math.max(260, svg.clientWidth || 480), left = 62, right = 46, up = 8, down = isLast ? 40 : 12;
  svg.setAttribute("viewBox", `0 0 ${wide} ${high}`);
  svg.setAttribute("height", high);
  svg.textContent = "";
  const end = model().steps * model().dt;
  const x = (t) => left + (wide - left - right) * t / end, y = (v) => high - down - (high - up - down) * (v - low) / (top - low || 1);
  for (const value of ticks(low, top, high > 200 ? 4 : 3)) {
    made(svg, "line", { class: "grid", x1: left, x2: wide - right, y1: y(value), y2: y(value) });
    made(svg, "text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, short(value));
  }
  for (const value of ticks(0, end)) {
    if (isLast) made(svg, "text", { x: x(value), y: high - down + 18, "text-anchor": "middle" }, short(value));
    made(svg, "line", { class: "axis", x1: x(value), x2: x(value), y1: high - down, y2: high - down + 4 });
  }
  made(svg, "line", { class: "axis", x1: left, x2: wide - right, y1: high - down, y2: high - down });
  if (isLast) made(svg, "text", { x: (left + wide - right) / 2, y: high - 4, "text-anchor": "middle" }, "time (ms)");
  made(svg, "text", { transform: `translate(13 ${(high - down + up) / 2}) rotate(-90)`, "text-anchor": "middle" }, label);
  if (DATA.picture && state.rows.length) {
    const at = x(time(Math.min(state.at, state.rows.length - 1)));
    made(svg, "line", { class: "at", x1: at, x2: at, y1: up, y2: high - down });
  }
  const ends = [];
  for (const line of lines) {
    const points = line.points.filter(([, v]) => Number.isFinite(v)).map(([t, v]) => [x(t), y(Math.min(top, Math.max(low, v)))]);
    if (!points.length) continue;
    made(svg, "path", { class: line.kind || "", d: "M" + points.join("L"), stroke: line.colour, "stroke-width": line.width || 2, opacity: line.opacity || 1 });
    if (model().steps <= 12 && !line.kind) for (const [u, v] of points) made(svg, "circle", { cx: u, cy: v, r: 2.5, fill: line.colour, opacity: line.opacity || 1 });
    if (line.label) ends.push({ y: points[points.length - 1][1], line });
  }
  ends.sort((a, b) => a.y - b.y);
  for (let n = 1; n < ends.length; n++) ends[n].y = Math.max(ends[n].y, ends[n - 1].y + 14);
  const over = ends.length ? ends[ends.length - 1].y - (high - down) : 0;
  for (const each of ends) {
    made(svg, "text", { x: wide - right + 6, y: each.y - Math.max(0, over) + 4, style: `fill: ${each.line.colour}; font-weight: 600` }, each.line.label);
  }
}

function bounds(lines, least) {
  const values = lines.flatMap((line) => line.points.map(([, v]) => v)).filter(Number.isFinite);
  const top = Math.max(least, ...values), low = Math.min(0, ...values);
  return { low: low < -0.02 * top ? low * 1.05 : 0, top: top * 1.05 };
}

function best(row) {
  const values = row[DATA.readout.name];
  return values.indexOf(Math.max(...values));
}

function drawReadout() {
  const { name, softmax } = DATA.readout, { rows, before } = state;
  if (!rows.length) return;
  const label = examples[state.example].label, last = rows[rows.length - 1], first = best(last);
  const points = (from, n) => from.map((row, at) => [time(at), row[name][n]]);
  const classes = last[name].map((_, n) => n).sort((a, b) => (a === first) - (b === first) || (a === label) - (b === label));
  const colour = (n) => (n === label ? "var(--true)" : n === first ? "var(--top)" : "var(--soft)");
  const isMain = (n) => n === label || n === first;
  const lines = classes.map((n) => ({ points: points(rows, n), colour: colour(n), width: isMain(n) ? 2.75 : 1, opacity: isMain(n) ? 1 : 0.5, label: isMain(n) || (softmax && last[name][n] > 0.15) ? String(n) : "" }));
  const dotted = classes.filter(isMain).map((n) => ({ points: points(before, n), colour: colour(n), kind: "before", width: 2 }));
  chart($("readout"), { lines: [...dotted, ...lines], label: softmax ? "probability" : `activity of ${name}`, ...(softmax ? { low: 0, top: 1 } : bounds([...lines, ...dotted], 0.1)) });
  const say = (row) => `${best(row)} (${row[name][best(row)].toFixed(2)})`;
  const isFinite = last[name].every(Number.isFinite);
  const intact = before.length ? before[before.length - 1] : null;
  const what = softmax ? "probability" : "activity";
  const answer = $("answer");
  answer.textContent = "";
  if (!isFinite) answer.textContent = "The activity grew without bound. Restore a connection or a time constant.";
  else {
    made(answer, "strong", {}, `Answer ${first}`);
    answer.append(`, ${what} ${last[name][first].toFixed(2)} at ${short(time(rows.length - 1))} ms.` + (label === null ? "" : ` True digit: ${label}.`) + (intact ? ` Intact: ${say(intact)}.` : ""));
  }
  $("readout").setAttribute("aria-label", `Readout over time, ${what} of each digit. ${answer.textContent}`);
  legend($("readout-legend"), [
    ...(label === null ? [] : [[`true digit, ${label}`, "var(--true)"]]), ...(first === label ? [] : [[`answer, ${first}`, "var(--top)"]]),
    ["other digits", "var(--soft)"], ["intact network", "var(--soft)", "before"],
  ]);
}

function legend(place, items) {
  place.textContent = "";
  for (const [text, colour, kind] of items) {
    const item = made(place, "li"), drawing = made(item, "svg", { viewBox: "0 0 34 10", class: "chart", "aria-hidden": "true" });
    made(drawing, "path", { d: "M1 5L33 5", stroke: colour, "stroke-width": 3, class: kind || "" });
    item.append(text);
  }
}

// A panel for each value, because errors of different layers differ in size.
function drawTraces() {
  const { names, title, label } = DATA.traces, { rows, before } = state;
  $("traces-title").textContent = `${title} (${label})`;
  const points = (from, name) => from.map((row, at) => [time(at), row[name]]);
  names.forEach((name, n) => {
    const svg = $("traces").children[n] ?? made($("traces"), "svg", { class: "chart", role: "img" });
    const colour = `var(--s${n % 6})`, now = { points: points(rows, name), colour, width: 2.5, label: name };
    const dotted = { points: points(before, name), colour, kind: "before", width: 2 }, isLast = n === names.length - 1;
    chart(svg, { lines: [dotted, now], label: "", high: isLast ? 150 : 120, isLast, ...bounds([now, dotted], 1e-12) });
    const last = rows[rows.length - 1];
    svg.setAttribute("aria-label", `${label} of ${name} over time` + (last ? `, at the end ${short(last[name])}` : ""));
  });
}

function drawPicture() {
  if (!DATA.picture || !state.rows.length) return;
  const row = Math.min(state.at, state.rows.length - 1), text = `${DATA.picture}, prediction at ${short(time(row))} ms`;
  paintPixels($("predicted"), state.rows[row][DATA.picture], CHANNELS);
  $("picture-text").textContent = text;
  $("predicted").setAttribute("aria-label", text);
  $("cursor-text").textContent = `${short(time(row))} ms`;
}

function drawCurves() { drawReadout(); drawTraces(); drawPicture(); }

function drawFacts() {
  const place = $("facts"), taus = Object.entries(model().tau).map(([name, tau]) => `${name} ${short(tau)}`).join(", ");
  place.textContent = "";
  const shown = [...DATA.facts, ["solver", model().solver], ["dt", `${short(model().dt)} ms`], ...(taus ? [["tau", `${taus} ms`]] : [])];
  for (const [key, value] of shown) {
    const row = made(place, "div");
    made(row, "dt", {}, key);
    made(row, "dd", {}, value);
  }
}

// The page's own interface, for tests and consoles: page.rows({mode, example, cut, taus}) runs without drawing.
const page = {
  milliseconds: null, settled: false,
  rows: ({ mode = 0, example = 0, image = examples[example].pixels, cut = [], taus = {} }) => [...simulations[mode].rows({ image, cut, taus })],
};
globalThis.page = page;

setUpImage();
setUpNetwork();
setUpTaus();
drawNetwork();
drawFacts();
if (DATA.picture) {
  $("picture").hidden = $("cursor-label").hidden = false;
  $("cursor").addEventListener("input", () => { state.at = Number($("cursor").value); drawCurves(); });
}
setUpCursor();
addEventListener("resize", drawCurves);
update();
