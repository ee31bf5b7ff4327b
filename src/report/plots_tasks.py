"""Figures of a report with a line per task: alone against together, and family against family."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from src.evaluation.plots import INK
from src.report.plots_marks import (
    MEASURES,
    Mark,
    draw_marks,
    gap_marks,
    readable,
    row_marks,
    titled_figure,
)
from src.report.rows import CONTRAST_NOTES, CONTRASTS, Families, Pairing, Row, in_family

_SLOT = 0.2  # inches between marks


@dataclass(frozen=True)
class Entry:
    """A line of a forest plot: its name, small print below it, and its marks."""

    name: str
    small: str
    marks: Sequence[Mark]
    mean: bool = False  # a mean without an interval, printed bold


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
        marks = row_marks(sorted(rows, key=lambda row: methods.index(row["method"])), measure)
        accuracies.append(_entry(same[0].row, marks))
    gaps = [_entry(same[0].row, gap_marks(same, measure)) for same in grouped]
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
            label = f"{' against '.join(names)}: MTL − STL, points"
            small = CONTRAST_NOTES.get(names)
            panels[f"{label}\n({small})" if small else label] = [e for s in sides for e in s]
    if not panels:
        return None
    return _forest(f"Families of tasks: {MEASURES[measure]} accuracy", panels, note)


def _family(name: str, pairs: Sequence[Pairing], measure: str) -> list[Entry]:
    """A heading with the mean, then a line per task; empty without a difference."""
    entries = [_entry(same[0].row, gap_marks(same, measure)) for same in _by_task(pairs)]
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


def _by_task(pairs: Sequence[Pairing]) -> list[list[Pairing]]:
    """Pairings of the same task in the same company, in order of appearance."""
    grouped: dict[tuple, list[Pairing]] = {}
    for pair in pairs:
        key = (pair.row["grouping"], tuple(pair.row["groupings"]))
        grouped.setdefault(key, []).append(pair)
    return list(grouped.values())


def _entry(row: Row, marks: Sequence[Mark]) -> Entry:
    others = [readable(name) for name in row["groupings"] if name != row["grouping"]]
    return Entry(readable(row["grouping"]), f"with {', '.join(others)}", marks)


def _forest(title: str, panels: Mapping[str, Sequence[Entry]], note: str) -> Figure:
    """A panel beside the other, a line per entry, its marks below each other."""
    rows = [mark.style for entries in panels.values() for e in entries for mark in e.marks]
    heights = [[max(2, len(entry.marks)) for entry in entries] for entries in panels.values()]
    if len({len(of_panel) for of_panel in heights}) == 1:  # the same line at the same height
        heights = [[max(line) for line in zip(*heights)]] * len(panels)
    slots = max(sum(height + 0.6 for height in of_panel) for of_panel in heights)
    width = 6.2 * len(panels)
    figure, axes = titled_figure(title, rows, width, 0.9 + _SLOT * slots, (1, len(panels)), note)
    for axis, (label, entries), of_panel in zip(axes, panels.items(), heights):
        y, ticks, placed = 0.0, [], []
        for entry, height in zip(entries, of_panel):
            ticks.append(y + height / 2)
            step = height / max(1, len(entry.marks))
            placed += [(y + (at + 0.5) * step, mark) for at, mark in enumerate(entry.marks)]
            y += height + 0.6
        draw_marks(axis, placed)
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
