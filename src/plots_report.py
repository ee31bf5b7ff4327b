"""Figures of a report: rows of report.json in, a figure out. Intervals are drawn where there are
any, and what has no images is left out, never drawn as 0.

A method has a colour, a way to weigh tasks has a shape, and a network of one task is hollow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.plots_groups import FAINT, INK, save_figure, whole_ticks
from src.report_rows import ABLATIONS, CONTRASTS, Families, Pairing, Row, in_family, pairings

# Okabe and Ito's colours for colour-blind eyes, a little darker where they are thin on white.
METHOD_COLOURS = {
    "erm": "#0072b2",
    "suby": "#d55e00",
    "rwy": "#009e73",
    "jtt": "#b0558a",
    "subg": "#c48a00",
    "rwg": "#3fa0d8",
}
SHAPES = {"static_equal": "o", "static_delta": "s", "dynamic": "D"}
WEIGHTINGS = {"static_equal": "equal", "static_delta": "by delta", "dynamic": "dynamic"}
MEASURES = {"average": "average", "worst_group": "worst-group"}
_SLOT = 0.2  # inches between marks


@dataclass(frozen=True)
class Mark:
    """A value with its interval, in percent or points, and how it is drawn."""

    value: float
    low: float | None
    high: float | None
    style: Row


@dataclass(frozen=True)
class Entry:
    """A line of a forest plot: its name, small print below it, and its marks."""

    name: str
    small: str
    marks: Sequence[Mark]
    mean: bool = False  # a mean without an interval, printed bold


def plot_report(
    folder: Path, report: Mapping[str, Any], families: Families, split: str, rule: str
) -> list[Path]:
    """Write every figure that the report has rows for, once for each measure; returns the paths.

    Args:
        rule: a position of the rule switch, see `report_rows.RULES`.
    """
    pairs, alone = pairings(report, split, rule)
    kinds = " or ".join(sorted({row["interval"] for row in [*alone, *(p.row for p in pairs)]}))
    note = f"{split} split, epochs chosen by {rule}; 95 % intervals: {kinds}"
    written = []
    for measure in MEASURES:
        # A figure per family: all of them, some hundred tasks, would be metres long.
        figures = {
            f"compare_{name}": stl_against_mtl(
                [pair for pair in pairs if in_family(pair.row, runs)], measure, note
            )
            for name, runs in families.items()
        }
        figures["families"] = family_contrasts(pairs, families, measure, note)
        figures |= {
            f"tasks_{name}": number_of_tasks(pairs, alone, families[name], measure, note)
            for name in ABLATIONS
            if name in families
        }
        for name, figure in figures.items():
            path = folder / f"{name}_{measure}.png"
            if figure is None:
                path.unlink(missing_ok=True)  # an earlier report had other rows
            else:
                written.append(path)
                save_figure(figure, path)
    return written


def stl_against_mtl(pairs: Sequence[Pairing], measure: str, note: str = "") -> Figure | None:
    """Each task alone and together, and the paired difference; None without a task in both ways.

    Args:
        measure: average or worst_group; note: small print below.
    """
    grouped = _by_task([pair for pair in pairs if pair.alone])
    if not grouped:
        return None
    accuracies = []
    for same in grouped:
        single = {id(row): row for pair in same for row in pair.alone}
        rows = [*single.values(), *(pair.row for pair in same)]
        methods = list(dict.fromkeys(row["method"] for row in rows))
        marks = _marks(sorted(rows, key=lambda row: methods.index(row["method"])), measure)
        accuracies.append(_entry(same[0].row, marks))
    gaps = [_entry(same[0].row, _gaps(same, measure)) for same in grouped]
    return _forest(
        f"Several tasks against one: {MEASURES[measure]} accuracy",
        {"accuracy, %": accuracies, "MTL − STL, points": gaps},
        note,
    )


def family_contrasts(
    pairs: Sequence[Pairing], families: Families, measure: str, note: str = ""
) -> Figure | None:
    """MTL - STL in points, family against family; None where no contrast has both sides.

    The mean of a family has no interval: its tasks share test images and networks, so their
    intervals cannot be pooled.
    """
    panels = {}
    for names in CONTRASTS:
        sides = [
            _family(name, [p for p in pairs if in_family(p.row, families.get(name, ()))], measure)
            for name in names
        ]
        if all(sides):
            panels[f"{' against '.join(names)}: MTL − STL, points"] = [e for s in sides for e in s]
    if not panels:
        return None
    return _forest(f"Families of tasks: {MEASURES[measure]} accuracy", panels, note)


def _family(name: str, pairs: Sequence[Pairing], measure: str) -> list[Entry]:
    """A heading with the mean, then a line per task; empty without a difference."""
    entries = [_entry(same[0].row, _gaps(same, measure)) for same in _by_task(pairs)]
    entries = [entry for entry in entries if entry.marks]
    values = [mark.value for entry in entries for mark in entry.marks]
    if not values:
        return []
    mean = float(np.mean(values).round(6))  # 4.75 is printed as 4.8
    style = {"method": "", "weighting": "dynamic", "groupings": ["", ""]}
    small = f"mean of {len(values)} results"
    return [
        Entry(
            f"{name} {mean:+.1f}".replace("-", "−"),
            small,
            [Mark(mean, None, None, style)],
            mean=True,
        ),
        *entries,
    ]


def number_of_tasks(
    pairs: Sequence[Pairing],
    alone: Sequence[Row],
    runs: Sequence[Sequence[str]],
    measure: str,
    note: str = "",
) -> Figure | None:
    """A panel per task: accuracy against how many tasks share the network.

    Args:
        alone: rows of networks of one task; runs: the lists of groupings of the ablation.

    Returns:
        None unless a task occurs with different numbers of tasks.
    """
    members = [pair.row for pair in pairs if in_family(pair.row, runs)]
    methods = {row["method"] for row in members}
    tasks: dict[str, list[Row]] = {}
    for row in [*alone, *members]:
        if row["method"] in methods and row[measure]["mean"] is not None:
            tasks.setdefault(row["grouping"], []).append(row)
    tasks = {
        name: rows for name, rows in tasks.items() if len({len(r["groupings"]) for r in rows}) > 1
    }
    if not tasks:
        return None
    columns = min(3, len(tasks))
    lines = -(-len(tasks) // columns)
    title = f"Number of tasks: {MEASURES[measure]} accuracy"
    rows = [row for same in tasks.values() for row in same]
    figure, axes = _page(
        title, rows, 3.4 * columns + 0.6, 2.4 * lines, (lines, columns), note, True
    )
    for axis in axes[len(tasks) :]:
        axis.remove()
    for axis, (name, same) in zip(axes, tasks.items()):
        _count_panel(axis, name, same, measure)
    most = max(len(row["groupings"]) for row in rows)
    axes[0].set_xlim(0.6, most + 0.4)
    axes[0].set_xticks(range(1, most + 1))
    for axis in axes[: len(tasks) : columns]:
        axis.set_ylabel("accuracy, %")
    for axis in axes[max(0, len(tasks) - columns) : len(tasks)]:
        axis.set_xlabel("number of tasks")
        axis.tick_params(labelbottom=True)
    return figure


def _count_panel(axis: Axes, name: str, rows: Sequence[Row], measure: str) -> None:
    """Marks side by side where a number of tasks has several networks; a line through means."""
    places: dict[int, list[Row]] = {}
    for row in rows:
        places.setdefault(len(row["groupings"]), []).append(row)
    for count, same in sorted(places.items()):
        step = min(0.16, 0.7 / len(same))
        for at, mark in enumerate(_marks(same, measure)):
            _draw(axis, count + step * (at - (len(same) - 1) / 2), mark, upright=True)
    together = [row for row in rows if len(row["groupings"]) > 1]
    for method, weighting in dict.fromkeys((r["method"], r["weighting"]) for r in together):
        values: dict[int, list[float]] = {}
        for row in rows:
            fits = len(row["groupings"]) == 1 or row["weighting"] == weighting
            if row["method"] == method and fits:
                values.setdefault(len(row["groupings"]), []).append(100 * row[measure]["mean"])
        counts = sorted(values)
        means = [np.mean(values[count]) for count in counts]
        axis.plot(counts, means, color=_colour(method), lw=1, alpha=0.5, zorder=1)
    axis.set_title(_readable(name), loc="left", fontsize=10, color=INK)
    axis.grid(axis="y", color="#e6e6e6", lw=0.8)


def epoch_curves(
    title: str,
    epochs: Sequence[int],
    curves: Mapping[str, Sequence[float | None]],
    selected: Mapping[str, int],
    note: str = "",
) -> Figure:
    """Validation accuracy of the worst group against epoch, with the epoch each rule chooses.

    Args:
        epochs: (E,); curves: task to (E,) fractions, None where the group has no images.
        selected: rule to epoch, as in val_stats.json.
    """
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e6e6e6", lw=0.8)
    rules: dict[int, list[str]] = {}
    for rule, epoch in selected.items():
        rules.setdefault(epoch, []).append(rule)
    for epoch in rules:
        axis.axvline(epoch, color=FAINT, lw=1, ls=":", zorder=0)
    for (task, values), colour in zip(curves.items(), _cycle(len(curves))):
        percents = np.array([np.nan if value is None else 100 * value for value in values])
        axis.plot(epochs, percents, color=colour, lw=2, marker="o", ms=3, label=_readable(task))
        chosen = [at for at, epoch in enumerate(epochs) if epoch in rules]
        axis.plot(
            np.array(epochs)[chosen], percents[chosen], "o", color="white", mec=colour, mew=2, ms=8
        )
    axis.set(xlabel="epoch", ylabel="worst-group accuracy, %", xlim=(0.7, max(epochs) + 0.3))
    axis.set_xticks(whole_ticks(max(epochs)))
    axis.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    picked = "; ".join(f"{epoch}: {', '.join(names)}" for epoch, names in sorted(rules.items()))
    small_print = f"ringed, the epochs chosen: {picked}\n{note}".strip()
    figure.supxlabel(small_print, x=0.02, ha="left", fontsize=9, color=FAINT)
    axis.legend(frameon=False)
    return figure


# ----------------------------------------------------------------------------- drawing


def _forest(title: str, panels: Mapping[str, Sequence[Entry]], note: str) -> Figure:
    """A panel beside the other, a line per entry, its marks below each other."""
    rows = [mark.style for entries in panels.values() for e in entries for mark in e.marks]
    heights = [[max(2, len(entry.marks)) for entry in entries] for entries in panels.values()]
    if len({len(of_panel) for of_panel in heights}) == 1:  # the same line at the same height
        heights = [[max(line) for line in zip(*heights)]] * len(panels)
    slots = max(sum(height + 0.6 for height in of_panel) for of_panel in heights)
    width = 6.2 * len(panels)
    figure, axes = _page(title, rows, width, 0.9 + _SLOT * slots, (1, len(panels)), note)
    for axis, (label, entries), of_panel in zip(axes, panels.items(), heights):
        y, ticks = 0.0, []
        for entry, height in zip(entries, of_panel):
            ticks.append(y + height / 2)
            for at, mark in enumerate(entry.marks):
                _draw(axis, y + (at + 0.5) * height / len(entry.marks), mark)
            y += height + 0.6
        axis.set_ylim(slots, -0.4)  # lines are equally far apart in all panels
        axis.set_yticks(ticks, [f"{entry.name}\n{entry.small}" for entry in entries], fontsize=8.5)
        for text, entry in zip(axis.get_yticklabels(), entries):
            text.set_fontweight("bold" if entry.mean else "normal")
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(label)
        axis.grid(axis="x", color="#e6e6e6", lw=0.8)
        if "points" in label:
            axis.axvline(0, color=INK, lw=1, zorder=0)
    return figure


def _page(
    title: str,
    rows: Sequence[Row],
    width: float,
    height: float,
    shape: tuple[int, int],
    note: str,
    shared: bool = False,
) -> tuple[Figure, list[Axes]]:
    """A figure with its title and legend above and small print below, all in inches."""
    keys = {_label(row): row for row in rows if row["method"]}
    columns = max(1, int(width / 2.1))
    above = 0.5 + 0.22 * -(-len(keys) // columns)
    height += above + 0.45
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine(
        "constrained", rect=(0.005, 0.3 / height, 0.99, 1 - (above + 0.3) / height)
    )
    figure.text(0.1 / width, 1 - 0.3 / height, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(0.1 / width, 0.1 / height, note, fontsize=8.5, color=FAINT)
    handles = [
        Line2D([], [], ls="", ms=6, mew=1.6, label=label, **_look(keys[label]))
        for label in sorted(keys)
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.0, 1 - 0.36 / height),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
    )
    axes = list(figure.subplots(*shape, squeeze=False, sharex=shared, sharey=shared).ravel())
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_axisbelow(True)
    return figure, axes


def _draw(axis: Axes, place: float, mark: Mark, upright: bool = False) -> None:
    look = _look(mark.style)
    x, y = (place, mark.value) if upright else (mark.value, place)
    if mark.low is not None:
        around = [[mark.value - mark.low], [mark.high - mark.value]]
        axis.errorbar(
            x,
            y,
            **{"yerr" if upright else "xerr": np.maximum(around, 0)},
            fmt="none",
            ecolor=look["color"],
            elinewidth=1.6,
            capsize=2.5,
        )
    axis.plot(x, y, ls="", ms=6, mew=1.6, zorder=3, **look)


def _look(row: Row) -> dict[str, Any]:
    """Colour of the method, shape of the weighting, hollow where one task is alone."""
    colour = _colour(row["method"])
    alone = len(row["groupings"]) == 1
    shape = "o" if alone else SHAPES.get(row["weighting"], "o")
    return {"color": colour, "marker": shape, "mfc": "white" if alone else colour, "mec": colour}


def _colour(method: str) -> str:
    return METHOD_COLOURS.get(method, "#555555")


def _cycle(count: int) -> list[str]:
    colours = [*METHOD_COLOURS.values(), "#555555"]
    return [colours[at % len(colours)] for at in range(count)]


def _label(row: Row) -> str:
    if len(row["groupings"]) == 1:
        return f"{row['method'].upper()} alone"
    weighting = WEIGHTINGS.get(row["weighting"], row["weighting"])
    return f"{row['method'].upper()} together, {weighting}"


# -------------------------------------------------------------------------- rows to marks


def _by_task(pairs: Sequence[Pairing]) -> list[list[Pairing]]:
    """Pairings of the same task in the same company, in order of appearance."""
    grouped: dict[tuple, list[Pairing]] = {}
    for pair in pairs:
        key = (pair.row["grouping"], tuple(pair.row["groupings"]))
        grouped.setdefault(key, []).append(pair)
    return list(grouped.values())


def _entry(row: Row, marks: Sequence[Mark]) -> Entry:
    others = [_readable(name) for name in row["groupings"] if name != row["grouping"]]
    return Entry(_readable(row["grouping"]), f"with {', '.join(others)}", marks)


def _marks(rows: Sequence[Row], measure: str) -> list[Mark]:
    figures = ((row, row[measure]) for row in rows)
    return [
        Mark(100 * f["mean"], _percent(f["low"]), _percent(f["high"]), row)
        for row, f in figures
        if f["mean"] is not None
    ]


def _gaps(pairs: Sequence[Pairing], measure: str) -> list[Mark]:
    figures = ((pair.row, pair.difference[measure]) for pair in pairs if pair.difference)
    return [
        Mark(100 * f["difference"], _percent(f["low"]), _percent(f["high"]), row)
        for row, f in figures
        if f["difference"] is not None
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _readable(name: str) -> str:
    return name.replace("_", " ").replace(":", " : ")
