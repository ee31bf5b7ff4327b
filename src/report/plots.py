"""The figures of a report: forests of results, one per family of tasks and measure.

A method has a colour and a way to weight tasks has a shape; networks of one task are hollow. What
has no images is left out, and so are runs that were cut short.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.figures import INK, clean_axes, framed_figure, save_figure
from src.report.rows import CUT, Families, Row, in_family, partners

# Okabe and Ito's colours for colour-blind readers, a little darker where they are thin on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0558a", "#c48a00", "#3fa0d8", "#555555", "#7b4f2a")
SHAPES = {"static_equal": "o", "static_delta": "s", "dynamic": "D"}
WEIGHTINGS = {"static_equal": "equal", "static_delta": "unequal", "dynamic": "dynamic"}
MEASURES = {"average": "Average", "worst_group": "Worst-group"}
SINGLE = "single"  # the figure of networks of one task
MOST_LINES = 40


def plot_report(
    folder: Path, report: Mapping[str, Any], families: Families, rule: str
) -> dict[str, list[Path]]:
    """Write a forest per family and measure as PNG and PDF; return the PNG files by family.

    Args:
        rule: a position of the rule switch, see `rows.RULES`.
    """
    rows = [r for r in report["rows"] if rule in r["shown"] and CUT not in r["settings"]]
    alone = [row for row in rows if len(row["groupings"]) == 1]
    drawn: dict[str, list[Path]] = {}
    for old in folder.glob("results_*"):
        old.unlink()  # of an earlier report
    for name, runs in {SINGLE: [], **families}.items():
        members = [row for row in rows if in_family(row, runs)] if runs else alone
        for measure in MEASURES:
            figure = forest(members, alone, measure, rule)
            if figure is not None:
                path = folder / f"results_{name}_{measure}.png"
                save_figure(figure, path)
                save_figure(figure, path.with_suffix(".pdf"))
                drawn.setdefault(name, []).append(path)
    return drawn


def forest(rows: Sequence[Row], alone: Sequence[Row], measure: str, rule: str) -> Figure | None:
    """Draw a line per task with a mark per method and setting, and the differences from the task
    alone at equal settings; None without a mark.

    Args:
        alone: networks of one task; those of the tasks and methods of `rows` are drawn, too.
    """
    lines: dict[tuple, list[Row]] = {}  # by task and its partners
    for row in rows:
        lines.setdefault((row["grouping"], *row["groupings"]), []).append(row)
    for (grouping, *groupings), same in lines.items():
        methods = {row["method"] for row in same}
        if len(groupings) > 1:
            same += [r for r in alone if r["grouping"] == grouping and r["method"] in methods]
        same.sort(key=lambda row: (row["method"], len(row["groupings"])))
    shown = list(lines.values())[:MOST_LINES]
    marks = [row for same in shown for row in same if row[measure]["mean"] is not None]
    if not marks:
        return None
    gaps = [
        row["difference"][measure]["difference"]
        for row in marks
        if row["difference"] and row["difference"]["matched"]
    ]
    panels = {"accuracy, %": lambda row: (row[measure], "mean")}
    if gaps:
        label = f"MTL − STL at equal settings, points (mean {100 * np.mean(gaps):+.1f})"
        panels[label] = lambda row: (
            (row["difference"][measure], "difference")
            if row["difference"] and row["difference"]["matched"]
            else None
        )
    kinds = " or ".join(sorted({row["interval"] for row in marks}))
    note = f"{marks[0]['split']} split, epochs selected by {rule}; 95 % intervals: {kinds}"
    if len(lines) > MOST_LINES:
        note += f"; {len(lines) - MOST_LINES} more tasks are in the table"
    heights = [len(same) + 1 for same in shown]
    tops = np.cumsum([0, *heights])
    title = f"{MEASURES[measure]} accuracy"
    figure = framed_figure(title, 4 + 4.5 * len(panels), 1.6 + 0.2 * sum(heights), note)
    colours = dict(zip(sorted({row["method"] for row in marks}), COLOURS * len(marks)))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (name, figures) in zip(axes, panels.items()):
        for top, same in zip(tops, shown):
            for at, row in enumerate(same):
                if (found := figures(row)) is not None:
                    draw_mark(axis, top + at, *found, row, colours[row["method"]])
        axis.set_xlabel(name)
        clean_axes(axis, "x")
    names = [readable(same[-1]) for same in shown]
    axes[0].set_yticks(tops[:-1] + np.array(heights) / 2 - 1, names, fontsize=8.5)
    axes[0].invert_yaxis()
    if gaps:
        axes[1].axvline(0, color=INK, lw=1, zorder=0)
    handles = {text: mark for mark, text in zip(*axes[0].get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=9)
    return figure


def draw_mark(
    axes: Axes, y: float, figures: Mapping[str, Any], centre: str, row: Row, colour: str
) -> None:
    """Draw a value in percent or points with its interval."""
    if figures[centre] is None:
        return
    value, low, high = (100 * figures[key] for key in (centre, "low", "high"))
    is_alone = len(row["groupings"]) == 1
    weighting = WEIGHTINGS.get(row["weighting"], row["weighting"])
    axes.errorbar(
        [value],
        [y],
        xerr=np.maximum([[value - low], [high - value]], 0),
        fmt="o" if is_alone else SHAPES.get(row["weighting"], "^"),
        color=colour,
        mfc="white" if is_alone else colour,
        ms=6,
        capsize=2.5,
        label=f"{row['method'].upper()} {'alone' if is_alone else f'together, {weighting}'}",
    )


def readable(row: Row) -> str:
    """Return the name of a task, and of its partners below."""
    names = [row["grouping"], *([f"with {', '.join(partners(row))}"] if partners(row) else [])]
    return "\n".join(names).replace("_", " ").replace(":", " : ")
