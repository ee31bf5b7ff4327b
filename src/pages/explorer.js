// The data: flat lists over (task, attribute), those of the groups over (task, attribute, group).
const names = data.attributes.map(readable);
const A = names.length;
const taskNames = data.tasks.map(readable);
const K = taskNames.length;

const state = { cursor: null, chosen: null, rows: [], columns: [] };

const small = (value) => value === null ? "–" : value < 0.0001 ? "< 0.0001" : value.toPrecision(2);

// ---------------------------------------------------------------- pairs
function pairAt(task, attribute) {
  const at = task * A + attribute;
  const groups = [0, 1, 2, 3].map((group) => {
    const total = data.total[4 * at + group];
    const correct = data.correct[4 * at + group];
    const interval = data.intervals[4 * at + group];
    return { total, correct, acc: total ? correct / total : null, interval, y: group >> 1, a: group & 1 };
  });
  const signed = data.signed[at];
  return {
    task, attribute, at, groups, signed,
    self: data.tasks[task] === data.attributes[attribute],
    delta: signed === null ? null : Math.abs(signed),
    se: data.se[at], p: data.p[at], q: data.q[at], tested: data.tested[at] === 1,
    phi: data.phi[at], riskDifference: data.riskDifference[at],
    smallest: Math.min(...groups.map((group) => group.total)),
    name: `${data.tasks[task]}:${data.attributes[attribute]}`,
    title: `${taskNames[task]} : ${names[attribute]}`,
  };
}
const pairs = Array.from({ length: K * A }, (_, at) => pairAt(Math.floor(at / A), at % A));
const byName = new Map(pairs.map((pair) => [pair.name, pair]));

// ---------------------------------------------------------------- colours
const RAMPS = {
  light: ["#f4f1ea", "#fbd19b", "#f08a5d", "#c2416b", "#6a1b6e", "#2a0a4a"],
  dark: ["#20252b", "#3d2a5e", "#86307a", "#d2495f", "#f68f46", "#fcf3a6"],
};
const TWO_SIDED = {
  light: ["#1f4e9e", "#8fb4dd", "#f4f1ea", "#eda27d", "#a32a1f"],
  dark: ["#7db8ff", "#36618f", "#20252b", "#95492f", "#ff9a76"],
};
function mix(ramp, share) {
  const place = Math.min(Math.max(share, 0), 1) * (ramp.length - 1);
  const low = Math.min(Math.floor(place), ramp.length - 2);
  const part = (hex, at) => parseInt(hex.slice(at, at + 2), 16);
  const channel = (at) => Math.round(part(ramp[low], at) + (place - low) * (part(ramp[low + 1], at) - part(ramp[low], at)));
  return `rgb(${channel(1)},${channel(3)},${channel(5)})`;
}
const defined = pairs.filter((pair) => !pair.self && pair.delta !== null);
const tested = defined.filter((pair) => pair.tested);
const most = Math.max(1, ...(tested.length ? tested : defined).map((pair) => pair.delta));
const measures = {
  delta: { of: (pair) => pair.delta, low: 0, high: most, ramps: RAMPS, unit: "points" },
  signed: { of: (pair) => pair.signed, low: -most, high: most, ramps: TWO_SIDED, unit: "points" },
  phi: { of: (pair) => pair.phi, low: -1, high: 1, ramps: TWO_SIDED, unit: "" },
};
const measure = () => measures[$("measure").value];
const system = matchMedia("(prefers-color-scheme: dark)");
const ramp = () => measure().ramps[system.matches ? "dark" : "light"];
function colour(pair) {
  const { of, low, high } = measure();
  const value = of(pair);
  return value === null ? "url(#hatch)" : mix(ramp(), (value - low) / (high - low));
}

// ---------------------------------------------------------------- the matrix
const CELL = 17, LEFT = 118, TOP = 112;
const cells = new Array(K * A);
const veils = {}; // stripes over the cells of pairs that have a delta and no test
const rowLabels = [], columnLabels = [];

