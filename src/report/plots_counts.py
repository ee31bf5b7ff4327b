"""Figure of a report: accuracy against the number of tasks that share a network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.evaluation.plots import INK
from src.report.plots_marks import (
    MEASURES,
    colour_of,
    draw_marks,
    readable,
    row_marks,
    titled_figure,
)
from src.report.rows import Pairing, Row, in_family

MOST_INTERVALS = 8  # side by side; more would be one block


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
    side_by_side = Counter((name, len(r["groupings"])) for name in tasks for r in tasks[name])
    if max(side_by_side.values()) > MOST_INTERVALS:
        note += f"; no intervals where more than {MOST_INTERVALS} networks have as many tasks"
    rows = [row for same in tasks.values() for row in same]
    figure, axes = titled_figure(
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
    placed = []
    for count, same in sorted(places.items()):
        step, first = min(0.16, 0.7 / len(same)), (len(same) - 1) / 2
        marks = row_marks(same, measure)
        if len(marks) > MOST_INTERVALS:
            marks = [replace(mark, low=None, high=None) for mark in marks]
        placed += [(count + step * (at - first), mark) for at, mark in enumerate(marks)]
    draw_marks(axis, placed, upright=True)
    together = [row for row in rows if len(row["groupings"]) > 1]
    for method, weighting in dict.fromkeys((r["method"], r["weighting"]) for r in together):
        values: dict[int, list[float]] = {}
        for row in rows:
            fits = len(row["groupings"]) == 1 or row["weighting"] == weighting
            if row["method"] == method and fits:
                values.setdefault(len(row["groupings"]), []).append(100 * row[measure]["mean"])
        counts = sorted(values)
        means = [np.mean(values[count]) for count in counts]
        axis.plot(counts, means, color=colour_of(method), lw=1, alpha=0.5, zorder=1)
    axis.set_title(readable(name), loc="left", fontsize=10, color=INK)
    axis.grid(axis="y", color="#e6e6e6", lw=0.8)
