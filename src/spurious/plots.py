"""PNG figures of a task and of the matrix."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import seaborn
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from src.data.table import Table
from src.figures import heatmap, readable, save_figure
from src.spurious.clusters import Clustering
from src.spurious.columns import codes
from src.spurious.delta import count_pairs, gaps
from src.spurious.matrix import Matrix, phi_rank_correlation

FIGURES = ("paper", "all")
_KNEE = "#cc3311"


def plot_task(
    folder: Path, rows: Table, right: np.ndarray, task: str, attributes: Sequence[str], split: str
) -> None:
    """Draw group_accuracy.png, group_size.png and delta.png of a task, a column per attribute.

    Args:
        right: (N,) bool, whether each prediction is correct.
    """
    others = [name for name in attributes if name != task]
    counts = count_pairs(right[:, None], codes(rows, [task]), codes(rows, others))
    correct, total = (of[0].T for of in counts)  # (4, A)
    groups = [f"g{g}  y={g >> 1} a={g & 1}" for g in range(4)]
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = 100 * correct / total
    delta = gaps(correct.T, total.T).delta[None]  # (1, A)
    sizes = np.where(total > 0, total, np.nan)
    whole = np.vectorize(lambda value: "" if np.isnan(value) else f"{value:.0f}", otypes=[str])
    short = np.vectorize(lambda n: str(n) if n < 10_000 else f"{n / 1000:.0f}k", otypes=[str])
    for name, title, values, names, label, options in (
        (
            *("group_accuracy", "accuracy of each group", accuracy, groups, "accuracy, %"),
            {"cmap": "viridis", "vmax": 100, "texts": whole(accuracy)},
        ),
        (
            *("group_size", "examples in each group", sizes, groups, "examples"),
            {"cmap": "Blues", "norm": LogNorm(1, max(2, total.max())), "texts": short(total)},
        ),
        (
            *("delta", "delta = |g0 + g3 - g1 - g2|", delta, ["delta"], "points"),
            {"texts": whole(delta)},
        ),
    ):
        height = 2.0 + 0.35 * len(names)
        figure = Figure(figsize=(15, height))
        # Margins in inches: the longest name fits below the axes, whatever the height.
        figure.subplots_adjust(0.06, 1.25 / height, 0.97, 1 - 0.3 / height)
        axes = figure.subplots()
        heatmap(axes, values, names, others, label, **options)
        axes.set_title(f"{task.replace('_', ' ')}: {title} ({split})", fontsize=10, loc="left")
        save_figure(figure, folder / f"{name}.png")


def plot_matrix(
    folder: Path,
    matrix: Matrix,
    clusters: dict[str, Clustering],
    threshold: float | None,
    figures: str = "paper",
) -> None:
    """Draw the figures of a matrix.

    Args:
        clusters: of `find_clusters`.
        threshold: the knee of the deltas.
        figures: `paper` draws deltas.png, deltas_histogram.png and label_correlation.png; `all`
            also each clustering and the deltas of each task.
    """
    plot_clustering(folder / "deltas.png", matrix, "bicluster_T", clusters["bicluster_T"])
    plot_histogram(folder / "deltas_histogram.png", matrix, threshold)
    plot_label_correlation(folder / "label_correlation.png", matrix)
    if figures == "all":
        for name, found in clusters.items():
            plot_clustering(folder / f"{name}.png", matrix, name, found)
        plot_counts(folder / "deltas_heatmap.png", matrix, threshold)


def plot_clustering(path: Path, matrix: Matrix, name: str, found: Clustering) -> None:
    """Draw the deltas with rows and columns in the order of a clustering, and lines between."""
    values, row_names = matrix.delta, matrix.attributes
    rows, columns = found.rows, found.columns
    if name == "bicluster_TA":  # attributes by attributes: the tasks keep their order
        columns = None
    elif name == "bicluster_TT":
        values, row_names = matrix.delta[matrix.square], matrix.tasks
    elif name == "svd_tasks":
        rows, columns = None, found.rows
    figure = Figure(figsize=(11.5, 10))
    figure.subplots_adjust(0.13, 0.14, 0.95, 0.97)
    axes = figure.subplots()
    sides = []
    for names, clusters, line in (
        (row_names, rows, axes.axhline),
        (matrix.tasks, columns, axes.axvline),
    ):
        clusters = np.zeros(len(names), int) if clusters is None else clusters
        order = np.argsort(clusters, kind="stable")
        sides.append((order, [names[place] for place in order]))
        for border in np.flatnonzero(np.diff(clusters[order])) + 1:
            line(border, color="#0077cc", linewidth=0.9)
    (row_order, row_names), (column_order, column_names) = sides
    ordered = values[np.ix_(row_order, column_order)]
    heatmap(axes, ordered, row_names, column_names, "delta, points")
    axes.set(ylabel="spurious attribute", xlabel="task")
    axes.set_title(f"delta, sorted by {name}", fontsize=11, loc="left")
    save_figure(figure, path)


def plot_histogram(path: Path, matrix: Matrix, threshold: float | None) -> None:
    """Draw the deltas in 1-point bins, tested pairs and others, with their cumulative count."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    defined = ~np.isnan(matrix.delta)
    deltas = matrix.delta[defined]
    edges = _edges(matrix.delta)
    kinds = ["tested", "smallest group under 10"]
    seaborn.histplot(
        x=deltas,
        hue=np.where(matrix.tested[defined], *kinds),
        hue_order=kinds[::-1],
        palette=["#ccbb88", "#4466aa"],
        bins=edges,
        multiple="stack",
        alpha=1,
        linewidth=0,
        ax=axes,
    )
    seaborn.move_legend(axes, "center right")
    axes.set(xlabel="delta, points", ylabel="pairs in a bin of 1 point")
    below = axes.twinx()
    counts, _ = np.histogram(deltas, edges)
    below.plot(edges[1:], np.cumsum(counts), color="#222222", linewidth=1.2)
    below.set(ylim=(0, None), ylabel="pairs at or below (line)")
    if threshold is not None:
        axes.axvline(threshold, color=_KNEE, linestyle="--", linewidth=1.2)
        top = axes.get_ylim()[1]
        axes.text(threshold, top, f" knee: {threshold:.1f}", color=_KNEE, va="top")
    save_figure(figure, path)


