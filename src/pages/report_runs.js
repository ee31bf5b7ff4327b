// A row opened: its groups, rules and runs; and each run with its state, curves and configuration.
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
    make("p", { class: "small" }, `Worst group, ${perSeed.join("; ")}`),
    row.difference && row.difference.alone.length ? make("p", { class: "small" }, `MTL − STL compares with ${row.difference.alone.join(", ")}`) : null);
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
    epoch === null ? null : `shown above: epoch ${epoch}`, run.repeats ? `the same as ${run.repeats}, which counts` : null].filter(Boolean).join(" · ");
  const picked = chosen.map((at) => `${at} by ${Object.keys(run.selected).filter((rule) => run.selected[rule] === at).join(", ")}`).join("; ");
  const charts = of.epochs.length || of.steps.length ? [
    curves({ title: "Worst group, validation", unit: "%", xs: of.epochs, series: byTask(of.worst_group, true), marks: chosen, xLabel: "epoch", whole: true }),
    curves({ title: "Average, validation", unit: "%", xs: of.epochs, series: byTask(of.average, true), marks: chosen, xLabel: "epoch", whole: true }),
    curves({ title: "Training loss", xs: of.steps, series: [{ name: "loss", tone: "other", ys: of.loss }], low: 0, xLabel: "step" }),
    Object.keys(of.weights).length ? curves({ title: "Task weights", xs: of.steps, low: 0, xLabel: "step",
      series: run.tasks.map((task, at) => ({ name: readable(task), tone: tones[at], ys: of.weights[task] })) }) : null,
    Object.keys(of.cosines).length ? curves({ title: "Cosines of task gradients", xs: of.steps, low: -1, high: 1, xLabel: "step",
      series: Object.keys(of.cosines).map((pair, at) => ({ name: pair.split(", ").map(readable).join(", "), tone: TONES[at % TONES.length], ys: of.cosines[pair] })) }) : null,
  ] : [make("p", { class: "soft" }, run.state === "done" ? "no curves: no network was trained here" : "nothing logged yet")];
  return make("div", { class: "body" }, make("p", { class: "small" }, facts),
    run.error ? make("p", { class: "small" }, make("span", { class: "state failed" }, "error"), run.error) : null,
    run.tasks.length > 1 ? legend(run.tasks.map((task, at) => ({ shape: "circle", tone: tones[at], text: readable(task) }))) : null,
    make("div", { class: "cards" }, ...charts.filter(Boolean)),
    run.probes.length ? probeTable(run.probes) : null,
    run.has_validation ? null : make("p", { class: "small" }, "No held-out validation figure: the last fit used all of validation. Every rule shows the same network."),
    picked && run.has_validation ? make("p", { class: "small" }, `Epochs chosen (dotted lines, rings): ${picked}`) : null,
    make("details", {}, make("summary", {}, "configuration"),
      make("pre", {}, run.config.length ? run.config.map((at) => data.lines[at]).join("\n") : "config.yaml is not there")));
}

function probeTable(probes) {
  const head = (of) => make("td", { class: "num" }, `${percent(of.worst)} (${percent(of.low)}–${percent(of.high)})`);
  const names = ["task", "epoch", "linear probes %", "own worst group %", "balanced last layer %", "finding"];
  const table = make("table", { class: "plain" }, make("tr", {}, ...names.map((name) => make("th", {}, name))));
  for (const of of probes) {
    table.append(make("tr", {}, make("td", {}, taskName(of.grouping)), make("td", {}, String(of.epoch)),
      make("td", {}, Object.entries(of.accuracies).map(([name, value]) => `${readable(name)} ${percent(value)}`).join(", ")),
      head(of.own), head(of.balanced), make("td", {}, of.verdict)));
  }
  return make("div", { class: "card" }, make("h3", {}, "What the features hold"), table,
    make("p", { class: "small" }, "A linear probe is averaged over classes, so 50 % is chance for two. The balanced last layer is fitted on equally large groups."));
}

function showRuns() {
  const counted = {};
  for (const run of runs) counted[run.state] = (counted[run.state] || 0) + 1;
  $("states").textContent = `${many(runs.length)} ${runs.length === 1 ? "run" : "runs"}: ${Object.entries(counted).map(([name, count]) => `${many(count)} ${name}`).join(", ") || "none"}. Only finished ones are in the table.`;
  const words = wordsOf($("search"));
  $("run-list").replaceChildren(...runs.filter((run) => fits(run, words, `${run.run} ${run.state} ${run.groupings.join(" ")}`)).map((run) => runEntry(run, false)));
}
