// The data: `rows`, one per task, method and rule over seeds; `runs`, one per network; see
// src/report_page.py. Accuracies are fractions.
const runs = data.runs;
const rows = data.rows;
const MEASURES = { worst_group: "worst group", average: "average" };
const WEIGHTINGS = { static_equal: "equal", static_delta: "by delta", dynamic: "dynamic (LBTW)" };
const RULE_NAMES = {
  "best-avg": "average", "best-group": "worst group", "best-worst": "worst task",
  "best-avg-own": "own average", "best-group-own": "own worst group", last: "last epoch",
};
const RULE_HELP = {
  "best-avg": "the epoch with the best mean over tasks of validation average accuracy",
  "best-group": "the epoch with the best mean over tasks of validation worst-group accuracy",
  "best-worst": "the epoch whose worst task has the best validation worst-group accuracy",
  "best-avg-own": "for each task the epoch with its own best validation average accuracy (best-avg-{task})",
  "best-group-own": "for each task the epoch with its own best validation worst-group accuracy (best-group-{task})",
  last: "the last epoch",
};
const ruleName = (rule) => RULE_NAMES[rule] || (/^\d+$/.test(rule) ? `epoch ${rule}` : rule);
const DEFAULTS = {
  split: data.splits[0], rule: data.rules.includes("best-group") ? "best-group" : data.rules[0], measure: "worst_group",
};
const state = { ...DEFAULTS, sort: "task", down: false, open: null };

// ---------------------------------------------------------------- words for rows
const taskName = (grouping) => readable(grouping).replace(":", " : ");
const partners = (row) => row.groupings.filter((grouping) => grouping !== row.grouping).map(taskName);
const company = (row) => partners(row).length ? `with ${partners(row).join(", ")}` : "alone";
const methodName = (method) => method.toUpperCase();
const weighting = (row) => row.groupings.length > 1 ? WEIGHTINGS[row.weighting] || row.weighting : "–";
const SETTING_NAMES = { weight_decay: "wd", batch_size: "batch" };
const settingsOf = (row) => data.settings.filter((name) => name in row.settings)
  .map((name) => `${SETTING_NAMES[name] || readable(name)} ${spell(row.settings[name])}`).join(", ");
const spell = (value) => value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
const span = (figure) => figure.low === null || figure.low === undefined ? "–" : `${percent(figure.low)} to ${percent(figure.high)}`;
const signed = (share) => share === null ? "–" : (share > 0 ? "+" : "") + percent(share);
const uniq = (list) => [...new Set(list)];
// "Male=1 (n = 180)"; of several seeds with different worst groups all of them.
const worstNames = (row) => uniq((row.worst_group.groups || []).map((name, at) =>
  name === null ? null : `${readable(name)} (n = ${many(row.worst_group.totals[at])})`).filter(Boolean)).join("; ") || "no group has images";
const seedText = (row) => row.seeds.length > 1 ? `seeds ${row.seeds.join(", ")}` : `seed ${row.seeds[0]}: ${row.interval}`;

// ---------------------------------------------------------------- the table
const mean = (row, measure) => row[measure].mean;
const COLUMNS = [
  { key: "task", label: "task", of: (row) => row.grouping + row.groupings.length },
  { key: "method", label: "method", of: (row) => row.method },
  { key: "weighting", label: "weights", of: (row) => weighting(row) },
  { key: "average", label: "average %", of: (row) => mean(row, "average"), num: true },
  { key: "worst_group", label: "worst group %", of: (row) => mean(row, "worst_group"), num: true },
  { key: "which", label: "which group", of: worstNames },
  { key: "difference", label: "MTL − STL", of: (row) => row.difference ? row.difference.worst_group.difference : null, num: true, hidden: !rows.some((row) => row.difference) },
  { key: "reference", label: "published", of: (row) => row.reference ? row.reference.worst_group : null, num: true, hidden: !rows.some((row) => row.reference) },
  { key: "settings", label: "settings", of: (row) => settingsOf(row), hidden: !data.settings.length },
  { key: "seeds", label: "seeds", of: (row) => row.seeds.length, num: true },
  { key: "epochs", label: "epoch", of: (row) => row.epochs[0], num: true },
].filter((column) => !column.hidden);

