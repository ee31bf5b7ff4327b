// A row opened: its groups, rules and runs; and each run with its state, curves and configuration.
const table = (heads, lines) => make("table", { class: "plain" }, make("tr", {}, ...heads.map((text) => make("th", {}, text))),
  ...lines.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, ...[cell].flat())))));
const card = (title, ...parts) => make("div", { class: "card" }, make("h3", {}, title), ...parts);
const note = (text) => make("p", { class: "soft" }, text);

function detail(row) {
  const { worst_group: worst, difference } = row;
  const groups = row.groups.map((group) => [readable(group.name), many(group.total), ...(group.mean === null ? ["no images", "", ""]
    : [percent(group.mean), span(group), group.values.map(percent).join(", ")])]);
  const same = rows.filter((other) => other.split === row.split && other.grouping === row.grouping && other.runs.join() === row.runs.join());
  const rules = same.map((other) => [other.rule, other.epochs.join(", "), figureCell(other.average), figureCell(other.worst_group)]);
  const perSeed = row.seeds.map((seed, at) => `seed ${seed}: ${worst.values[at] === null ? "–"
    : `${percent(worst.values[at])} in ${readable(worst.groups[at])} (n = ${many(worst.totals[at])})`}`);
  return make("tr", { class: "detail" }, make("td", { colspan: COLUMNS.length }, make("div", { class: "inner" },
    make("div", { class: "cards" },
      card(`Groups on ${row.split}`, table(["group", "n", "accuracy %", "95 % interval", "by seed"], groups), note(`Interval: ${row.interval}.`)),
      card("How much the rule matters", table(["epoch chosen by", "epochs", "average %", "worst group %"], rules),
        note(`Worst group, ${perSeed.join("; ")}`), difference ? note(`MTL − STL compares with ${difference.alone.join(", ")}`) : null)),
    ...row.runs.map((at, place) => at === null ? make("p", {}, "a run that is not listed") : runEntry(runs[at], row.epochs[place])))));
}

function runEntry(run, epoch = null) {
  const title = `${methodName(run.method)}, seed ${run.seed}${epoch === null ? `, ${run.groupings.map(taskName).join(", ")}` : ""} `;
  const box = make("details", { class: "run" }, make("summary", {},
    make("span", { class: `state ${run.state}` }, run.state), title, make("span", { class: "soft" }, run.run)));
  box.addEventListener("toggle", () => {
    if (box.open && box.children.length === 1) box.append(runBody(run, epoch));
  });
  return box;
}

function runBody(run, epoch) {
  const { curves: of } = run;
  const chosen = uniq(Object.values(run.selected)).sort((one, other) => one - other);
  const lines = (figures, times = 1) => Object.entries(figures).map(([name, ys], at) => ({ name: readable(name), tone: TONES[at % TONES.length],
    ys: ys.map((value) => value === null ? null : times * value) }));
  const facts = [`step ${run.step ?? "–"}`, `epochs ${run.epochs}`, isAlone(run) ? null : `task weights ${weighting(run)}`,
    epoch === null ? null : `shown above: epoch ${epoch}`, run.repeats ? `the same as ${run.repeats}, which counts` : null];
  const picked = chosen.map((at) => `${at} by ${Object.keys(run.selected).filter((rule) => run.selected[rule] === at).join(", ")}`).join("; ");
  const byEpoch = { xs: of.epochs, marks: chosen, xLabel: "epoch", unit: "%" }, byStep = { xs: of.steps, xLabel: "step" };
  const charts = [
    curves({ title: "Worst group, validation", series: lines(of.worst_group, 100), ...byEpoch }),
    curves({ title: "Average, validation", series: lines(of.average, 100), ...byEpoch }),
    curves({ title: "Training loss", series: lines({ loss: of.loss }), low: 0, ...byStep }),
    Object.keys(of.weights).length ? curves({ title: "Task weights", series: lines(of.weights), low: 0, ...byStep }) : null,
    Object.keys(of.cosines).length ? curves({ title: "Cosines of task gradients", series: lines(of.cosines), low: -1, high: 1, ...byStep }) : null,
  ].filter(Boolean);
  const isLogged = of.epochs.length || of.steps.length;
  return make("div", {}, note(facts.filter(Boolean).join(" · ")),
    run.error ? make("p", {}, make("span", { class: "state failed" }, "error"), run.error) : null,
    isAlone(run) ? null : make("p", {}, ...run.tasks.map((task, at) => make("span", { class: `key t-${TONES[at % TONES.length]}` }, readable(task)))),
    isLogged ? make("div", { class: "cards" }, ...charts) : note(run.state === "done" ? "no curves: no network was trained here" : "nothing logged yet"),
    run.probes.length ? probeCard(run.probes) : null,
    run.has_validation ? (picked ? note(`Epochs chosen (dotted lines): ${picked}`) : null)
      : note("No held-out validation figure: the last fit used all of validation. Every rule shows the same network."),
    make("details", {}, make("summary", {}, "configuration"), make("pre", {}, run.config || "config.yaml is not there")));
}

function probeCard(probes) {
  const head = (of) => `${percent(of.worst)} (${percent(of.low)}–${percent(of.high)})`;
  const lines = probes.map((of) => [taskName(of.grouping), String(of.epoch),
    Object.entries(of.accuracies).map(([name, value]) => `${readable(name)} ${percent(value)}`).join(", "), head(of.own), head(of.balanced), of.verdict]);
  return card("What the features hold", table(["task", "epoch", "linear probes %", "own worst group %", "balanced last layer %", "finding"], lines),
    note("A linear probe is averaged over classes, so 50 % is chance for two. The balanced last layer is fitted on equally large groups."));
}