function buildMatrix() {
  const svg = $("matrix");
  svg.setAttribute("viewBox", `0 0 ${LEFT + K * CELL + 2} ${TOP + A * CELL + 2}`);
  svg.style.maxWidth = `${1.4 * (LEFT + K * CELL)}px`; // few tasks do not become huge
  svg.setAttribute("aria-rowcount", A);
  svg.setAttribute("aria-colcount", K);
  const stripes = (id, ...back) => make("pattern",
    { id, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
    ...back, make("line", { x1: 0, y1: 0, x2: 0, y2: 5, class: "hatch-line" }));
  svg.append(make("defs", {}, stripes("hatch", make("rect", { width: 5, height: 5, class: "hatch-back" })), stripes("untested")));
  for (let attribute = 0; attribute < A; attribute++) {
    const row = make("g", { role: "row" });
    for (let task = 0; task < K; task++) {
      const pair = pairs[task * A + attribute];
      const cell = make("rect", {
        id: `c${pair.at}`, width: CELL, height: CELL, role: "gridcell",
        class: pair.self ? "cell self" : "cell", "aria-label": describe(pair),
      });
      cells[pair.at] = cell;
      row.append(cell);
      if (pair.delta !== null && !pair.tested) {
        veils[pair.at] = make("rect", { width: CELL, height: CELL, fill: "url(#untested)", class: "veil" });
        row.append(veils[pair.at]);
      }
    }
    svg.append(row);
    rowLabels.push(make("text", { "text-anchor": "end", "aria-hidden": "true" }, names[attribute]));
  }
  for (const name of taskNames) columnLabels.push(make("text", { "aria-hidden": "true" }, name));
  svg.append(...rowLabels, ...columnLabels);
  svg.append(make("rect", { id: "chosen", width: CELL, height: CELL, visibility: "hidden" }));
  svg.append(make("rect", { id: "cursor", width: CELL, height: CELL, visibility: "hidden" }));
}

function describe(pair) {
  if (pair.self) return `${names[pair.attribute]}: the task itself`;
  const groups = pair.groups.map((g) => `y=${g.y} a=${g.a} ${percent(g.acc)} % of ${g.total}`).join(", ");
  return `task ${taskNames[pair.task]}, attribute ${names[pair.attribute]}, delta ${number(pair.delta)}, q ${small(pair.q)}, ${groups}`;
}

function sortedBy(count, key) {
  const order = Array.from({ length: count }, (_, at) => at);
  return order.sort((one, other) => key(one) - key(other) || one - other);
}
function mean(list) {
  const values = list.filter((pair) => !pair.self && pair.tested).map((pair) => pair.delta);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0;
}

function arrange() {
  const order = $("order").value;
  if (order === "name") {
    state.rows = sortedBy(A, () => 0);
    state.columns = sortedBy(K, () => 0);
  } else if (order === "delta") {
    state.rows = sortedBy(A, (row) => -mean(pairs.filter((pair) => pair.attribute === row)));
    state.columns = sortedBy(K, (column) => -mean(pairs.filter((pair) => pair.task === column)));
  } else {
    const clusters = data.orders[Number(order)];
    state.rows = sortedBy(A, (row) => clusters.rows[row]);
    state.columns = sortedBy(K, (column) => clusters.columns[column]);
  }
  state.rows.forEach((attribute, y) => {
    const top = TOP + y * CELL;
    rowLabels[attribute].setAttribute("x", LEFT - 5);
    rowLabels[attribute].setAttribute("y", top + CELL - 5);
    state.columns.forEach((task, x) => {
      for (const part of [cells[task * A + attribute], veils[task * A + attribute]]) {
        part?.setAttribute("x", LEFT + x * CELL);
        part?.setAttribute("y", top);
      }
    });
  });
  state.columns.forEach((task, x) => {
    columnLabels[task].setAttribute("transform", `translate(${LEFT + x * CELL + 12},${TOP - 5}) rotate(-90)`);
  });
  placeMarks();
}

function paint() {
  for (const pair of pairs) if (!pair.self) cells[pair.at].setAttribute("fill", colour(pair));
  const canvas = make("canvas", { width: 220, height: 12, "aria-hidden": "true" });
  const drawing = canvas.getContext("2d");
  for (let x = 0; x < 220; x++) {
    drawing.fillStyle = mix(ramp(), x / 219);
    drawing.fillRect(x, 0, 1, 12);
  }
  const { of, low, high, unit } = measure();
  const values = defined.map(of).filter((value) => value !== null);
  const [below, above] = [values.some((value) => value < low) ? "≤ " : "", values.some((value) => value > high) ? "≥ " : ""];
  const sample = (id) => make("svg", { width: 14, height: 14 }, make("rect", { width: 14, height: 14, fill: `url(#${id})` }));
  $("legend").replaceChildren(below + number(low, 0), canvas, `${above}${number(high, 0)} ${unit}`,
    sample("untested"), "not tested: a group under 10", sample("hatch"), "undefined: an empty group");
}

// ---------------------------------------------------------------- filters
let matching = [];

function filter() {
  const q = Number($("q").value) || null;
  const size = Number($("size").value) || 0;
  const words = wordsOf($("search"));
  const holds = (pair) => words.every((word) => pair.title.toLowerCase().includes(word));
  matching = defined.filter((pair) =>
    (q === null || (pair.q !== null && pair.q <= q)) && pair.smallest >= size && holds(pair));
  const shown = new Set(matching.map((pair) => pair.at));
  const restricted = q !== null || size > 0 || words.length > 0;
  for (const pair of pairs) {
    const out = restricted && !shown.has(pair.at);
    cells[pair.at].classList.toggle("out", out);
    veils[pair.at]?.classList.toggle("out", out);
  }
  const found = (name) => words.some((word) => name.toLowerCase().includes(word));
  rowLabels.forEach((label, row) => label.classList.toggle("found", found(names[row])));
  columnLabels.forEach((label, column) => label.classList.toggle("found", found(taskNames[column])));
  $("count").textContent = `${matching.length.toLocaleString("en")} of ${defined.length.toLocaleString("en")} pairs`;
  rank();
}

function rank() {
  // Pairs that were not tested come last: three examples can give any delta.
  const ordered = [...matching].sort((one, other) => other.tested - one.tested || other.delta - one.delta);
  $("list").replaceChildren(...ordered.slice(0, 60).map((pair) => {
    const bar = make("span", { class: "bar", "aria-hidden": "true" });
    bar.style.width = `${Math.min(100, 100 * pair.delta / most)}%`;
    const button = make("button", { type: "button", "aria-current": String(state.chosen === pair) },
      make("span", {}, pair.title + (pair.tested ? "" : " *")), make("span", {}, bar),
      make("span", { class: "number" }, number(pair.delta)));
    button.addEventListener("click", () => choose(pair));
    return make("li", {}, button);
  }));
  if (ordered.length > 60) $("list").append(make("li", { class: "small" }, `and ${ordered.length - 60} more`));
  if (ordered.some((pair) => !pair.tested)) $("list").append(make("li", { class: "small" }, "* a group under 10: not tested"));
}

// ---------------------------------------------------------------- the pair that is open
function choose(pair) {
  if (pair !== null && pair.self) return;
  state.chosen = pair;
  if (pair !== null) state.cursor = pair;
  history.replaceState(null, "", pair === null ? location.pathname : `#${pair.name}`);
  $("pair").replaceChildren(...(pair === null ? [] : details(pair).filter((part) => part !== null)));
  placeMarks();
  rank();
}

function details(pair) {
  const close = make("button", { type: "button", "aria-label": "close" }, "×");
  close.addEventListener("click", () => { choose(null); $("matrix").focus(); });
  const reverse = byName.get(`${data.attributes[pair.attribute]}:${data.tasks[pair.task]}`);
  let swap = null;
  if (reverse) {
    swap = make("button", { type: "button", title: reverse.title }, "⇄ reverse");
    swap.addEventListener("click", () => choose(reverse));
  }
  const model = data.models[pair.task];
  const verdict = pair.tested ? `p ${small(pair.p)}, q ${small(pair.q)}` : "not tested: a group under 10";
  return [
    make("div", { class: "title" }, make("h2", {}, pair.title), swap, close),
    make("p", { class: "figures" }, "delta ", make("b", {}, number(pair.delta)), ` ± ${number(pair.se)} (signed ${number(pair.signed)}), ${verdict}`),
    make("p", { class: "small" }, `y: ${taskNames[pair.task]}, a: ${names[pair.attribute]}`),
    bars(pair),
    make("p", { class: "small" }, make("span", { class: "key agree" }), "label and attribute agree",
      make("span", { class: "key disagree" }), "they disagree"),
    make("p", { class: "small" }, `Train labels: phi ${number(pair.phi, 2)}, P(y=1 | a=1) − P(y=1 | a=0) = ${number(pair.riskDifference, 2)}`),
    faces(pair),
    make("p", { class: "small", title: model.run }, `${shortened(model.run)}, ${model.checkpoint} (epoch ${model.epoch})`),
  ];
}

const shortened = (name) => name.length <= 80 ? name : `${name.slice(0, 25)} … ${name.slice(-50)}`;

function bars(pair) {
  const WIDTH = 360, START = 118, SPAN = 160, ROW = 30;
  const drawing = make("svg", { viewBox: `0 0 ${WIDTH} ${4 * ROW + 18}`, role: "img", "aria-label": describe(pair) });
  pair.groups.forEach((group, at) => {
    const y = at * ROW + 4;
    const x = (share) => START + SPAN * share;
    drawing.append(make("text", { x: 0, y: y + 12 }, `g${at}  y=${group.y} a=${group.a}`),
      make("text", { x: 0, y: y + 24, class: "soft" }, `n = ${group.total.toLocaleString("en")}`),
      make("rect", { x: START, y, width: SPAN, height: 18, rx: 3, class: "track" }));
    if (group.acc !== null) {
      const kind = group.y === group.a ? "agree" : "disagree";
      const [low, high] = group.interval;
      drawing.append(make("rect", { x: START, y, width: SPAN * group.acc, height: 18, rx: 3, class: kind }),
        make("path", { d: `M${x(low)} ${y + 9}H${x(high)}M${x(low)} ${y + 4}v10M${x(high)} ${y + 4}v10`, class: "whisker" }),
        make("text", { x: WIDTH - 74, y: y + 11 }, `${percent(group.acc)} %`),
        make("text", { x: WIDTH - 74, y: y + 23, class: "soft" }, `${percent(low)}–${percent(high)}`));
    } else {
      drawing.append(make("text", { x: WIDTH - 74, y: y + 13, class: "soft" }, "no examples"));
    }
  });
  for (const tick of [0, 50, 100]) {
    drawing.append(make("text", { x: START + SPAN * tick / 100, y: 4 * ROW + 14, class: "soft", "text-anchor": "middle" }, `${tick} %`));
  }
  return drawing;
}

function faces(pair) {
  if (!data.faces.length) return null;
  const grid = make("div", { class: "faces" });
  pair.groups.forEach((group, at) => {
    const fitting = data.faces.filter((face) =>
      face.labels[pair.task] === String(group.y) && face.attributes[pair.attribute] === String(group.a));
    const row = make("div", {}, ...fitting.slice(0, data.facesPerGroup).map((face) => {
      const right = face.right[pair.task] === "1";
      return make("img", { src: face.src, class: right ? "" : "wrong",
        alt: `example of y=${group.y} a=${group.a}, predicted ${right ? "right" : "wrong"}` });
    }));
    grid.append(make("span", {}, `g${at}`), fitting.length ? row : make("span", {}, "no example"));
  });
  return make("div", {}, grid, make("p", { class: "small" }, "A red frame: the model is wrong about the task."));
}

// ---------------------------------------------------------------- cursor, hover, keys
function placeMarks() {
  for (const [id, pair] of [["cursor", state.cursor], ["chosen", state.chosen]]) {
    const mark = $(id);
    mark.setAttribute("visibility", pair === null ? "hidden" : "visible");
    if (pair === null) continue;
    mark.setAttribute("x", cells[pair.at].getAttribute("x"));
    mark.setAttribute("y", cells[pair.at].getAttribute("y"));
  }
  rowLabels.forEach((label, row) => label.classList.toggle("near", state.cursor !== null && state.cursor.attribute === row));
  columnLabels.forEach((label, column) => label.classList.toggle("near", state.cursor !== null && state.cursor.task === column));
  if (state.cursor !== null) $("matrix").setAttribute("aria-activedescendant", `c${state.cursor.at}`);
}

function tip(pair, x, y) {
  if (pair === null) {
    showTip(null);
    return;
  }
  const lines = pair.self ? [names[pair.attribute], "the task itself"] : [
    pair.title,
    `delta ${number(pair.delta)} ± ${number(pair.se)}   q ${small(pair.q)}`,
    ...pair.groups.map((g) => `y=${g.y} a=${g.a}  ${percent(g.acc).padStart(5)} %   n = ${g.total.toLocaleString("en")}`),
    ...(pair.tested ? [] : ["a group under 10: not tested"]),
  ];
  showTip(lines.join("\n"), x, y);
}

function pairUnder(event) {
  const id = event.target.id || "";
  return /^c\d+$/.test(id) ? pairs[Number(id.slice(1))] : null;
}

function move(event) {
  const steps = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    Home: [-K, 0], End: [K, 0], PageUp: [0, -5], PageDown: [0, 5],
  };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    if (state.cursor !== null) choose(state.cursor);
    return;
  }
  const step = steps[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  let [x, y] = [0, 0];
  if (state.cursor !== null) {
    x = Math.min(Math.max(state.columns.indexOf(state.cursor.task) + step[0], 0), K - 1);
    y = Math.min(Math.max(state.rows.indexOf(state.cursor.attribute) + step[1], 0), A - 1);
  }
  state.cursor = pairs[state.columns[x] * A + state.rows[y]];
  placeMarks();
  const place = cells[state.cursor.at].getBoundingClientRect();
  tip(state.cursor, place.right, place.bottom);
}