function figureCell(figure) {
  if (figure.mean === null) return [make("span", { class: "soft" }, "–"), make("span", { class: "under" }, "no images")];
  const std = figure.std === null || figure.std === undefined ? "" : ` ± ${percent(figure.std)}`;
  return [make("b", {}, percent(figure.mean)), make("span", { class: "soft" }, std), make("span", { class: "under" }, span(figure))];
}

function differenceCell({ difference }) {
  if (!difference || difference.worst_group.difference === null) return ["–"];
  const { difference: value, low, high } = difference.worst_group;
  const tone = low > 0 ? "good" : high < 0 ? "bad" : "";
  return [make("b", { class: tone }, signed(value)), make("span", { class: "under" }, low === null ? "–" : `${signed(low)} to ${signed(high)}`)];
}

function referenceCell({ reference }) {
  if (!reference) return ["–"];
  const std = reference.std === null || reference.std === undefined ? "" : ` ± ${percent(reference.std)}`;
  return [`${percent(reference.worst_group)}${std}`,
    make("span", { class: "under", title: String(reference.source) }, `${reference.verdict} (${signed(reference.difference)})`)];
}

const CELLS = {
  method: (row) => [make("span", { class: `key t-${toneOf(row.method)}` }), methodName(row.method)],
  weighting: (row) => [weighting(row)],
  settings: (row) => [settingsOf(row)],
  average: (row) => figureCell(row.average),
  worst_group: (row) => figureCell(row.worst_group),
  which: (row) => [make("span", { class: "under" }, worstNames(row))],
  difference: differenceCell,
  reference: referenceCell,
  seeds: (row) => [String(row.seeds.length), make("span", { class: "under" }, row.seeds.length > 1 ? "" : row.interval)],
  epochs: (row) => [uniq(row.epochs).join(", ")],
};

function buildHead() {
  $("table").tHead.replaceChildren(make("tr", {}, ...COLUMNS.map(({ key, label, num }) => {
    const button = make("button", { type: "button", "data-key": key }, label);
    button.addEventListener("click", () => {
      state.down = state.sort === key ? !state.down : Boolean(num);
      state.sort = key;
      showTable();
    });
    return make("th", { scope: "col", class: num ? "num" : "", "aria-sort": "none" }, button);
  })));
}

let visible = [];

function sorted(list) {
  const { of } = COLUMNS.find(({ key }) => key === state.sort);
  const keyed = list.map((row, at) => ({ row, at, value: of(row) }));
  const order = (one, other) => typeof one === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
  // What has no value comes last, whichever way.
  keyed.sort((one, other) => (one.value === null) - (other.value === null)
    || (one.value === null ? 0 : (state.down ? -1 : 1) * order(one.value, other.value)) || one.at - other.at);
  return keyed.map(({ row }) => row);
}

function showTable() {
  COLUMNS.forEach(({ key }, at) => $("table").tHead.rows[0].cells[at].setAttribute("aria-sort",
    key !== state.sort ? "none" : state.down ? "descending" : "ascending"));
  const body = $("table").tBodies[0];
  body.replaceChildren(...sorted(visible).flatMap((row) => [line(row), ...(state.open === row ? [detail(row)] : [])]));
  if (!visible.length) body.append(make("tr", {}, make("td", { colspan: COLUMNS.length, class: "soft" },
    rows.length ? "No row fits. Choose another rule or split, or reset the filters." : "No finished run has been evaluated yet; the runs below show how far they are.")));
}

function line(row) {
  const opened = state.open === row;
  const button = make("button", { type: "button", class: "open", "aria-expanded": String(opened) }, taskName(row.grouping));
  const tr = make("tr", { class: "line" }, make("td", {}, button, make("span", { class: "under" }, company(row))),
    ...COLUMNS.slice(1).map(({ key, num }) => make("td", { class: num ? "num" : "" }, ...CELLS[key](row))));
  tr.addEventListener("click", (event) => {
    if (!getSelection().isCollapsed && event.target !== button) return; // text is being selected
    open(state.open === row ? null : row);
    document.querySelector("#table .open[aria-expanded=true]")?.focus();
  });
  return tr;
}

