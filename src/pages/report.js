// The page as a whole: switches, filters, and what happens when they change.
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
  $("rule").textContent = rows.length ? `Shown: ${RULE_HELP[state.rule] || ruleName(state.rule)}; accuracies on ${state.split}. Cells: mean ± standard deviation over seeds, and the 95 % interval.` : "";
  writeAddress();
  showTable();
  showFigures();
  showRuns();
}

// ---------------------------------------------------------------- filters in the address
const FILTERS = ["family", "method", "tasks", "search"];
const SWITCHES = ["split", "rule", "measure"];
function writeAddress() {
  const set = new URLSearchParams();
  for (const id of FILTERS) if ($(id).value) set.set(id, $(id).value);
  for (const key of SWITCHES) if (state[key] !== DEFAULTS[key]) set.set(key, state[key]);
  if (String(set) || location.hash.includes("=")) history.replaceState(null, "", `#${set}`);
}
function readAddress() {
  const set = new URLSearchParams(location.hash.slice(1));
  for (const id of FILTERS) if (set.has(id)) $(id).value = set.get(id);
  for (const key of SWITCHES) {
    const input = [...document.querySelectorAll(`input[name=${key}]`)].find((one) => one.value === set.get(key));
    if (input) {
      input.checked = true;
      state[key] = input.value;
    }
  }
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
  readAddress();
  show();

  for (const id of FILTERS) $(id).addEventListener("input", show);
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
