"""Figures of results: arrays in, a figure out."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from src.evaluation.plots import FAINT


def grid_heatmaps(
    panels: Mapping[str, np.ndarray],
    rows: Sequence[str],
    columns: Sequence[str],
    row_label: str,
    column_label: str,
    note: str = "",
) -> Figure:
    """Heatmaps of a hyperparameter grid, up to four in a row; the best cell of each has a frame.

    Args:
        panels: title to percent (R, C); NaN where there is no figure yet.
        rows, columns: names of the R values and the C values.
        note: small print below.
    """
    across = min(4, len(panels))
    lines = -(-len(panels) // across)
    size = (1.2 + 3.4 * across, (1.4 + 0.55 * len(rows)) * lines)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(lines, across, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (title, values) in zip(axes, panels.items()):
        _heatmap(axis, values)
        axis.set_title(title, fontsize="medium", loc="left")
        axis.set_xticks(range(len(columns)), columns)
        axis.set_yticks(range(len(rows)), rows)
        axis.set_xlabel(column_label)
        axis.set_ylabel(row_label)
    if note:
        small_print = textwrap.fill(note, int(15 * size[0]))
        figure.supxlabel(small_print, x=0.01, ha="left", fontsize=8.5, color=FAINT)
    return figure


def _heatmap(axis: Axes, values: np.ndarray) -> None:
    known = values[np.isfinite(values)]
    middle = (known.min() + known.max()) / 2 if len(known) else 0.0
    axis.imshow(np.ma.masked_invalid(values), cmap="viridis", aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = f"{value:.1f}" if np.isfinite(value) else "-"
        dark = np.isfinite(value) and value < middle
        axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    if len(known):
        best = np.unravel_index(np.nanargmax(values), values.shape)
        frame = Rectangle((best[1] - 0.5, best[0] - 0.5), 1, 1, fill=False, ec="red", lw=2)
        axis.add_patch(frame)