function open(row) {
  const from = state.open || row;
  state.open = row;
  showTable();
  if (row === null && from) [...document.querySelectorAll("#table .open")][sorted(visible).indexOf(from)]?.focus();
}

// ---------------------------------------------------------------- a row opened
function detail(row) {
  return make("tr", { class: "detail" }, make("td", { colspan: COLUMNS.length }, make("div", { class: "inner" },
    make("div", { class: "cards" }, groupCard(row), ruleCard(row)),
    make("h3", {}, row.runs.length > 1 ? "Its runs" : "Its run"),
    ...row.runs.map((at, place) => at === null ? make("p", {}, "a run that is not listed") : runEntry(runs[at], true, row.epochs[place])))));
}

function groupCard(row) {
  const width = Math.max(260, Math.min(620, innerWidth - 86));
  const worst = new Set(row.worst_group.groups || []);
  const lines = row.groups.map((group) => ({
    label: readable(group.name),
    sub: `n = ${many(group.total)}${worst.has(group.name) ? ", worst" : ""}`,
    bold: worst.has(group.name),
    marks: [{ ...inPercent(group), tone: toneOf(row.method), shape: shapeOf(row), hollow: isAlone(row),
      dots: group.values.length > 1 ? group.values.map(times100) : [],
      tip: `${readable(group.name)}\n${percent(group.mean)} %  (${span(group)})\nn = ${many(group.total)}\n${seedText(row)}` }],
  }));
  return make("div", { class: "card" }, make("h3", {}, `Groups on ${row.split}`),
    forest(lines, { width, unit: "accuracy, %", name: `Accuracy of the groups of ${taskName(row.grouping)}` }),
    make("p", { class: "small" }, row.groups.some((group) => group.values.length > 1) ? `Small dots are single seeds. Interval: ${row.interval}.` : `Interval: ${row.interval}.`));
}

function ruleCard(row) {
  const same = (other) => other.split === row.split && other.grouping === row.grouping && other.method === row.method
    && other.runs.join() === row.runs.join() && !other.shown.every((rule) => !data.rules.includes(rule));
  const table = make("table", { class: "plain" }, make("tr", {}, ...["epoch chosen by", "epochs", "average %", "worst group %"].map((name) => make("th", {}, name))));
  for (const other of rows.filter(same)) {
    table.append(make("tr", {}, make("td", {}, other.rule), make("td", {}, other.epochs.join(", ")),
      make("td", { class: "num" }, ...figureCell(other.average)), make("td", { class: "num" }, ...figureCell(other.worst_group))));
  }
  const { worst_group: worst } = row;
  const perSeed = row.seeds.map((seed, at) => `seed ${seed}: ${worst.values[at] === null ? "–" : `${percent(worst.values[at])} in ${readable(worst.groups[at])} (n = ${many(worst.totals[at])})`}`);
  return make("div", { class: "card" }, make("h3", {}, "How much the rule matters"), table,
    make("p", { class: "small" }, `Worst group, ${perSeed.join("; ")}`));
}

// ---------------------------------------------------------------- runs
function runEntry(run, inside, epoch = null) {
  const summary = make("summary", {}, make("span", { class: `state ${run.state}` }, run.state),
    `${methodName(run.method)}, seed ${run.seed}${inside ? "" : `, ${run.groupings.map(taskName).join(", ")}`} `,
    make("span", { class: "soft" }, run.run));
  const box = make("details", { class: "run" }, summary);
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(runBody(run, epoch));
  });
  return box;
}

