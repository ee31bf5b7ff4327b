"""The figures of a report for a paper: forests of results, one per family of tasks.

A method has a colour and a way to weight tasks has a shape; networks of one task are hollow. What
has no images is left out. All other figures are on the page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.evaluation.plots import GRID, INK, framed_figure, save_figure
from src.report.rows import CUT, Families, Pairing, Row, in_family, pairings
from src.report.text import partners

# Okabe and Ito's colours for colour-blind readers, a little darker where they are thin on white.
METHOD_COLOURS = {
    "erm": "#0072b2",
    "suby": "#d55e00",
    "rwy": "#009e73",
    "jtt": "#b0558a",
    "subg": "#c48a00",
    "rwg": "#3fa0d8",
}
OTHER_COLOURS = ("#555555", "#7b4f2a", "#5b4ea2", "#8aa000")
SHAPES = {"static_equal": "o", "static_delta": "s", "dynamic": "D"}
WEIGHTINGS = {"static_equal": "equal", "static_delta": "unequal", "dynamic": "dynamic"}
MEASURES = {"average": "average", "worst_group": "worst-group"}
SINGLE = "single"  # the figure of networks of one task
MOST_LINES = 40
_SLOT = 0.2  # inches between marks


@dataclass(frozen=True)
class Mark:
    """A value and its interval, in percent or points, and the row that it is drawn for."""

    value: float
    low: float | None
    high: float | None
    row: Row


@dataclass(frozen=True)
class Line:
    """A line of a forest: the name of a task, its partners, and its marks."""

    name: str
    small: str
    marks: list[Mark]


def plot_report(
    folder: Path, report: Mapping[str, Any], families: Families, split: str, rule: str
) -> list[Path]:
    """Write a forest per family and measure as PNG and PDF; return the paths.

    Args:
        rule: a position of the rule switch, see `rows.RULES`.
    """
    pairs, alone = pairings(report, split, rule)
    pairs = [pair for pair in pairs if CUT not in pair.row["settings"]]
    alone = [row for row in alone if CUT not in row["settings"]]
    kinds = " or ".join(sorted({r["interval"] for r in [*alone, *(pair.row for pair in pairs)]}))
    note = f"{split} split, epochs selected by {rule}; 95 % intervals: {kinds}"
    written = []
    for measure in MEASURES:
        figures = {SINGLE: single_tasks(alone, measure, note)}
        for name, runs in families.items():
            members = [pair for pair in pairs if in_family(pair.row, runs)]
            figures[name] = together_and_alone(members, measure, note)
        for name, figure in figures.items():
            for kind in ("png", "pdf"):
                path = folder / f"results_{name}_{measure}.{kind}"
                if figure is None:
                    path.unlink(missing_ok=True)  # an earlier report had such rows
                else:
                    save_figure(figure, path)
                    written.append(path)
    return written


def single_tasks(rows: Sequence[Row], measure: str, note: str = "") -> Figure | None:
    """Draw a line per task with a mark per method and setting; None without rows."""
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(row["grouping"], []).append(row)
    lines = [Line(readable(name), "", row_marks(same, measure)) for name, same in tasks.items()]
    title = f"{MEASURES[measure].capitalize()} accuracy, one task per network"
    return forest(title, {"accuracy, %": lines}, note)


def together_and_alone(pairs: Sequence[Pairing], measure: str, note: str = "") -> Figure | None:
    """Draw each task alone and among others, and the difference at equal settings."""
    tasks: dict[tuple, list[Pairing]] = {}
    for pair in pairs:
        tasks.setdefault((pair.row["grouping"], *pair.row["groupings"]), []).append(pair)
    accuracies, gaps = [], []
    for (name, *_), same in tasks.items():
        small = f"with {', '.join(map(readable, partners(same[0].row)))}"
        single = {id(row): row for pair in same for row in pair.alone if CUT not in row["settings"]}
        rows = sorted(
            [*single.values(), *(pair.row for pair in same)], key=lambda row: row["method"]
        )
        accuracies.append(Line(readable(name), small, row_marks(rows, measure)))
        gaps.append(Line(readable(name), small, gap_marks(same, measure)))
    panels = {"accuracy, %": accuracies}
    if any(line.marks for line in gaps):
        panels["MTL − STL at equal settings, points"] = gaps
    return forest(f"{MEASURES[measure].capitalize()} accuracy", panels, note)


def marks_of(figures: Iterable[tuple[Row, Mapping[str, Any]]], centre: str) -> list[Mark]:
    """Return the marks of rows with figures; what has no value is left out."""
    return [
        Mark(*(None if of[key] is None else 100 * of[key] for key in (centre, "low", "high")), row)
        for row, of in figures
        if of[centre] is not None
    ]


def row_marks(rows: Sequence[Row], measure: str) -> list[Mark]:
    return marks_of(((row, row[measure]) for row in rows), "mean")


def gap_marks(pairs: Sequence[Pairing], measure: str) -> list[Mark]:
    """Return the marks of the differences at equal settings."""
    matched = [pair for pair in pairs if pair.difference and pair.difference["matched"]]
    return marks_of(((pair.row, pair.difference[measure]) for pair in matched), "difference")


def forest(title: str, panels: Mapping[str, Sequence[Line]], note: str) -> Figure | None:
    """Draw panels side by side with a line per task and its marks below each other.

    Returns:
        None if there is no mark.
    """
    rows = [mark.row for lines in panels.values() for line in lines for mark in line.marks]
    if not rows:
        return None
    left_out = len(next(iter(panels.values()))) - MOST_LINES
    if left_out > 0:
        panels = {label: lines[:MOST_LINES] for label, lines in panels.items()}
        note += f"; {left_out} more tasks are on the page"
    # A task has the same height in all panels.
    heights = [max(2, *(len(line.marks) for line in same)) for same in zip(*panels.values())]
    slots = sum(heights) + 0.6 * len(heights)
    others = sorted({row["method"] for row in rows} - METHOD_COLOURS.keys())
    colours = METHOD_COLOURS | dict(zip(others, cycle(OTHER_COLOURS)))
    looks = {label(row): look_of(row, colours) for row in rows}
    width = 1.5 + 5.2 * len(panels)
    columns = max(1, int(width / 2.1))
    above = 0.6 + 0.22 * -(-len(looks) // columns)
    figure = framed_figure(title, width, _SLOT * slots + above + 1.2, above, note)
    handles = [
        Line2D([], [], ls="", ms=6, mew=1.6, label=name, **looks[name]) for name in sorted(looks)
    ]
    anchor = (0.0, 1 - 0.42 / figure.get_figheight())
    place = {"loc": "upper left", "bbox_to_anchor": anchor, "ncols": columns}
    figure.legend(handles=handles, frameon=False, fontsize=9.5, **place)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, lines) in zip(axes, panels.items()):
        ticks, y = [], 0.0
        for line, height in zip(lines, heights):
            ticks.append(y + height / 2)
            for at, mark in enumerate(line.marks):
                draw_mark(axis, y + (at + 0.5) * height / len(line.marks), mark, colours)
            y += height + 0.6
        axis.set_ylim(slots, -0.4)
        names = [f"{line.name}\n{line.small}" if line.small else line.name for line in lines]
        axis.set_yticks(ticks, names if axis is axes[0] else [""] * len(names), fontsize=8.5)
        axis.tick_params(axis="y", length=0)
        axis.set_xlabel(name)
        axis.grid(axis="x", color=GRID, lw=0.8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_axisbelow(True)
        if "points" in name:
            axis.axvline(0, color=INK, lw=1, zorder=0)
    return figure


def draw_mark(axis: Axes, y: float, mark: Mark, colours: Mapping[str, str]) -> None:
    look = look_of(mark.row, colours)
    if mark.low is not None:
        around = np.maximum([[mark.value - mark.low], [mark.high - mark.value]], 0)
        style = {"fmt": "none", "ecolor": look["color"], "elinewidth": 1.6, "capsize": 2.5}
        axis.errorbar([mark.value], [y], xerr=around, **style)
    axis.plot([mark.value], [y], ls="", ms=6, mew=1.6, zorder=3, **look)


def look_of(row: Row, colours: Mapping[str, str]) -> dict[str, Any]:
    colour, alone = colours[row["method"]], len(row["groupings"]) == 1
    shape = "o" if alone else SHAPES.get(row["weighting"], "^")
    return {"color": colour, "marker": shape, "mfc": "white" if alone else colour, "mec": colour}


def label(row: Row) -> str:
    if len(row["groupings"]) == 1:
        return f"{row['method'].upper()} alone"
    weighting = WEIGHTINGS.get(row["weighting"], row["weighting"])
    return f"{row['method'].upper()} together, {weighting}"


def readable(name: str) -> str:
    return name.replace("_", " ").replace(":", " : ")
