"""How a result is drawn: a method has a colour, a way to weigh tasks has a shape, and a network of
one task is hollow. Intervals are drawn where there are any, and what has no images is left out,
never drawn as 0.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.evaluation.plots import FAINT, INK
from src.report.rows import Pairing, Row

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
WEIGHTINGS = {"static_equal": "equal", "static_delta": "unequal", "dynamic": "dynamic"}
MEASURES = {"average": "average", "worst_group": "worst-group"}


@dataclass(frozen=True)
class Mark:
    """A value with its interval, in percent or points, and how it is drawn."""

    value: float
    low: float | None
    high: float | None
    style: Row


def row_marks(rows: Sequence[Row], measure: str) -> list[Mark]:
    figures = ((row, row[measure]) for row in rows)
    return [
        Mark(100 * f["mean"], _percent(f["low"]), _percent(f["high"]), row)
        for row, f in figures
        if f["mean"] is not None
    ]


def gap_marks(pairs: Sequence[Pairing], measure: str) -> list[Mark]:
    figures = ((pair.row, pair.difference[measure]) for pair in pairs if pair.difference)
    return [
        Mark(100 * f["difference"], _percent(f["low"]), _percent(f["high"]), row)
        for row, f in figures
        if f["difference"] is not None
    ]


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def readable(name: str) -> str:
    return name.replace("_", " ").replace(":", " : ")


def titled_figure(
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
        Line2D([], [], ls="", ms=6, mew=1.6, label=label, **look_of(keys[label]))
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


def draw_marks(axis: Axes, marks: Iterable[tuple[float, Mark]], upright: bool = False) -> None:
    """Marks at their places; those that look alike are one artist, as a study has thousands."""
    alike: dict[tuple, list[tuple[float, Mark]]] = {}
    for place, mark in marks:
        alike.setdefault(tuple(look_of(mark.style).items()), []).append((place, mark))
    for look, same in alike.items():
        _draw_alike(axis, dict(look), same, upright)


def _draw_alike(
    axis: Axes, look: dict[str, Any], marks: Sequence[tuple[float, Mark]], upright: bool
) -> None:
    places, values = [place for place, _ in marks], [mark.value for _, mark in marks]
    x, y = (places, values) if upright else (values, places)
    # NaN where there is no interval: nothing is drawn.
    around = [
        [m.value - m.low, m.high - m.value] if m.low is not None else [np.nan] * 2 for _, m in marks
    ]
    axis.errorbar(
        x,
        y,
        **{"yerr" if upright else "xerr": np.maximum(np.transpose(around), 0)},
        fmt="none",
        ecolor=look["color"],
        elinewidth=1.6,
        capsize=2.5,
    )
    axis.plot(x, y, ls="", ms=6, mew=1.6, zorder=3, **look)


def look_of(row: Row) -> dict[str, Any]:
    """Colour of the method, shape of the weighting, hollow where one task is alone."""
    colour = colour_of(row["method"])
    alone = len(row["groupings"]) == 1
    shape = "o" if alone else SHAPES.get(row["weighting"], "o")
    return {"color": colour, "marker": shape, "mfc": "white" if alone else colour, "mec": colour}


def colour_of(method: str) -> str:
    return METHOD_COLOURS.get(method, "#555555")


def colour_cycle(count: int) -> list[str]:
    colours = [*METHOD_COLOURS.values(), "#555555"]
    return [colours[at % len(colours)] for at in range(count)]


def _label(row: Row) -> str:
    if len(row["groupings"]) == 1:
        return f"{row['method'].upper()} alone"
    weighting = WEIGHTINGS.get(row["weighting"], row["weighting"])
    return f"{row['method'].upper()} together, {weighting}"