function runBody(run, epoch) {
  const { curves: of } = run;
  const tones = run.tasks.map((_, at) => TONES[at % TONES.length]);
  const chosen = uniq(Object.values(run.selected || {})).sort((one, other) => one - other);
  const byTask = (figures, rings) => run.tasks.map((task, at) => ({ name: readable(task), tone: tones[at],
    ys: figures[task].map(times100), rings: rings ? chosen : [] }));
  const facts = [`step ${run.step ?? "–"}`, `epochs ${run.epochs ?? "–"}`, run.groupings.length > 1 ? `task weights ${weighting(run)}` : null,
    epoch === null ? null : `shown above: epoch ${epoch}`].filter(Boolean).join(" · ");
  const picked = chosen.map((at) => `${at} by ${Object.keys(run.selected).filter((rule) => run.selected[rule] === at).join(", ")}`).join("; ");
  const charts = of.epochs.length || of.steps.length ? [
    curves({ title: "Worst group, validation", unit: "%", xs: of.epochs, series: byTask(of.worst_group, true), marks: chosen, xLabel: "epoch", whole: true }),
    curves({ title: "Average, validation", unit: "%", xs: of.epochs, series: byTask(of.average, true), marks: chosen, xLabel: "epoch", whole: true }),
    curves({ title: "Training loss", xs: of.steps, series: [{ name: "loss", tone: "other", ys: of.loss }], low: 0, xLabel: "step" }),
    Object.keys(of.weights).length ? curves({ title: "Task weights", xs: of.steps, low: 0, xLabel: "step",
      series: run.tasks.map((task, at) => ({ name: readable(task), tone: tones[at], ys: of.weights[task] })) }) : null,
  ] : [make("p", { class: "soft" }, "nothing logged yet")];
  return make("div", { class: "body" }, make("p", { class: "small" }, facts),
    run.error ? make("p", { class: "small" }, make("span", { class: "state failed" }, "error"), run.error) : null,
    run.tasks.length > 1 ? legend(run.tasks.map((task, at) => ({ shape: "circle", tone: tones[at], text: readable(task) }))) : null,
    make("div", { class: "cards" }, ...charts.filter(Boolean)),
    picked ? make("p", { class: "small" }, `Epochs chosen (dotted lines, rings): ${picked}`) : null,
    make("details", {}, make("summary", {}, "configuration"),
      make("pre", {}, run.config.length ? run.config.map((at) => data.lines[at]).join("\n") : "config.yaml is not there")));
}

function showRuns() {
  const counted = {};
  for (const run of runs) counted[run.state] = (counted[run.state] || 0) + 1;
  $("states").textContent = `${many(runs.length)} runs: ${Object.entries(counted).map(([name, count]) => `${many(count)} ${name}`).join(", ") || "none"}. Only finished ones are in the table.`;
  const words = wordsOf($("search"));
  $("run-list").replaceChildren(...runs.filter((run) => fits(run, words, `${run.run} ${run.state} ${run.groupings.join(" ")}`)).map((run) => runEntry(run, false)));
}

// ---------------------------------------------------------------- figures
const times100 = (share) => share === null || share === undefined ? null : 100 * share;
const inPercent = ({ mean: middle, low, high }) => ({ mean: times100(middle), low: times100(low), high: times100(high) });
const isAlone = (row) => row.groupings.length === 1;
const shapeOf = (row) => SHAPES[row.weighting] || "circle";
const titleOf = (row) => `${taskName(row.grouping)}, ${company(row)}`;

function markOf(row) {
  const figure = row[state.measure];
  return { ...inPercent(figure), tone: toneOf(row.method), shape: shapeOf(row), hollow: isAlone(row),
    tip: `${titleOf(row)}\n${methodName(row.method)}${isAlone(row) ? "" : `, weights ${weighting(row)}`}${settingsOf(row) ? `, ${settingsOf(row)}` : ""}\n${MEASURES[state.measure]} ${percent(figure.mean)} %  (${span(figure)})${state.measure === "worst_group" ? `\n${worstNames(row)}` : ""}\n${seedText(row)}` };
}
function differenceMark(row) {
  const { difference: value, low, high } = row.difference[state.measure];
  return { mean: times100(value), low: times100(low), high: times100(high), tone: toneOf(row.method), shape: shapeOf(row),
    tip: `${titleOf(row)}\n${methodName(row.method)}, weights ${weighting(row)}\nMTL − STL ${signed(value)} points  (${signed(low)} to ${signed(high)})\n${row.difference.interval}` };
}
const differs = (row) => row.difference !== null && row.difference[state.measure].difference !== null;

