// data.pairs: a task and an attribute each, with delta, q and the figures of the four groups.
const nameOf = (task, attribute) => `${task}:${attribute}`;
const titleOf = (pair) => `${readable(pair.task)} : ${readable(pair.attribute)}`;
const byName = new Map(data.pairs.map((pair) => [nameOf(pair.task, pair.attribute), pair]));
const defined = data.pairs.filter((pair) => pair.delta !== null);
const tested = defined.filter((pair) => pair.tested);
const most = Math.max(1, ...(tested.length ? tested : defined).map((pair) => pair.delta));
const MEASURES = {
  delta: { of: (pair) => pair.delta, low: 0, high: most, unit: "points" },
  signed: { of: (pair) => pair.signed_delta, low: -most, high: most, unit: "points" },
  phi: { of: (pair) => pair.phi, low: -1, high: 1, unit: "" },
};
const UNTESTED = "not tested: a group under 10";
const MOST_LISTED = 60;
const state = { cursor: null, open: null }; // names of pairs

const small = (value) => value === null ? "–" : value < 0.0001 ? "< 0.0001" : value.toPrecision(2);

function describe(pair) {
  return [
    titleOf(pair), `delta ${number(pair.delta)} ± ${number(pair.se)}   q ${small(pair.q)}`,
    ...pair.groups.map(({ acc, total }, g) => `y=${g >> 1} a=${g & 1}  ${percent(acc).padStart(5)} %   n = ${many(total)}`),
    ...(pair.tested ? [] : [UNTESTED]),
  ].join("\n");
}

// ---------------------------------------------------------------- the matrix
function cellOf(task, attribute, isShown) {
  const name = nameOf(task, attribute), pair = byName.get(name);
  const marks = `${name === state.cursor ? " cursor" : ""}${name === state.open ? " open" : ""}`;
  if (!pair) return make("td", { class: `self${marks}`, "data-name": name, "data-tip": `${readable(task)}: the task itself` });
  const { of, high } = MEASURES[$("measure").value];
  const value = of(pair), text = describe(pair);
  const kind = value === null ? "undefined" : `${value < 0 ? "minus" : "plus"}${pair.tested || pair.delta === null ? "" : " untested"}`;
  const cell = make("td", { class: `${kind}${isShown ? "" : " out"}${marks}`, "data-name": name, "data-tip": text, "aria-label": text });
  cell.style.setProperty("--share", `${Math.min(100, 100 * Math.abs(value) / high)}%`);
  return cell;
}

function showMatrix(shown) {
  const { rows, columns } = data.orders[Number($("order").value)];
  const [task, attribute] = (state.cursor || ":").split(":");
  const head = (name, isNear, scope) => make("th", { scope, class: isNear ? "near" : "" }, make("span", {}, readable(name)));
  $("matrix").replaceChildren(
    make("tr", {}, make("td"), ...columns.map((name) => head(name, name === task, "col"))),
    ...rows.map((row) => make("tr", {}, head(row, row === attribute, "row"),
      ...columns.map((column) => cellOf(column, row, shown.has(byName.get(nameOf(column, row))))))));
}

function showLegend() {
  const { of, low, high, unit } = MEASURES[$("measure").value];
  const values = defined.map(of).filter((value) => value !== null);
  const [below, above] = [values.some((value) => value < low) ? "≤ " : "", values.some((value) => value > high) ? "≥ " : ""];
  const sample = (kind) => make("span", { class: `sample ${kind}` });
  $("legend").replaceChildren(below + number(low, 0), sample(low < 0 ? "two-sided" : "one-sided"), `${above}${number(high, 0)} ${unit}`,
    sample("untested"), UNTESTED, sample("undefined"), "undefined: an empty group");
}

// ---------------------------------------------------------------- filters and the list
function show() {
  const q = Number($("q").value), size = Number($("size").value);
  const shown = defined.filter((pair) => (!q || (pair.q !== null && pair.q <= q))
    && Math.min(...pair.groups.map(({ total }) => total)) >= size && isFound(titleOf(pair)));
  const isRestricted = q || size || $("search").value.trim();
  $("count").textContent = `${many(shown.length)} of ${many(defined.length)} pairs`;
  showMatrix(new Set(isRestricted ? shown : data.pairs));
  showLegend();
  // Pairs that were not tested come last: three examples can give any delta.
  const ordered = shown.sort((one, other) => other.tested - one.tested || other.delta - one.delta);
  $("list").replaceChildren(...ordered.slice(0, MOST_LISTED).map((pair) => {
    const name = nameOf(pair.task, pair.attribute);
    const parts = [make("span", {}, titleOf(pair) + (pair.tested ? "" : " *")),
      make("progress", { max: most, value: pair.delta }), make("span", { class: "number" }, number(pair.delta))];
    return make("li", {}, button(parts, () => open(name), { "aria-current": String(name === state.open) }));
  }));
  if (ordered.length > MOST_LISTED) $("list").append(make("li", { class: "soft" }, `and ${ordered.length - MOST_LISTED} more`));
  if (ordered.some((pair) => !pair.tested)) $("list").append(make("li", { class: "soft" }, `* ${UNTESTED}`));
}

