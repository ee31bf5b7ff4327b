"""What all PNG and PDF figures share: saving, a frame with title and small print, a heatmap.

Figures are `matplotlib.figure.Figure` objects, never pyplot's: they do not depend on the backend of
the caller. The same numbers give the same bytes.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.io import atomic_path

INK, FAINT, GRID = "#222222", "#8a8a8a", "#e6e6e6"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or PDF by its suffix, without a date or version in it."""
    kind = path.suffix[1:]
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}[kind]
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=130, metadata=metadata)


def framed_figure(title: str, width: float, height: float, note: str = "") -> Figure:
    """Return a figure (sizes in inches) with its title above and small print below."""
    figure = Figure(figsize=(width, height), layout="constrained")
    left = {"x": 0.1 / width, "ha": "left"}
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, **left)
    figure.supxlabel(textwrap.fill(note, int(15 * width)), fontsize=9, color=FAINT, **left)
    return figure


def clean_axes(axes: Axes, grid: str) -> None:
    """Remove the frame above and on the right, and draw grid lines along `x`, `y` or `both`."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)


def readable(names: Sequence[str]) -> list[str]:
    """Return column names as people read them."""
    return [name.replace("_", " ") for name in names]


def heatmap(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    **options: Any,
) -> None:
    """Draw values (R, C) with named rows and columns; NaN is grey and hatched.

    Args:
        label: of the colour bar.
        options: of `seaborn.heatmap`, such as annot, vmin, vmax, norm and cmap.
    """
    axes.set_facecolor("#dddddd")
    axes.patch.set(hatch="////", edgecolor="#aaaaaa")
    if "norm" not in options and np.isfinite(values).any():
        options = {"vmin": 0, "vmax": np.nanmax(values)} | options
    seaborn.heatmap(
        values,
        ax=axes,
        mask=np.isnan(values),
        annot_kws={"fontsize": 6},
        xticklabels=readable(columns),
        yticklabels=readable(rows),
        cbar_kws={"label": label, "pad": 0.01, "fraction": 0.025},
        **{"cmap": "magma_r"} | options,
    )
    axes.tick_params(length=0, labelsize=7)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(axis="y", rotation=0)
