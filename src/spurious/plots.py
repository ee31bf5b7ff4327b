"""Heatmaps of one task's pairs: arrays in, a PNG out.

Undefined pairs are hatched. Pictures are the same byte for byte for the same numbers.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from src.data.groupings import ATTRIBUTES
from src.io import atomic_path
from src.spurious.delta import gaps
from src.spurious.results import TaskResult

DELTA_COLOURS = "magma_r"
_UNDEFINED = "#dddddd"


def save(figure: Figure, path: Path) -> None:
    """Write a figure whole, without a date or version in it."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
    plt.close(figure)


def readable(names: Sequence[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def heatmap(
    axes: Axes,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    colours: str = DELTA_COLOURS,
    norm: Normalize | None = None,
    texts: np.ndarray | None = None,
    label: str = "",
) -> None:
    """Draw values (R, C) with named rows and columns; NaN is grey and hatched.

    `texts` (R, C) are written into the cells, dark on light and light on dark.
    """
    axes.set_facecolor(_UNDEFINED)
    axes.patch.set(hatch="////", edgecolor="#aaaaaa")
    masked = np.ma.masked_invalid(values)
    if norm is None:
        norm = Normalize(0, float(masked.max()) if masked.count() else 1.0)
    image = axes.imshow(masked, cmap=colours, norm=norm, aspect="auto", interpolation="none")
    axes.set_xticks(range(len(columns)), readable(columns), rotation=90, fontsize=7)
    axes.set_yticks(range(len(rows)), readable(rows), fontsize=7)
    axes.tick_params(length=0)
    bar = axes.figure.colorbar(image, ax=axes, pad=0.01, fraction=0.025)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if texts is not None:
        shades = image.to_rgba(masked)[..., :3] @ [0.299, 0.587, 0.114]  # (R, C) brightness
        for (row, column), text in np.ndenumerate(texts):
            dark = np.isnan(values[row, column]) or shades[row, column] > 0.55
            colour = "black" if dark else "white"
            axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)


# ---------------------------------------------------------------------------- one task


def plot_task(folder: Path, result: TaskResult) -> None:
    """group_accuracy.png, group_size.png and delta.png of a task, a column per attribute."""
    others = [row for row, name in enumerate(ATTRIBUTES) if name != result.task]
    names = [ATTRIBUTES[row] for row in others]
    task = result.task.replace("_", " ")
    correct, total = result.correct[others].T, result.total[others].T  # (4, 39)
    groups = [f"g{g}  y={g >> 1} a={g & 1}" for g in range(4)]
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = 100 * correct / total
    delta = gaps(result.correct[others], result.total[others]).delta[None]  # (1, 39)

    def draw(name: str, title: str, height: float, *values, **settings) -> None:
        figure, axes = plt.subplots(figsize=(15, height))
        # Measured in inches: the longest name fits below, whatever the height.
        figure.subplots_adjust(0.06, 1.25 / height, 0.97, 1 - 0.3 / height)
        heatmap(axes, *values, names, **settings)
        axes.set_title(f"{task}: {title} ({result.split})", fontsize=10, loc="left")
        save(figure, folder / name)

    draw(
        "group_accuracy.png",
        "accuracy of each group",
        3.4,
        accuracy,
        groups,
        colours="viridis",
        norm=Normalize(0, 100),
        texts=_whole(accuracy),
        label="accuracy, %",
    )
    draw(
        "group_size.png",
        "examples in each group",
        3.4,
        np.where(total > 0, total, np.nan),
        groups,
        colours="Blues",
        norm=LogNorm(1, max(2, total.max())),
        texts=np.vectorize(_short)(total),
        label="examples",
    )
    draw(
        "delta.png",
        "delta = |g0 + g3 - g1 - g2|",
        2.3,
        delta,
        ["delta"],
        texts=_whole(delta),
        label="points",
    )


def _whole(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: "" if np.isnan(value) else f"{value:.0f}")(values)


def _short(count: int) -> str:
    """9999 as it is, 12345 as 12k: it must fit into a cell."""
    return str(count) if count < 10_000 else f"{count / 1000:.0f}k"