function keyOf(list) {
  const entries = new Map();
  for (const row of list) {
    const text = `${methodName(row.method)} ${isAlone(row) ? "alone" : `together, ${weighting(row)}`}`;
    entries.set(text, { tone: toneOf(row.method), shape: shapeOf(row), hollow: isAlone(row), text });
  }
  return legend([...entries.keys()].sort().map((text) => entries.get(text)));
}

function groupBy(list, key) {
  const groups = new Map();
  for (const entry of list) groups.set(key(entry), [...(groups.get(key(entry)) || []), entry]);
  return [...groups.values()];
}

const MOST_LINES = 30;

function comparisonFigure(width) {
  const together = visible.filter((row) => !isAlone(row));
  const alone = visible.filter(isAlone);
  const lines = groupBy(together, (row) => `${row.grouping} ${row.groupings}`).map((list) => {
    const methods = new Set(list.map((row) => row.method));
    return { list, alone: alone.filter((row) => row.grouping === list[0].grouping && methods.has(row.method)) };
  }).filter((entry) => entry.alone.length);
  if (!lines.length) return null;
  const left = lines.splice(MOST_LINES).length;
  const byMethod = (list) => groupBy(list, (row) => row.method).flat();
  const label = (row) => ({ label: taskName(row.grouping), sub: company(row) });
  const shown = lines.flatMap(({ list, alone: single }) => [...single, ...list]);
  const panels = [panel(`Accuracy of the ${MEASURES[state.measure]}`, forest(lines.map(({ list, alone: single }) => ({ ...label(list[0]), marks: byMethod([...single, ...list]).map(markOf) })),
    { width, unit: "%", name: `${MEASURES[state.measure]} accuracy of each task, alone and together` }))];
  if (lines.some(({ list }) => list.some(differs))) panels.push(panel("Difference, paired", forest(
    lines.map(({ list, alone: single }) => ({ ...label(list[0]), slots: list.length + single.length, marks: list.filter(differs).map(differenceMark) })),
    { width, unit: "MTL − STL, points", zero: true, name: "Paired difference of each task" })));
  return card("Several tasks against one", [keyOf(shown)], panels,
    "A task that is better with company lies right of the line; an interval that holds 0 settles nothing."
      + (left ? ` ${many(left)} more tasks are not drawn: choose a family or search.` : ""));
}

function familyFigure(width) {
  const panels = [];
  const shown = [];
  for (const pair of data.contrasts) {
    const lines = pair.flatMap((name) => {
      const known = new Set(data.families[name].map(String));
      const members = visible.filter((row) => known.has(String(row.groupings)) && differs(row));
      if (!members.length) return [];
      shown.push(...members);
      const middle = members.reduce((sum, row) => sum + row.difference[state.measure].difference, 0) / members.length;
      const heading = { label: `${name}: mean ${signed(middle)}`, sub: `${members.length} results`, bold: true,
        marks: [{ mean: times100(middle), low: null, high: null, tone: "other", shape: "diamond", tip: `${name}: mean of ${members.length} results` }] };
      return [heading, ...groupBy(members, (row) => `${row.grouping} ${row.groupings}`).map((list) => ({ label: taskName(list[0].grouping), sub: company(list[0]), marks: list.map(differenceMark) }))];
    });
    if (lines.filter((entry) => entry.bold).length > 1) panels.push(panel(pair.map(readable).join(" against "),
      forest(lines, { width, unit: `MTL − STL, ${MEASURES[state.measure]}, points`, zero: true, name: pair.join(" against ") })));
  }
  return panels.length ? card("Families of tasks", [keyOf(shown)], panels,
    "The mean of a family has no interval: its tasks share test images and networks, so theirs cannot simply be pooled.") : null;
}

