// The page as a whole: switches, filters, and what happens when they change.
const FILTERS = ["family", "method", "tasks", "search"];
const SWITCHES = ["split", "rule"];

function fits(thing, text) {
  const method = $("method").value, tasks = $("tasks").value;
  return (!method || thing.method === method) && (!tasks || (tasks === "one") === isAlone(thing)) && isFound(text);
}

function show() {
  for (const key of SWITCHES) state[key] = document.querySelector(`input[name=${key}]:checked`)?.value;
  const family = data.families[$("family").value];
  const members = new Set((family || []).map(String)), single = new Set((family || []).flat());
  const related = (row) => !family || (isAlone(row) ? single.has(row.grouping) : members.has(String(row.groupings)));
  const here = rows.filter((row) => row.split === state.split && row.shown.includes(state.rule));
  const visible = here.filter((row) => related(row) && fits(row, `${row.groupings.join(" ")} ${row.method} ${weighting(row)} ${settingsOf(row)}`));
  // An open row stays open at another rule or split.
  if (state.open) state.open = visible.find((row) => row.grouping === state.open.grouping && row.runs.join() === state.open.runs.join()) || null;
  $("count").textContent = `${many(visible.length)} of ${many(here.length)} rows`;
  $("shown").textContent = rows.length ? `Shown: ${RULES[state.rule]?.[1] || ruleName(state.rule)}; accuracies on ${state.split}. Cells: mean ± standard deviation over seeds, and the 95 % interval.` : "";
  writeAddress();
  showTable(visible);
  const figures = Object.entries(data.figures).filter(([name]) => !$("family").value || name === $("family").value);
  $("charts").replaceChildren(...figures.map(([name, images]) => card(name === "single" ? "Each task alone" : `Family: ${readable(name)}`,
    ...images.map((src) => make("img", { src, alt: `results of ${readable(name)}` })))));
  const listed = runs.filter((run) => fits(run, `${run.run} ${run.state} ${run.groupings.join(" ")}`));
  $("run-list").replaceChildren(...listed.map((run) => runEntry(run)));
}

// ---------------------------------------------------------------- filters in the address
function writeAddress() {
  const set = new URLSearchParams();
  for (const id of FILTERS) if ($(id).value) set.set(id, $(id).value);
  for (const key of SWITCHES) if (state[key] !== DEFAULTS[key]) set.set(key, state[key]);
  history.replaceState(null, "", String(set) ? `#${set}` : location.pathname);
}
function readAddress() {
  const set = new URLSearchParams(location.hash.slice(1));
  for (const id of FILTERS) if (set.has(id)) $(id).value = set.get(id);
  for (const key of SWITCHES) for (const input of document.getElementsByName(key)) input.checked = input.value === (set.get(key) ?? DEFAULTS[key]);
}

function addSwitch(name, values, label) {
  $(`${name}s`).hidden = values.length === 0;
  for (const value of values) {
    const input = make("input", { type: "radio", name, value });
    input.defaultChecked = value === DEFAULTS[name];
    $(`${name}s`).append(make("label", { title: RULES[value]?.[1] || value }, input, label(value)));
  }
}

function start() {
  const seeds = uniq(runs.map((run) => run.seed)).length, states = {};
  for (const { state } of runs) states[state] = (states[state] || 0) + 1;
  $("facts").textContent = `${many(runs.length)} ${runs.length === 1 ? "run" : "runs"}: ${Object.entries(states).map(([name, count]) => `${many(count)} ${name}`).join(", ") || "none"} · ${
    uniq(runs.map((run) => methodName(run.method))).join(", ")} · ${seeds === 1 ? "1 seed: test-set variation only" : `${seeds} seeds`}`;
  addSwitch("split", data.splits, (split) => split);
  addSwitch("rule", data.rules, ruleName);
  for (const method of uniq(runs.map((run) => run.method)).sort()) $("method").append(make("option", { value: method }, methodName(method)));
  $("family").append(...Object.keys(data.families).map((name) => make("option", { value: name }, readable(name))));
  readAddress();
  show();
  listen(show, () => { state.open = null; show(); });
}

start();
