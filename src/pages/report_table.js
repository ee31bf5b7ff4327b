// The table: `rows`, one per task, method and rule over seeds; see src/report. Accuracies are fractions.
const { runs, rows } = data;
const WEIGHTINGS = { static_equal: "equal", static_delta: "unequal", dynamic: "dynamic (LBTW)" };
// Name of a rule, and what it selects.
const RULES = {
  "best-avg": ["average", "the epoch with the best mean over tasks of validation average accuracy"],
  "best-group": ["worst group", "the epoch with the best mean over tasks of validation worst-group accuracy"],
  "best-class": ["worst class", "the epoch with the best mean over tasks of validation worst-class accuracy"],
  "best-worst": ["worst task", "the epoch whose worst task has the best validation worst-group accuracy"],
  "best-avg-own": ["own average", "for each task the epoch with its own best validation average accuracy (best-avg-{task})"],
  "best-group-own": ["own worst group", "for each task the epoch with its own best validation worst-group accuracy (best-group-{task})"],
  last: ["last epoch", "the last epoch"],
};
const ruleName = (rule) => RULES[rule]?.[0] || (/^\d+$/.test(rule) ? `epoch ${rule}` : rule);
const DEFAULTS = { split: data.splits[0], rule: data.rules.includes("best-group") ? "best-group" : data.rules[0] };
const state = { ...DEFAULTS, sort: "task", down: false, open: null };

// ---------------------------------------------------------------- words and numbers of rows
const taskName = (grouping) => readable(grouping).replace(":", " : ");
const isAlone = (row) => row.groupings.length === 1;
const company = (row) => isAlone(row) ? "alone" : `with ${row.groupings.filter((name) => name !== row.grouping).map(taskName).join(", ")}`;
const methodName = (method) => method.toUpperCase();
const weighting = (row) => isAlone(row) ? "–" : WEIGHTINGS[row.weighting] || row.weighting;
const SETTING_NAMES = { weight_decay: "wd", batch_size: "batch", max_steps: "cut short at step" };
const shortName = (key) => SETTING_NAMES[key.split(".").at(-1)] || readable(key.startsWith("stage_") ? key : key.split(".").at(-1));
const spell = (value) => typeof value === "string" ? value : JSON.stringify(value);
const settingsOf = (row) => data.settings.filter((name) => name in row.settings)
  .map((name) => `${shortName(name)} ${spell(row.settings[name])}`).join(", ");
const isCut = (row) => "max_steps" in row.settings;
const span = ({ low, high }) => low === null ? "–" : `${percent(low)} to ${percent(high)}`;
const signed = (share) => share === null ? "–" : (share > 0 ? "+" : "") + percent(share);
const spread = ({ std }) => std === null ? "" : ` ± ${percent(std)}`;
const uniq = (list) => [...new Set(list)];
// "Male=1 (n = 180)"; of several seeds with different worst groups all of them.
const worstNames = ({ worst_group: { groups, totals } }) => uniq(groups.map((name, at) =>
  name === null ? null : `${readable(name)} (n = ${many(totals[at])})`).filter(Boolean)).join("; ") || "no group has images";

// ---------------------------------------------------------------- the table
const soft = (text, attributes = {}) => make("span", { class: "under", ...attributes }, text);
const figureCell = (figure) => figure.mean === null ? ["–", soft("no images")]
  : [make("b", {}, percent(figure.mean)), spread(figure), soft(span(figure))];

function differenceCell({ difference }) {
  if (!difference || difference.worst_group.difference === null) return ["–"];
  const { worst_group: { difference: value, low, high }, matched, differs } = difference;
  const limits = soft(`${signed(low)} to ${signed(high)}`);
  if (matched) return [make("b", { class: low > 0 ? "good" : high < 0 ? "bad" : "" }, signed(value)), limits];
  const text = Object.entries(differs).map(([key, [ours, other]]) => `${shortName(key)} ${spell(ours)} / ${spell(other)}`).join(", ");
  return [make("span", { class: "soft" }, signed(value)), limits, soft("other settings", { title: text })];
}

function referenceCell({ reference }) {
  if (!reference) return ["–"];
  return [`${percent(reference.worst_group)}${spread(reference)}`,
    soft(`${reference.verdict} (${signed(reference.difference)})`, { title: reference.source })];
}

// value: what is sorted by; cell: what is shown, else the value.
const COLUMNS = [
  { label: "task", value: (row) => row.grouping + row.groupings.length },
  { label: "method", value: (row) => methodName(row.method) },
  { label: "weights", value: weighting },
  { label: "average %", value: (row) => row.average.mean, cell: (row) => figureCell(row.average), isNumber: true },
  { label: "worst group %", value: (row) => row.worst_group.mean, cell: (row) => figureCell(row.worst_group), isNumber: true },
  { label: "which group", value: worstNames, cell: (row) => [soft(worstNames(row))] },
  { label: "MTL − STL", value: (row) => row.difference && row.difference.worst_group.difference, cell: differenceCell, isNumber: true, isHidden: !rows.some((row) => row.difference) },
  { label: "published %", value: (row) => row.reference && row.reference.worst_group, cell: referenceCell, isNumber: true, isHidden: !rows.some((row) => row.reference) },
  { label: "settings", value: settingsOf, isHidden: !data.settings.length },
  { label: "seeds", value: (row) => row.seeds.length, cell: (row) => [String(row.seeds.length), soft(row.seeds.length > 1 ? "" : row.interval)], isNumber: true },
  { label: "epoch", value: (row) => row.epochs[0], cell: (row) => [uniq(row.epochs).join(", "), soft(row.has_validation ? "" : "no held-out validation")], isNumber: true },
].filter((column) => !column.isHidden);

function sorted(list) {
  const { value } = COLUMNS.find(({ label }) => label === state.sort);
  const order = (one, other) => typeof one === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
  // Runs that were cut short come last, before them rows without a value, in both orders.
  return list.map((row) => [row, value(row)]).sort(([one, first], [other, second]) => isCut(one) - isCut(other)
    || (first === null) - (second === null) || (state.down ? -1 : 1) * (first === null ? 0 : order(first, second))).map(([row]) => row);
}

function showTable(visible) {
  const heads = COLUMNS.map(({ label, isNumber }) => make("th", { scope: "col", class: isNumber ? "num" : "",
    "aria-sort": state.sort !== label ? "none" : state.down ? "descending" : "ascending" }, button(label, () => {
    state.down = state.sort === label ? !state.down : Boolean(isNumber);
    state.sort = label;
    showTable(visible);
  })));
  const lines = sorted(visible).flatMap((row) => [line(row), ...(state.open === row ? [detail(row)] : [])]);
  const nothing = rows.length ? "No row fits. Choose another rule or split, or reset the filters." : "No finished run has been evaluated yet; the runs below show how far they are.";
  $("table").replaceChildren(make("tr", {}, ...heads),
    ...(lines.length ? lines : [make("tr", {}, make("td", { colspan: COLUMNS.length, class: "soft" }, nothing))]));
}

function line(row) {
  const isOpen = state.open === row;
  const toggle = () => {
    state.open = isOpen ? null : row;
    show();
    document.querySelector("#table .open[aria-expanded=true]")?.focus();
  };
  return make("tr", { class: "line" },
    make("td", {}, button(taskName(row.grouping), toggle, { class: "open", "aria-expanded": String(isOpen) }), soft(company(row))),
    ...COLUMNS.slice(1).map(({ value, cell, isNumber }) => make("td", { class: isNumber ? "num" : "" }, ...(cell ? cell(row) : [value(row)]))));
}