function countFigure() {
  const cards = data.ablations.map((name) => {
    const known = new Set(data.families[name].map(String));
    const members = visible.filter((row) => known.has(String(row.groupings)) && row[state.measure].mean !== null);
    const methods = new Set(members.map((row) => row.method));
    const single = visible.filter((row) => isAlone(row) && methods.has(row.method) && row[state.measure].mean !== null && members.some((other) => other.grouping === row.grouping));
    const tasks = groupBy([...single, ...members], (row) => row.grouping).filter((list) => uniq(list.map((row) => row.groupings.length)).length > 1);
    if (!tasks.length) return null;
    const every = tasks.flat();
    const counts = uniq(every.map((row) => row.groupings.length)).sort();
    const ends = every.flatMap((row) => [row[state.measure].low ?? row[state.measure].mean, row[state.measure].high ?? row[state.measure].mean]).map(times100);
    const panels = tasks.map((list) => countPanel(list, counts, Math.min(...ends), Math.max(...ends)));
    return card(`Number of tasks: ${readable(name).replace("ablate ", "")} attributes`, [keyOf(every)], panels,
      `Accuracy of the ${MEASURES[state.measure]}; a mark is a network, the line goes through their means.`, true);
  });
  return cards.filter(Boolean);
}

function countPanel(list, counts, low, high) {
  const points = groupBy(list, (row) => row.groupings.length).flatMap((same) => same.map((row, at) =>
    ({ ...markOf(row), at: row.groupings.length + (at - (same.length - 1) / 2) * Math.min(0.16, 0.7 / same.length) })));
  const series = groupBy(list.filter((row) => !isAlone(row)), (row) => `${row.method} ${row.weighting}`).map((same) => {
    const all = [...list.filter((row) => isAlone(row) && row.method === same[0].method), ...same];
    return { name: methodName(same[0].method), tone: toneOf(same[0].method), thin: true, ys: counts.map((count) => {
      const there = all.filter((row) => row.groupings.length === count).map((row) => times100(row[state.measure].mean));
      return there.length ? there.reduce((sum, value) => sum + value, 0) / there.length : null;
    }) };
  });
  return curves({ title: taskName(list[0].grouping), xs: counts, series, points, low, high, xLabel: "number of tasks", whole: true, unit: "%", width: 300 });
}

function gridFigure() {
  const name = (row) => `${methodName(row.method)}, ${row.groupings.map(taskName).join(" + ")}${isAlone(row) ? "" : `, ${weighting(row)}`}${"batch_size" in row.settings ? `, batch ${spell(row.settings.batch_size)}` : ""}`;
  const tables = groupBy(visible.filter((row) => "lr" in row.settings && "weight_decay" in row.settings), name).map((list) => {
    const values = (key) => uniq(list.map((row) => row.settings[key])).sort((one, other) => one - other);
    const [decays, rates] = [values("weight_decay"), values("lr")];
    if (decays.length < 2 || rates.length < 2) return null;
    const cells = decays.map((decay) => rates.map((rate) => {
      const here = list.filter((row) => row.settings.weight_decay === decay && row.settings.lr === rate && row[state.measure].mean !== null);
      return here.length ? here.reduce((sum, row) => sum + times100(row[state.measure].mean), 0) / here.length : null;
    }));
    return cells.flat().some((value) => value !== null) ? heat(name(list[0]), decays, rates, cells, "weight decay", "lr") : null;
  }).filter(Boolean);
  return tables.length ? make("div", { class: "card" }, make("h3", {}, `Learning rate and weight decay: ${MEASURES[state.measure]}, %`),
    make("div", { class: "cards" }, ...tables), make("p", { class: "small" }, `Mean over tasks and seeds on ${state.split}; settings are chosen on the validation split only.`)) : null;
}

const panel = (title, drawing) => make("div", {}, make("p", { class: "soft" }, title), drawing);
const card = (title, head, panels, note, few = false) => make("div", { class: "card" }, make("h3", {}, title), ...head,
  make("div", { class: few ? "panels few" : "panels" }, ...panels), make("p", { class: "small" }, note));

