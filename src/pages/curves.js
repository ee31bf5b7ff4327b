// Curves of a run: numbers in, an SVG element out. Colours are classes, see report.css.
const TONES = ["erm", "suby", "rwy", "jtt", "subg", "rwg", "other", "other2"];

// Round numbers from below `low` to above `high`, about `most` of them.
function ticksOf(low, high, most) {
  if (!(high > low)) [low, high] = [low >= 0 ? Math.max(0, low - 1) : low - 1, high + 1];
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((times) => times * power >= rough - 1e-12) * power;
  const first = Math.floor(low / step + 1e-9);
  return Array.from({ length: Math.ceil(high / step - 1e-9) - first + 1 }, (_, at) => (first + at) * step);
}

// Draw curves over xs; a null is a gap. series: {name, tone, ys}; marks: x of dotted lines.
function curves({ title, xs, series, marks = [], xLabel, low = null, high = null, unit = "" }) {
  const width = 330, height = 190, left = 44, right = width - 10, top = 26, bottom = height - 32;
  const values = series.flatMap((one) => one.ys).filter((value) => value !== null);
  const svg = make("svg", { class: "chart", role: "img", "aria-label": title, width, height, viewBox: `0 0 ${width} ${height}` },
    make("text", { x: 4, y: 13, class: "bold" }, title));
  const write = (x, y, text, anchor) => svg.append(make("text", { x, y, class: "soft", "text-anchor": anchor }, text));
  const rule = (kind, x1, x2, y1, y2) => svg.append(make("line", { class: kind, x1, x2, y1, y2 }));
  if (!values.length) {
    write(left, height / 2, "nothing logged yet", "start");
    return svg;
  }
  const yTicks = ticksOf(low ?? Math.min(...values), high ?? Math.max(...values), 5);
  const [first, last] = [xs[0], xs.at(-1)], [least, most] = [yTicks[0], yTicks.at(-1)];
  const x = (value) => last > first ? left + (right - left) * (value - first) / (last - first) : (left + right) / 2;
  const y = (value) => bottom - (bottom - top) * (value - least) / (most - least);
  for (const tick of yTicks) {
    rule("grid", left, right, y(tick), y(tick));
    write(left - 6, y(tick) + 4, String(Number(tick.toPrecision(6))).replace("-", "−"), "end");
  }
  const whole = (tick) => tick >= first && tick <= last && Number.isInteger(tick);
  for (const tick of ticksOf(first, last, 5).filter(whole)) write(x(tick), bottom + 14, many(tick), "middle");
  write(right, bottom + 28, xLabel, "end");
  write(right, 13, unit, "end");
  for (const mark of marks) rule("chosen", x(mark), x(mark), top, bottom);
  for (const { name, tone, ys } of series) {
    const points = ys.map((value, at) => value === null ? "" : `${at && ys[at - 1] !== null ? "L" : "M"}${x(xs[at]).toFixed(1)} ${y(value).toFixed(1)}h0`);
    svg.append(make("path", { d: points.join(""), class: `curve t-${tone}`, "data-tip": name }));
  }
  return svg;
}
