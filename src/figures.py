"""PNG figures: one heatmap for the whole project, and saving.

Figures are `matplotlib.figure.Figure` objects, never pyplot's: they do not depend on the backend of
the caller. The same numbers give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from src.io import atomic_path


def save_figure(figure: Figure, path: Path, dpi: int = 120) -> None:
    """Write a figure as PNG, without a date or version in it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})


def readable(names: Sequence[str]) -> list[str]:
    """Return column names as people read them."""
    return [name.replace("_", " ") for name in names]


def heatmap(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    label: str,
    texts: np.ndarray | None = None,
    **options: Any,
) -> None:
    """Draw values (R, C) with named rows and columns; NaN is grey and hatched.

    Args:
        label: of the colour bar.
        texts: (R, C) str, written into the cells.
        options: of `seaborn.heatmap`, such as vmin, vmax, norm and cmap.
    """
    axes.set_facecolor("#dddddd")
    axes.patch.set(hatch="////", edgecolor="#aaaaaa")
    if "norm" not in options and np.isfinite(values).any():
        options = {"vmin": 0, "vmax": np.nanmax(values)} | options
    seaborn.heatmap(
        values,
        ax=axes,
        mask=np.isnan(values),
        annot=texts,
        fmt="",
        annot_kws={"fontsize": 6},
        xticklabels=readable(columns),
        yticklabels=readable(rows),
        cbar_kws={"label": label, "pad": 0.01, "fraction": 0.025},
        **{"cmap": "magma_r"} | options,
    )
    axes.tick_params(length=0, labelsize=7)
    axes.tick_params(axis="x", rotation=90)
    axes.tick_params(axis="y", rotation=0)
    bar = axes.collections[0].colorbar.ax
    bar.tick_params(labelsize=7)
    bar.yaxis.label.set_size(8)
