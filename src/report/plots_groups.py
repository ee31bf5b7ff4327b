"""Pictures of groups: accuracies with intervals, curves over epochs, faces."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from src.io import atomic_path

# Distinct for colour-blind eyes; of four groups the first class is blue, the second one warm.
COLOURS = ("#8fbfe0", "#2f5f93", "#e3b23c", "#b8304f", "#5aa469", "#7b5ea7", "#8c8c8c", "#c77f4a")
INK, FAINT = "#222222", "#8a8a8a"
WRONG = "#d21f3c"
_CELL, _STRIP = 1.02, 1.62  # inches of a sheet of faces: a face's column, a group's row


@dataclass(frozen=True)
class Accuracies:
    """Percent of each method and group with its interval, each (M, G); NaN: no examples."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG whole; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130, metadata={"Software": None})


def group_bars(
    title: str,
    methods: Sequence[str],
    groups: Sequence[str],
    sizes: Sequence[int],
    accuracies: Accuracies,
    averages: Sequence[float],
    note: str = "",
) -> Figure:
    """A panel per method with a bar per group, its interval, and the average above.

    Args:
        methods, groups: M and G names; sizes: (G,) examples of each group.
        accuracies: (M, G) percent; averages: (M,) percent over all examples.
        note: small print under the panels.
    """
    labels = [f"{name} (n = {size:,})" for name, size in zip(groups, sizes)]
    figure, axes = _panels(title, len(methods), labels, note)
    places = np.arange(len(groups))
    for axis, method, average, value, low, high in zip(
        axes, methods, averages, accuracies.value, accuracies.low, accuracies.high
    ):
        axis.bar(places, value, width=0.78, color=_colours(groups))
        around = np.stack([value - low, high - value])  # (2, G)
        axis.errorbar(places, value, around, fmt="none", ecolor=INK, elinewidth=1.4, capsize=4)
        for place, percent, top in zip(places, value, high):
            known = np.isfinite(percent)
            axis.annotate(
                f"{percent:.0f}" if known else "none",
                (place, top if known else 0),
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
    chosen: Sequence[int],
    note: str = "",
) -> Figure:
    """A panel per method: accuracy of each group after each epoch, with intervals as bands.

    Args:
        curves: per method (E, G) percent, after epochs 1..E.
        chosen: per method the epoch that was selected, marked.
    """
    figure, axes = _panels(title, len(methods), groups, note)
    for axis, method, curve, selected in zip(axes, methods, curves, chosen):
        epochs = np.arange(1, len(curve.value) + 1)
        axis.axvline(selected, color=FAINT, linewidth=1, linestyle=":", zorder=0)
        for group, colour in enumerate(_colours(groups)):
            value = curve.value[:, group]
            axis.fill_between(
                epochs, curve.low[:, group], curve.high[:, group], color=colour, alpha=0.16, lw=0
            )
            axis.plot(epochs, value, color=colour, linewidth=2, marker="o", markersize=3.5)
            axis.plot(
                selected, value[selected - 1], "o", color=colour, markersize=8, mec=INK, mew=1.2
            )
        axis.set_title(f"{method}: epoch {selected} chosen", fontsize=11, color=INK)
        axis.set_xlabel("epoch")
        axis.set_xlim(0.7, len(epochs) + 0.3)
        axis.set_xticks(whole_ticks(len(epochs)))
        axis.set_ylim(0, 103)
    axes[0].set_ylabel("validation accuracy, %")
    return figure


def face_sheet(
    title: str,
    headings: Sequence[str],
    faces: Sequence[np.ndarray],
    wrong: Sequence[np.ndarray],
    captions: Sequence[Sequence[str]],
    note: str = "",
) -> Figure:
    """A row of faces per group; mistakes have a red frame and a cross.

    Args:
        headings: over each row; faces: per row uint8 (K, H, W, 3); wrong: per row (K,) bool.
        captions: per row K short texts, written under the faces.
    """
    columns = max(1, *(len(row) for row in faces))
    width, height = 0.2 + columns * _CELL, 1.15 + len(faces) * _STRIP  # inches
    figure = Figure(figsize=(width, height))

    def place(axis_x: float, from_top: float, side: float = 0.0) -> tuple[float, ...]:
        """Inches from the left and from the top, as fractions of the figure."""
        return axis_x / width, 1 - (from_top + side) / height, side / width, side / height

    figure.text(*place(0.1, 0.38)[:2], title, fontsize=14, fontweight="bold", color=INK)
    figure.text(*place(0.1, height - 0.12)[:2], _wrap(note, width), fontsize=9, color=FAINT)
    for strip, (heading, colour) in enumerate(zip(headings, _colours(headings))):
        top = 0.6 + strip * _STRIP
        figure.text(*place(0.1, top + 0.2)[:2], "■", fontsize=14, color=colour)
        figure.text(*place(0.32, top + 0.2)[:2], heading, fontsize=11.5, color=INK)
        for column, (face, mark, text) in enumerate(
            zip(faces[strip], wrong[strip], captions[strip])
        ):
            axis = figure.add_axes(place(0.12 + column * _CELL, top + 0.32, _CELL - 0.08))
            axis.axis("off")
            axis.imshow(face)
            colour = WRONG if mark else FAINT
            axis.text(
                0.5, -0.07, text, transform=axis.transAxes, ha="center", va="top", color=colour
            )
            if mark:
                _mark_mistake(axis)
    return figure


def _mark_mistake(axis: Axes) -> None:
    frame = Rectangle((0, 0), 1, 1, transform=axis.transAxes, fill=False, ec=WRONG, lw=4)
    frame.set_clip_on(False)
    axis.add_patch(frame)
    axis.text(
        0.87,
        0.87,
        "✕",
        transform=axis.transAxes,
        ha="center",
        va="center",
        fontsize=9,
        color="white",
        bbox={"boxstyle": "circle,pad=0.15", "fc": WRONG, "ec": "white", "lw": 0.8},
    )


def _panels(title: str, count: int, labels: Sequence[str], note: str) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels side by side: title and legend above, small print below."""
    width, height = max(11.0, 0.8 + 2.9 * count), 5.2  # inches
    figure = Figure(figsize=(width, height))
    small_print = _wrap(note, width)
    bottom = (0.15 + 0.17 * (small_print.count("\n") + 1)) / height
    figure.set_layout_engine("constrained", rect=(0.005, bottom, 0.99, 1 - 0.85 / height - bottom))
    figure.text(0.1 / width, 1 - 0.35 / height, title, fontsize=14, fontweight="bold", color=INK)
    figure.text(0.1 / width, 0.1 / height, small_print, fontsize=9, color=FAINT)
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
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, list(axes)


def _wrap(text: str, width: float) -> str:
    """Small print broken into lines that fit `width` inches."""
    return textwrap.fill(text, int(16 * width))


def _colours(groups: Sequence[str]) -> list[str]:
    return [COLOURS[group % len(COLOURS)] for group in range(len(groups))]


def whole_ticks(epochs: int) -> list[int]:
    """At most six whole numbers from 1 to `epochs`: 1, 2, 3, 4, or 1, 4, 7, 10, 13, 16."""
    return list(range(1, epochs + 1, -(-epochs // 6)))