def plot_counts(path: Path, matrix: Matrix, threshold: float | None) -> None:
    """Draw how many deltas of each task fall in each 1-point bin."""
    edges = _edges(matrix.delta)
    counts = np.stack(
        [np.histogram(column[~np.isnan(column)], edges)[0] for column in matrix.delta.T]
    )  # (T, bins)
    figure = Figure(figsize=(13, 8.5), layout="constrained")
    axes = figure.subplots()
    bins = [f"{edge:.0f}" if edge % 10 == 0 else "" for edge in edges[:-1]]
    options = {"cmap": "viridis_r", "norm": LogNorm(1, max(2, counts.max()))}
    heatmap(axes, np.where(counts > 0, counts, np.nan), matrix.tasks, bins, "pairs", **options)
    axes.set_facecolor("white")  # an empty bin is no undefined value
    axes.patch.set_hatch("")
    axes.set_xlabel("delta, points")
    axes.set_title("deltas of each task in bins of 1 point", fontsize=11, loc="left")
    if threshold is not None:
        axes.axvline(threshold, color=_KNEE, linestyle="--", linewidth=1.2)
    save_figure(figure, path)


def _edges(delta: np.ndarray) -> np.ndarray:
    return np.arange(0, np.floor(np.nanmax(delta, initial=0)) + 2)


def plot_label_correlation(path: Path, matrix: Matrix, labelled: int = 12) -> None:
    """Draw delta against |phi| of the train labels; some of the largest deltas are named."""
    known = matrix.tested & ~np.isnan(matrix.phi)
    phi, delta = np.abs(matrix.phi[known]), matrix.delta[known]  # (P,)
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(phi, delta, s=9, alpha=0.45, color="#4466aa", linewidths=0)
    places = np.argwhere(known)
    for pair in _apart(phi, delta, labelled):
        row, column = places[pair]
        side = -1 if phi[pair] > 0.6 * phi.max() else 1
        axes.annotate(
            " : ".join(readable([matrix.tasks[column], matrix.attributes[row]])),
            (phi[pair], delta[pair]),
            xytext=(5 * side, 0),
            textcoords="offset points",
            ha="left" if side == 1 else "right",
            va="center",
            fontsize=7,
        )
    rank = phi_rank_correlation(matrix)
    text = "" if rank is None else f"; rank correlation {rank:.2f}"
    title = f"Is the gap explained by the labels alone? {len(delta)} pairs{text}"
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("|phi| of task and attribute in the train labels")
    axes.set(ylabel="delta of the model, points", xlim=(0, None), ylim=(0, None))
    save_figure(figure, path)


def _apart(x: np.ndarray, y: np.ndarray, most: int) -> list[int]:
    """Return the points (P,) of largest y whose names do not overlap."""
    kept: list[int] = []
    for point in np.argsort(-y, kind="stable").tolist():
        close = (
            abs(y[point] - y[other]) < 0.02 * y.max() and abs(x[point] - x[other]) < 0.3 * x.max()
            for other in kept
        )
        if len(kept) < most and not any(close):
            kept.append(point)
    return kept
