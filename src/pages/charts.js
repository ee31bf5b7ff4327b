// Drawings of the report: numbers in, an SVG element out. `tone` is a colour's class, see report.css.
const TONES = ["erm", "suby", "rwy", "jtt", "subg", "rwg", "other", "other2"];
const toneOf = (method) => TONES.includes(method) ? method : "other";
const SHAPES = { static_equal: "circle", static_delta: "square", dynamic: "diamond" };

// A round step that cuts `span` into at most `most` parts.
function tickStep(span, most) {
  const rough = span / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].find((times) => times * power >= rough - 1e-12) * power;
}
function scale(low, high, most) {
  if (!(high > low)) [low, high] = [low >= 0 ? Math.max(0, low - 1) : low - 1, high + 1];
  const step = tickStep(high - low, most);
  const [first, last] = [Math.floor(low / step + 1e-9) * step, Math.ceil(high / step - 1e-9) * step];
  const ticks = Array.from({ length: Math.round((last - first) / step) + 1 }, (_, at) => first + at * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { first, last, ticks, text: (value) => number(Math.abs(value) < step / 1e6 ? 0 : value, Math.min(digits, 6)) };
}

function markShape(shape, x, y, tone, hollow = false) {
  const drawing = {
    circle: () => make("circle", { cx: x, cy: y, r: 4.2 }),
    square: () => make("rect", { x: x - 3.8, y: y - 3.8, width: 7.6, height: 7.6 }),
    diamond: () => make("path", { d: `M${x} ${y - 5.4}l5.4 5.4l-5.4 5.4l-5.4 -5.4z` }),
  }[shape]();
  drawing.setAttribute("class", `mark t-${tone}${hollow ? " hollow" : ""}`);
  return drawing;
}

function legend(entries) {
  return make("div", { class: "legend" }, ...entries.map(({ shape, tone, hollow, text }) => make("span", {},
    make("svg", { width: 14, height: 14, "aria-hidden": "true" }, markShape(shape, 7, 7, tone, hollow)), text)));
}

// A line per entry with its marks below each other: value, interval, and small dots for seeds.
// lines: {label, sub, bold, slots: room for so many marks, marks: [{mean, low, high, tone, shape, hollow, dots, tip}]}, in percent.
function forest(lines, { width, unit, zero = false, low = null, high = null, name }) {
  const narrow = width < 520;
  const left = narrow ? 8 : Math.min(250, width * 0.42), right = width - 14, slot = 15;
  const ends = lines.flatMap((line) => line.marks.flatMap((mark) => [mark.mean, mark.low, mark.high, ...(mark.dots || [])]))
    .filter((value) => value !== null && value !== undefined);
  if (zero) ends.push(0);
  const axis = scale(low ?? Math.min(...ends), high ?? Math.max(...ends), (right - left) / 55);
  const x = (value) => left + (right - left) * (value - axis.first) / (axis.last - axis.first);
  const svg = make("svg", { class: "chart", role: "img", "aria-label": name });
  let y = 4;
  const rows = lines.map((line) => {
    const top = y;
    const text = line.label === "" ? 0 : line.sub ? 30 : 17;
    const head = narrow ? text + 2 : 0;
    y += head + Math.max(narrow ? 0 : text, (line.slots ?? line.marks.length) * slot) + 6;
    return { ...line, top, head };
  });
  const bottom = y;
  for (const tick of axis.ticks) {
    const own = zero && Math.abs(tick) < 1e-9;
    svg.append(make("line", { x1: x(tick), x2: x(tick), y1: 0, y2: bottom, class: own ? "zero" : "grid" }),
      make("text", { x: x(tick), y: bottom + 14, class: "soft", "text-anchor": "middle" }, axis.text(tick)));
  }
  svg.append(make("text", { x: right, y: bottom + 30, class: "soft", "text-anchor": "end" }, unit));
  for (const { label, sub, bold, marks, top, head } of rows) {
    const fits = Math.floor((narrow ? width - 16 : left - 16) / 6.3);
    const short = (text, more) => text.length > fits + more ? `${text.slice(0, fits + more - 1)}…` : text;
    const place = { x: narrow ? 2 : left - 10, "text-anchor": narrow ? "start" : "end" };
    svg.append(make("text", { ...place, y: top + 12, class: bold ? "bold" : "" }, short(label, 0)));
    if (sub) svg.append(make("text", { ...place, y: top + 26, class: "soft" }, short(sub, 5)));
    marks.forEach((mark, at) => {
      const line = top + head + 8 + at * slot;
      const g = make("g", { class: `t-${mark.tone}`, "data-tip": mark.tip });
      g.append(make("rect", { x: left, y: line - slot / 2, width: right - left, height: slot, fill: "transparent" }));
      if (mark.low !== null && mark.low !== undefined) g.append(make("path", { d: `M${x(mark.low)} ${line}H${x(mark.high)}M${x(mark.low)} ${line - 3}v6M${x(mark.high)} ${line - 3}v6`, class: "whisker" }));
      for (const dot of mark.dots || []) if (dot !== null) g.append(make("circle", { cx: x(dot), cy: line + 5, r: 2, class: "seed" }));
      if (mark.mean !== null) g.append(markShape(mark.shape, x(mark.mean), line, mark.tone, mark.hollow));
      else g.append(make("text", { x: left + 6, y: line + 4, class: "soft" }, "no images"));
      svg.append(g);
    });
  }
  svg.setAttribute("width", width);
  svg.setAttribute("height", bottom + 36);
  svg.setAttribute("viewBox", `0 0 ${width} ${bottom + 36}`);
  return svg;
}

// Curves over x; a null is a gap. series: {name, tone, ys, rings: [x]}; marks: x of dotted lines.
// points: {x, mean, low, high, tone, shape, hollow, tip} drawn with their intervals.
function curves({ title, xs, series = [], points = [], marks = [], xLabel, low = null, high = null, whole = false, width = 330, unit = "" }) {
  const height = 190, left = 44, right = width - 10, top = 26, bottom = height - 32;
  const values = [...series.flatMap((one) => one.ys), ...points.flatMap((one) => [one.mean, one.low, one.high])].filter((value) => value !== null && value !== undefined);
  const svg = make("svg", { class: "chart", role: "img", "aria-label": title, width, height, viewBox: `0 0 ${width} ${height}` },
    make("text", { x: 4, y: 13, class: "bold" }, title));
  if (!values.length) {
    svg.append(make("text", { x: left, y: height / 2, class: "soft" }, "nothing logged yet"));
    return svg;
  }
  const axis = scale(low ?? Math.min(...values), high ?? Math.max(...values), 5);
  const [first, last] = [Math.min(...xs), Math.max(...xs)];
  const pad = points.length ? 0.5 : 0;
  const x = (value) => last > first || pad ? left + (right - left) * (value - first + pad) / (last - first + 2 * pad) : (left + right) / 2;
  const y = (value) => bottom - (bottom - top) * (value - axis.first) / (axis.last - axis.first);
  for (const tick of axis.ticks) {
    svg.append(make("line", { x1: left, x2: right, y1: y(tick), y2: y(tick), class: "grid" }),
      make("text", { x: left - 6, y: y(tick) + 4, class: "soft", "text-anchor": "end" }, axis.text(tick)));
  }
  const across = scale(first, last, whole ? Math.min(8, last - first || 1) : 5);
  for (const tick of whole && last - first < 8 ? [...new Set(xs)] : across.ticks.filter((tick) => tick >= first && tick <= last)) {
    svg.append(make("text", { x: x(tick), y: bottom + 14, class: "soft", "text-anchor": "middle" }, many(Math.round(tick))));
  }
  svg.append(make("text", { x: right, y: bottom + 28, class: "soft", "text-anchor": "end" }, xLabel),
    make("text", { x: right, y: 13, class: "soft", "text-anchor": "end" }, unit));
  for (const mark of marks) svg.append(make("line", { x1: x(mark), x2: x(mark), y1: top, y2: bottom, class: "chosen" }));
  for (const { name, tone, ys, rings = [], thin } of series) {
    let path = "", gap = true;
    ys.forEach((value, at) => {
      if (value !== null) path += `${gap ? "M" : "L"}${x(xs[at]).toFixed(1)} ${y(value).toFixed(1)}`;
      gap = gap && value === null || value === null && !thin; // a thin line joins what there is
    });
    svg.append(make("path", { d: path, class: `${thin ? "mean" : "curve"} t-${tone}`, "data-tip": name }));
    if (ys.length === 1 && ys[0] !== null) svg.append(markShape("circle", x(xs[0]), y(ys[0]), tone));
    for (const ring of rings) {
      const value = ys[xs.indexOf(ring)];
      if (value !== null && value !== undefined) {
        svg.append(make("g", { "data-tip": `${name}: ${number(value)} after epoch ${ring}` }, markShape("circle", x(ring), y(value), tone, true)));
      }
    }
  }
  for (const { at, mean, low: from, high: to, tone, shape, hollow, tip } of points) {
    const g = make("g", { class: `t-${tone}`, "data-tip": tip });
    if (from !== null) g.append(make("path", { d: `M${x(at)} ${y(from)}V${y(to)}M${x(at) - 3} ${y(from)}h6M${x(at) - 3} ${y(to)}h6`, class: "whisker" }));
    g.append(markShape(shape, x(at), y(mean), tone, hollow));
    svg.append(g);
  }
  return svg;
}