// ---------------------------------------------------------------- the pair that is open
function open(name) {
  const pair = byName.get(name);
  state.open = pair ? name : null;
  state.cursor = pair ? name : state.cursor;
  history.replaceState(null, "", pair ? `#${name}` : location.pathname);
  $("pair").replaceChildren(...(pair ? details(pair) : []));
  show();
}

function details(pair) {
  const reverse = nameOf(pair.attribute, pair.task);
  const { run, checkpoint, epoch } = data.models[pair.task];
  const short = run.length <= 80 ? run : `${run.slice(0, 25)} … ${run.slice(-50)}`;
  return [
    make("h2", {}, titleOf(pair)),
    make("p", {}, byName.has(reverse) ? button("⇄ reverse", () => open(reverse)) : null, " ", button("close", () => open(null))),
    make("p", {}, "delta ", make("b", {}, number(pair.delta)), ` ± ${number(pair.se)} (signed ${number(pair.signed_delta)}), ${
      pair.tested ? `p ${small(pair.p)}, q ${small(pair.q)}` : UNTESTED}`),
    make("table", {}, ...pair.groups.map((group, g) => make("tr", {},
      make("th", { scope: "row" }, `g${g}  y=${g >> 1} a=${g & 1}`), make("td", {}, `n = ${many(group.total)}`),
      make("td", {}, make("progress", { value: group.acc ?? 0 })),
      make("td", {}, group.acc === null ? "no examples" : `${percent(group.acc)} % (${percent(group.low)}–${percent(group.high)})`)))),
    make("p", { class: "soft" }, `y: ${readable(pair.task)}, a: ${readable(pair.attribute)}. Train labels: phi ${
      number(pair.phi, 2)}, P(y=1 | a=1) − P(y=1 | a=0) = ${number(pair.risk_difference, 2)}`),
    ...(data.faces.length ? faces(pair) : []),
    make("p", { class: "soft", title: run }, `${short}, ${checkpoint} (epoch ${epoch})`),
  ];
}

function faces(pair) {
  const [task, attribute] = [data.tasks.indexOf(pair.task), data.attributes.indexOf(pair.attribute)];
  const rows = [0, 1, 2, 3].map((g) => {
    const [y, a] = [g >> 1, g & 1];
    const fitting = data.faces.filter((face) => face.labels[task] === String(y) && face.attributes[attribute] === String(a));
    return make("div", { class: "faces" }, `g${g} `, ...fitting.slice(0, data.facesPerGroup).map((face) => {
      const isRight = face.right[task] === "1";
      return make("img", { src: face.src, class: isRight ? "" : "wrong", alt: `example of y=${y} a=${a}, predicted ${isRight ? "right" : "wrong"}` });
    }), fitting.length ? null : "no example");
  });
  return [...rows, make("p", { class: "soft" }, "A red frame: the model is wrong about the task.")];
}

// ---------------------------------------------------------------- keys and start
function move(event) {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (event.key === "Enter" && state.cursor) open(state.cursor);
  if (!step) return;
  event.preventDefault();
  const { rows, columns } = data.orders[Number($("order").value)];
  const [task, attribute] = state.cursor ? state.cursor.split(":") : [];
  const next = (list, name, by) => list[Math.min(Math.max(name ? list.indexOf(name) + by : 0, 0), list.length - 1)];
  state.cursor = nameOf(next(columns, task, step[0]), next(rows, attribute, step[1]));
  show();
  const cell = document.querySelector("#matrix .cursor"), { right, bottom } = cell.getBoundingClientRect();
  showTip(cell, right, bottom);
}

function start() {
  const { summary } = data;
  $("facts").textContent = [
    `${data.tasks.length} tasks × ${data.attributes.length} attributes on ${many(data.images)} images of the ${summary.split} split`,
    `${many(summary.tested)} of ${many(summary.pairs)} pairs tested, ${many(summary["q_at_most_0.05"])} of these significant (q ≤ 0.05)`,
    summary.threshold === null ? null : `suggested threshold ${number(summary.threshold)}, the knee of the sorted deltas (${many(summary.above_threshold)} pairs above it, significant or not)`,
    summary.rank_correlation_of_phi_and_delta === null ? null : `rank correlation of delta and |phi| of the labels ${number(summary.rank_correlation_of_phi_and_delta, 2)}`,
  ].filter(Boolean).join(" · ");
  $("order").append(...data.orders.map(({ label }, at) => make("option", { value: at }, label)));
  open(decodeURIComponent(location.hash.slice(1)));
  listen(show, () => open(null));
  $("matrix").addEventListener("keydown", move);
  $("matrix").addEventListener("click", (event) => byName.has(event.target.dataset.name) && open(event.target.dataset.name));
}

start();
