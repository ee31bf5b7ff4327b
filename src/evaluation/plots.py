"""Figures of runs: accuracy per group, learning curves, sheets of mistakes, task weights.

All figures are built as `matplotlib.figure.Figure`, never through pyplot, so that they do not
depend on the caller's backend.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from src.io import atomic_path

# Distinct for colour-blind readers; of four groups class 0 is blue and class 1 is warm.
COLOURS = ("#8fbfe0", "#2f5f93", "#e3b23c", "#b8304f", "#5aa469", "#7b5ea7", "#8c8c8c", "#c77f4a")
COLOURS += ("#d98cb3", "#3d8f8f", "#a8a03a", "#4a4a4a")
INK, FAINT, GRID = "#222222", "#8a8a8a", "#e6e6e6"
WRONG = "#d21f3c"
_CELL, _STRIP = 1.02, 1.62  # inches: width of a face, height of a group's row


@dataclass(frozen=True)
class Accuracies:
    """Accuracies in percent and their intervals, each (rows, G); NaN without examples."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of_groups(cls, rows: Sequence[Sequence[Mapping[str, Any]]]) -> "Accuracies":
        """Collect the groups of several evaluations; see `metrics.summarise`."""
        keys = ("acc", "low", "high")
        parts = ([[group[key] for group in row] for row in rows] for key in keys)
        return cls(*(100 * np.array(part, dtype=float) for part in parts))


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a whole file, PNG or PDF by its suffix; equal figures give equal bytes."""
    FigureCanvasAgg(figure)
    kind = path.suffix[1:]
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}[kind]
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=130, metadata=metadata)


def framed_figure(title: str, width: float, height: float, above: float, note: str) -> Figure:
    """Return a figure with its title above and small print below.

    Args:
        width, height: in inches; above: inches for title and legend.
    """
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    small_print = textwrap.fill(note, int(16 * width))
    bottom = (0.15 + 0.17 * (small_print.count("\n") + 1)) / height
    figure.set_layout_engine("constrained", rect=(0.005, bottom, 0.99, 1 - above / height - bottom))
    figure.text(0.1 / width, 1 - 0.35 / height, title, fontsize=14, fontweight="bold", color=INK)
    figure.text(0.1 / width, 0.1 / height, small_print, fontsize=9, color=FAINT)
    return figure


def group_bars(
    title: str,
    methods: Sequence[str],
    groups: Sequence[str],
    sizes: Sequence[int],
    accuracies: Accuracies,
    averages: Sequence[float],
    note: str = "",
) -> Figure:
    """Draw a panel per method with a bar per group, its interval, and the average above.

    Args:
        methods, groups: M and G names; sizes: (G,) examples of each group.
        accuracies: (M, G) percent; averages: (M,) percent over all examples.
        note: small print under the panels.
    """
    labels = [f"{name} (n = {size:,})" for name, size in zip(groups, sizes)]
    figure, axes = _panels(title, len(methods), labels, note)
    positions = np.arange(len(groups))
    for axis, method, average, value, low, high in zip(
        axes, methods, averages, accuracies.value, accuracies.low, accuracies.high
    ):
        axis.bar(positions, value, width=0.78, color=_colours(groups))
        around = np.stack([value - low, high - value])  # (2, G)
        axis.errorbar(positions, value, around, fmt="none", ecolor=INK, elinewidth=1.4, capsize=4)
        for position, percent, top in zip(positions, value, high):
            known = np.isfinite(percent)
            axis.annotate(
                f"{percent:.0f}" if known else "none",
                (position, top if known else 0),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontweight="bold" if known and percent == np.nanmin(value) else None,
            )
        axis.set_title(f"{method}: {average:.1f} % on average", fontsize=11, color=INK)
        axis.set_xticks([])
        axis.set_ylim(0, 112)
    axes[0].set_ylabel("accuracy, %")
    return figure


def learning_curves(
    title: str,
    methods: Sequence[str],
    groups: Sequence[str],
    curves: Sequence[Accuracies],
    selected: Sequence[int],
    note: str = "",
) -> Figure:
    """Draw a panel per method: accuracy of each group after each epoch, with intervals as bands.

    Args:
        curves: per method (E, G) percent, after epochs 1..E.
        selected: per method the epoch that was selected; it is ringed.
    """
    figure, axes = _panels(title, len(methods), groups, note)
    for axis, method, curve, epoch in zip(axes, methods, curves, selected):
        epochs = np.arange(1, len(curve.value) + 1)
        axis.axvline(epoch, color=FAINT, linewidth=1, linestyle=":", zorder=0)
        for value, low, high, colour in zip(
            curve.value.T, curve.low.T, curve.high.T, _colours(groups)
        ):
            axis.fill_between(epochs, low, high, color=colour, alpha=0.16, lw=0)
            axis.plot(epochs, value, color=colour, linewidth=2, marker="o", markersize=3.5)
            ring = {"color": colour, "markersize": 8, "mec": INK, "mew": 1.2}
            axis.plot(epoch, value[epoch - 1], "o", **ring)
        axis.set_title(f"{method}: epoch {epoch} evaluated", fontsize=11, color=INK)
        axis.set_xlabel("epoch")
        axis.set_xlim(0.7, len(epochs) + 0.3)
        axis.set_xticks(range(1, len(epochs) + 1, -(-len(epochs) // 6)))
        axis.set_ylim(0, 103)
    axes[0].set_ylabel("validation accuracy, %")
    return figure


def mistakes_sheet(
    title: str,
    headings: Sequence[str],
    images: Sequence[np.ndarray],
    wrong: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    note: str = "",
) -> Figure:
    """Draw a row of images per group; mistakes have a red frame.

    Args:
        headings: over each row; images: per row uint8 (K, H, W, 3); wrong: per row (K,) bool.
        captions: per row K short texts, written under the images.
    """
    width = 0.2 + max(1, *(len(row) for row in images)) * _CELL
    height = 1.15 + len(images) * _STRIP
    figure = Figure(figsize=(width, height))

    def write(x: float, y: float, text: str, **style: Any) -> None:  # inches from the top left
        figure.text(x / width, 1 - y / height, text, **style)

    write(0.1, 0.38, title, fontsize=14, fontweight="bold", color=INK)
    write(0.1, height - 0.12, textwrap.fill(note, int(16 * width)), fontsize=9, color=FAINT)
    side = _CELL - 0.08
    for strip, (heading, colour) in enumerate(zip(headings, _colours(headings))):
        top = 0.6 + strip * _STRIP
        write(0.1, top + 0.2, "■", fontsize=14, color=colour)
        write(0.32, top + 0.2, heading, fontsize=11.5, color=INK)
        for column, (image, mark, text) in enumerate(
            zip(images[strip], wrong[strip], captions[strip])
        ):
            left, bottom = (0.12 + column * _CELL) / width, 1 - (top + 0.32 + side) / height
            axis = figure.add_axes((left, bottom, side / width, side / height))
            axis.axis("off")
            axis.imshow(image)
            colour = WRONG if mark else FAINT
            inside = {"transform": axis.transAxes}
            axis.text(0.5, -0.07, text, ha="center", va="top", color=colour, **inside)
            if mark:
                frame = Rectangle((0, 0), 1, 1, fill=False, ec=WRONG, lw=4, **inside)
                frame.set_clip_on(False)
                axis.add_patch(frame)
    return figure


def task_weights(steps: Sequence[int], weights: np.ndarray, tasks: Sequence[str]) -> Figure:
    """Draw the weights of the tasks over training.

    Args:
        steps: (S,) optimizer steps of the log lines.
        weights: (S, T) mean weight of each task since the line before.
        tasks: T names.
    """
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for task, values in zip(tasks, weights.T):
        axis.plot(steps, values, lw=1.5, label=task)
    axis.axhline(1, color="gray", lw=0.8, ls=":")
    axis.set(xlabel="step", ylabel="task weight", ylim=(0, None))
    axis.set_title("Weights of the tasks during training", loc="left", fontsize="medium")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure


def _panels(title: str, count: int, labels: Sequence[str], note: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels side by side and a legend of the groups."""
    width, height = max(11.0, 0.8 + 2.9 * count), 5.2  # inches
    figure = framed_figure(title, width, height, 0.85, note)
    figure.legend(
        [Rectangle((0, 0), 1, 1, color=colour) for colour in _colours(labels)],
        labels,
        loc="upper left",
        bbox_to_anchor=(0.03 / width, 1 - 0.42 / height),
        ncols=len(labels),
        frameon=False,
        fontsize=10.5,
        handlelength=1,
        handleheight=0.9,
        columnspacing=1.8,
    )
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_yticks(range(0, 101, 20))
        axis.grid(axis="y", color=GRID, linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, list(axes)


def _colours(groups: Sequence[str]) -> list[str]:
    return [COLOURS[group % len(COLOURS)] for group in range(len(groups))]