// ---------------------------------------------------------------- start
function start() {
  const { summary } = data;
  const facts = [
    `${K} tasks × ${A} attributes on ${many(data.images)} images of the ${data.split} split`,
    `${many(summary.tested)} of ${many(summary.pairs)} pairs tested, ${many(summary["q_at_most_0.05"])} of these significant (q ≤ 0.05)`,
    summary.threshold === null ? null : `suggested threshold ${number(summary.threshold)}, the knee of the sorted deltas (${many(summary.above_threshold)} pairs above it, significant or not)`,
    summary.rankCorrelation === null ? null : `rank correlation of delta and |phi| of the labels ${number(summary.rankCorrelation, 2)}`,
  ];
  $("facts").textContent = facts.filter(Boolean).join(" · ");
  $("order").append(make("option", { value: "name" }, "name"), make("option", { value: "delta" }, "mean delta"),
    ...data.orders.map((order, at) => make("option", { value: at }, order.label)));
  buildMatrix();
  arrange();
  paint();
  system.addEventListener("change", paint);
  filter();

  const linked = byName.get(decodeURIComponent(location.hash.slice(1)));
  if (linked) choose(linked);

  $("measure").addEventListener("change", paint);
  $("order").addEventListener("change", arrange);
  for (const id of ["q", "size", "search"]) $(id).addEventListener("input", filter);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", () => setTimeout(() => { arrange(); paint(); filter(); }));

  const svg = $("matrix");
  svg.addEventListener("mousemove", (event) => tip(pairUnder(event), event.clientX, event.clientY));
  svg.addEventListener("mouseleave", () => tip(null));
  svg.addEventListener("blur", () => tip(null));
  svg.addEventListener("keydown", move);
  svg.addEventListener("click", (event) => {
    const pair = pairUnder(event);
    if (pair !== null) choose(pair);
  });
  startKeys(() => choose(null));
}

start();