function showFigures() {
  const inner = Math.max(280, $("charts").clientWidth - 30);
  const width = inner < 906 ? inner : Math.floor((inner - 26) / 2);
  const found = [comparisonFigure(width), familyFigure(width), ...countFigure(), gridFigure()].filter(Boolean);
  $("charts").replaceChildren(...(found.length ? found : [make("p", { class: "soft" }, "Figures appear where a task was trained alone and together with others.")]));
}

// ---------------------------------------------------------------- switches and filters
function fits(thing, words, text) {
  const method = $("method").value, several = $("tasks").value;
  const plain = text.toLowerCase().replace(/[_:]/g, " ");
  return (!method || thing.method === method) && (!several || (several === "one") === (thing.groupings.length === 1)) && words.every((word) => plain.includes(word));
}

function show() {
  const words = wordsOf($("search"));
  const family = data.families[$("family").value];
  const members = new Set((family || []).map(String)), single = new Set((family || []).flat());
  const related = (row) => !family || (isAlone(row) ? single.has(row.grouping) : members.has(String(row.groupings)));
  const here = rows.filter((row) => row.split === state.split && row.shown.includes(state.rule));
  visible = here.filter((row) => related(row) && fits(row, words, `${row.groupings.join(" ")} ${row.method} ${weighting(row)} ${settingsOf(row)}`));
  // An open row stays open at another rule or split.
  const twin = (row) => row.grouping === state.open.grouping && row.runs.join() === state.open.runs.join();
  if (state.open !== null) state.open = visible.find(twin) || null;
  $("count").textContent = `${many(visible.length)} of ${many(here.length)} rows`;
  $("rule").textContent = rows.length ? `Shown: ${RULE_HELP[state.rule] || ruleName(state.rule)}; accuracies on ${state.split}.` : "";
  showTable();
  showFigures();
  showRuns();
}

function addSwitch(id, values, key, name, help = {}) {
  $(id).hidden = values.length === 0;
  for (const value of values) {
    const input = make("input", { type: "radio", name: key, value });
    input.defaultChecked = value === DEFAULTS[key];
    input.addEventListener("change", () => { state[key] = value; show(); });
    $(id).append(make("label", { title: help[value] || value }, input, name(value)));
  }
}

function start() {
  const seeds = uniq(runs.map((run) => run.seed)).length;
  $("facts").textContent = `${many(runs.length)} runs, ${many(runs.filter((run) => run.state === "done").length)} done · ${uniq(runs.map((run) => methodName(run.method))).join(", ")} · ${seeds === 1 ? "1 seed: test-set variation only" : `${seeds} seeds`}`;
  if (data.explorer) $("explorer").append(make("a", { href: data.explorer }, "Spurious correlations"));
  addSwitch("splits", data.splits, "split", (split) => split);
  addSwitch("choices", data.rules, "rule", ruleName, RULE_HELP);
  addSwitch("measures", Object.keys(MEASURES), "measure", (measure) => MEASURES[measure]);
  for (const method of uniq(runs.map((run) => run.method)).sort()) $("method").append(make("option", { value: method }, methodName(method)));
  const trained = new Set(rows.map((row) => String(row.groupings)));
  const names = Object.keys(data.families).filter((name) => data.families[name].some((tasks) => trained.has(String(tasks))));
  $("family").append(...names.map((name) => make("option", { value: name }, readable(name))));
  buildHead();
  startTheme();
  show();

  for (const id of ["family", "method", "tasks", "search"]) $(id).addEventListener("input", show);
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", () => setTimeout(() => {
    Object.assign(state, DEFAULTS);
    show();
  }));
  let drawn = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== drawn) requestAnimationFrame(showFigures);
    drawn = innerWidth;
  });
  document.addEventListener("mousemove", (event) => {
    const tip = event.target.closest?.("[data-tip]");
    showTip(tip ? tip.dataset.tip : null, event.clientX, event.clientY);
  });
  startKeys(() => open(null));
}

start();
