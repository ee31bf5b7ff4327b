"""Figures that compare runs on one grouping: accuracy per group, learning curves, mistakes."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from src.evaluation.table import percent
from src.figures import FAINT, INK, clean_axes, framed_figure

# Distinct for colour-blind readers; of four groups class 0 is blue and class 1 is warm.
COLOURS = ("#8fbfe0", "#2f5f93", "#e3b23c", "#b8304f", "#5aa469", "#7b5ea7", "#8c8c8c", "#c77f4a")
COLOURS += ("#d98cb3", "#3d8f8f", "#a8a03a", "#4a4a4a")
WRONG = "#d21f3c"
_CELL, _STRIP = 1.02, 1.62  # inches: width of a face, height of a group's row


def percents(evaluations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the groups of E evaluations in percent, (3, E, G): accuracy, low and high.

    Args:
        evaluations: of `metrics.summarise`. NaN stands for a group without examples.
    """
    keys = ("acc", "low", "high")
    parts = [[[group[key] for group in of["groups"]] for of in evaluations] for key in keys]
    return 100 * np.array(parts, dtype=float)


def group_bars(title: str, results: dict[str, dict[str, Any]], note: str = "") -> Figure:
    """Draw a panel per method with a bar per group, its interval, and the average above.

    Args:
        results: method to its evaluation, of `metrics.summarise`.
        note: small print under the panels.
    """
    groups = next(iter(results.values()))["groups"]
    labels = [f"{group['name']} (n = {group['total']:,})" for group in groups]
    figure, panels = _panels(title, len(results), labels, note)
    colours = _colours(len(groups))
    for axes, (method, result) in zip(panels, results.items()):
        value, low, high = percents([result])[:, 0]  # (G,)
        axes.bar(range(len(groups)), value, width=0.78, color=colours)
        around = np.stack([value - low, high - value])  # (2, G)
        style = {"fmt": "none", "ecolor": INK, "elinewidth": 1.4, "capsize": 4}
        axes.errorbar(range(len(groups)), value, around, **style)
        for position, (accuracy, top) in enumerate(zip(value, high)):
            known = np.isfinite(accuracy)
            weight = "bold" if accuracy == np.nanmin(value) else None
            text = f"{accuracy:.0f}" if known else "none"
            place = (position, top + 1 if known else 0)
            axes.annotate(text, place, ha="center", va="bottom", fontweight=weight)
        title = f"{method}: {percent(result['avg_acc'])} % on average"
        axes.set_title(title, fontsize=11, color=INK)
        axes.set_xticks([])
        axes.set_ylim(0, 112)
    panels[0].set_ylabel("accuracy, %")
    return figure


def learning_curves(
    title: str, histories: dict[str, Sequence[dict[str, Any]]], note: str = ""
) -> Figure:
    """Draw a panel per method: accuracy of each group after each epoch, with intervals as bands.

    Args:
        histories: method to its evaluations after epochs 1..E; the last one is ringed.
    """
    groups = [group["name"] for group in next(iter(histories.values()))[0]["groups"]]
    figure, panels = _panels(title, len(histories), groups, note)
    for axes, (method, history) in zip(panels, histories.items()):
        epochs = np.arange(1, len(history) + 1)
        for value, low, high, colour in zip(
            *percents(history).transpose(0, 2, 1), _colours(len(groups))
        ):
            axes.fill_between(epochs, low, high, color=colour, alpha=0.16, lw=0)
            axes.plot(epochs, value, color=colour, linewidth=2, marker="o", markersize=3.5)
            axes.plot(epochs[-1], value[-1], "o", color=colour, markersize=8, mec=INK, mew=1.2)
        axes.set_title(f"{method}: epoch {len(history)} evaluated", fontsize=11, color=INK)
        axes.set(xlabel="epoch", ylim=(0, 103))
        axes.set_xticks(epochs[:: -(-len(epochs) // 6)])
    panels[0].set_ylabel("validation accuracy, %")
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
    for strip, (heading, colour) in enumerate(zip(headings, _colours(len(headings)))):
        top = 0.6 + strip * _STRIP
        write(0.1, top + 0.2, "■", fontsize=14, color=colour)
        write(0.32, top + 0.2, heading, fontsize=11.5, color=INK)
        row = zip(images[strip], wrong[strip], captions[strip])
        for column, (image, is_wrong, text) in enumerate(row):
            left, bottom = (0.12 + column * _CELL) / width, 1 - (top + 0.32 + side) / height
            axes = figure.add_axes((left, bottom, side / width, side / height))
            axes.axis("off")
            axes.imshow(image)
            colour, inside = WRONG if is_wrong else FAINT, {"transform": axes.transAxes}
            axes.text(0.5, -0.07, text, ha="center", va="top", color=colour, **inside)
            if is_wrong:
                frame = Rectangle((0, 0), 1, 1, fill=False, ec=WRONG, lw=4, **inside)
                axes.add_patch(frame).set_clip_on(False)
    return figure


def _panels(title: str, count: int, labels: Sequence[str], note: str) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels side by side and a legend of the groups."""
    figure = framed_figure(title, max(11.0, 3.0 + 2.9 * count), 5.2, note)
    handles = [Rectangle((0, 0), 1, 1, color=colour) for colour in _colours(len(labels))]
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=10)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes in panels:
        axes.set_yticks(range(0, 101, 20))
        clean_axes(axes, "y")
    return figure, list(panels)


def _colours(count: int) -> list[str]:
    return [COLOURS[group % len(COLOURS)] for group in range(count)]
