// The data: `rows`, one per task, method and rule over seeds; `runs`, one per network; see
// src/report/page.py. Accuracies are fractions.
const runs = data.runs;
const rows = data.rows;
const MEASURES = { worst_group: "worst group", average: "average" };
const WEIGHTINGS = { static_equal: "equal", static_delta: "unequal", dynamic: "dynamic (LBTW)" };
const RULE_NAMES = {
  "best-avg": "average", "best-group": "worst group", "best-class": "worst class", "best-worst": "worst task",
  "best-avg-own": "own average", "best-group-own": "own worst group", last: "last epoch",
};
const RULE_HELP = {
  "best-avg": "the epoch with the best mean over tasks of validation average accuracy",
  "best-group": "the epoch with the best mean over tasks of validation worst-group accuracy",
  "best-class": "the epoch with the best mean over tasks of validation worst-class accuracy",
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

// ---------------------------------------------------------------- words and numbers of rows
const taskName = (grouping) => readable(grouping).replace(":", " : ");
const partners = (row) => row.groupings.filter((grouping) => grouping !== row.grouping).map(taskName);
const company = (row) => partners(row).length ? `with ${partners(row).join(", ")}` : "alone";
const methodName = (method) => method.toUpperCase();
const weighting = (row) => row.groupings.length > 1 ? WEIGHTINGS[row.weighting] || row.weighting : "–";
const SETTING_NAMES = { weight_decay: "wd", batch_size: "batch", max_steps: "cut short at step" };
const settingsOf = (row, names = data.settings) => names.filter((name) => name in row.settings)
  .map((name) => `${shortName(name)} ${spell(row.settings[name])}`).join(", ");
const shortName = (key) => SETTING_NAMES[key.split(".").at(-1)] || readable(key.startsWith("stage_") ? key : key.split(".").at(-1));
const isCut = (row) => "max_steps" in row.settings;
const spell = (value) => value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
const span = (figure) => figure.low === null || figure.low === undefined ? "–" : `${percent(figure.low)} to ${percent(figure.high)}`;
const signed = (share) => share === null ? "–" : (share > 0 ? "+" : "") + percent(share);
const uniq = (list) => [...new Set(list)];
// "Male=1 (n = 180)"; of several seeds with different worst groups all of them.
const worstNames = (row) => uniq((row.worst_group.groups || []).map((name, at) =>
  name === null ? null : `${readable(name)} (n = ${many(row.worst_group.totals[at])})`).filter(Boolean)).join("; ") || "no group has images";
const seedText = (row) => row.seeds.length > 1 ? `seeds ${row.seeds.join(", ")}` : `seed ${row.seeds[0]}: ${row.interval}`;
const times100 = (share) => share === null || share === undefined ? null : 100 * share;
const inPercent = ({ mean: middle, low, high }) => ({ mean: times100(middle), low: times100(low), high: times100(high) });
const isAlone = (row) => row.groupings.length === 1;
const shapeOf = (row) => SHAPES[row.weighting] || "circle";
const titleOf = (row) => `${taskName(row.grouping)}, ${company(row)}`;
function groupBy(list, key) {
  const groups = new Map();
  for (const entry of list) groups.set(key(entry), [...(groups.get(key(entry)) || []), entry]);
  return [...groups.values()];
}

// ---------------------------------------------------------------- the table
const mean = (row, measure) => row[measure].mean;
const SPREAD = "mean ± standard deviation over seeds; below, the 95 % interval";
const COLUMNS = [
  { key: "task", label: "task", of: (row) => row.grouping + row.groupings.length },
  { key: "method", label: "method", of: (row) => row.method },
  { key: "weighting", label: "weights", title: "how the tasks of a network are weighed", of: (row) => weighting(row) },
  { key: "average", label: "average %", title: SPREAD, of: (row) => mean(row, "average"), num: true },
  { key: "worst_group", label: "worst group %", title: SPREAD, of: (row) => mean(row, "worst_group"), num: true },
  { key: "which", label: "which group", of: worstNames },
  { key: "difference", label: "MTL − STL", title: "difference of worst-group accuracy, in points", of: (row) => row.difference ? row.difference.worst_group.difference : null, num: true, hidden: !rows.some((row) => row.difference) },
  { key: "reference", label: "published %", of: (row) => row.reference ? row.reference.worst_group : null, num: true, hidden: !rows.some((row) => row.reference) },
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
  const span = make("span", { class: "under" }, low === null ? "–" : `${signed(low)} to ${signed(high)}`);
  if (!difference.matched) {
    const text = Object.entries(difference.differs).map(([key, [ours, other]]) => `${shortName(key)} ${spell(ours)} / ${spell(other)}`).join(", ");
    return [make("span", { class: "soft" }, signed(value)), span, make("span", { class: "under", title: text }, "other settings")];
  }
  return [make("b", { class: low > 0 ? "good" : high < 0 ? "bad" : "" }, signed(value)), span];
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
  epochs: (row) => [uniq(row.epochs).join(", "), make("span", { class: "under" }, row.has_validation ? "" : "no held-out validation")],
};

function buildHead() {
  $("table").tHead.replaceChildren(make("tr", {}, ...COLUMNS.map(({ key, label, title = "", num }) => {
    const button = make("button", { type: "button", "data-key": key, title }, label);
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
  // Runs that were cut short come last, before them rows without a value, in both orders.
  keyed.sort((one, other) => isCut(one.row) - isCut(other.row) || (one.value === null) - (other.value === null)
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
