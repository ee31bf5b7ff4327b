// The figures: what is in sight in the table, drawn. They follow split, rule, measure and filters.
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
const differs = (row) => row.difference !== null && row.difference.matched && row.difference[state.measure].difference !== null;

function keyOf(list) {
  const entries = new Map();
  for (const row of list) {
    const text = `${methodName(row.method)} ${isAlone(row) ? "alone" : `together, ${weighting(row)}`}`;
    entries.set(text, { tone: toneOf(row.method), shape: shapeOf(row), hollow: isAlone(row), text });
  }
  return legend([...entries.keys()].sort().map((text) => entries.get(text)));
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
  for (const { families: pair, note } of data.contrasts) {
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
    if (lines.filter((entry) => entry.bold).length > 1) panels.push(panel(pair.map(readable).join(" against ") + (note ? ` (${note})` : ""),
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

const panel = (title, drawing) => make("div", {}, make("p", { class: "soft" }, title), drawing);
const card = (title, head, panels, note, few = false) => make("div", { class: "card" }, make("h3", {}, title), ...head,
  make("div", { class: few ? "panels few" : "panels" }, ...panels), make("p", { class: "small" }, note));

function showFigures() {
  const inner = Math.max(280, $("charts").clientWidth - 30);
  const width = inner < 906 ? inner : Math.floor((inner - 26) / 2);
  const found = [comparisonFigure(width), familyFigure(width), ...countFigure()].filter(Boolean);
  $("charts").replaceChildren(...(found.length ? found : [make("p", { class: "soft" }, "Figures appear where a task was trained alone and together with others.")]));
}
