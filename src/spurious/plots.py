"""PNG figures of a task and of the matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from src.figures import heatmap, readable, save_figure
from src.spurious.clusters import Clusters
from src.spurious.matrix import Matrix, phi_rank_correlation

_KNEE = "#cc3311"


def plot_task(path: Path, pairs: Sequence[dict[str, Any]], split: str) -> None:
    """Draw accuracy and size of the groups of a task, and delta, with a column per attribute.

    Args:
        pairs: of `results.evaluate_pairs`.
    """
    groups = [pair["groups"] for pair in pairs]
    accuracy = 100 * np.array([[of["acc"] for of in row] for row in groups], dtype=float).T
    total = np.array([[of["total"] for of in row] for row in groups], dtype=float).T  # (4, A)
    delta = np.array([[pair["delta"] for pair in pairs]], dtype=float)  # (1, A)
    names = [f"g{g}  y={g >> 1} a={g & 1}" for g in range(4)]
    columns = [pair["attribute"] for pair in pairs]
    figure = Figure(figsize=(15, 6.5), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1.3])
    style = {"annot": True, "fmt": ".0f"}
    heatmap(axes[0], accuracy, names, columns, "accuracy, %", cmap="viridis", vmax=100, **style)
    sizes = {"cmap": "Blues", "norm": LogNorm(1, max(2, total.max()))}
    heatmap(
        axes[1], np.where(total > 0, total, np.nan), names, columns, "examples", **sizes, **style
    )
    heatmap(axes[2], delta, ["delta"], columns, "points", **style)
    title = f"{readable([pairs[0]['task']])[0]}: groups with each attribute ({split})"
    axes[0].set_title(title, fontsize=10, loc="left")
    save_figure(figure, path)


def plot_matrix(
    folder: Path,
    matrix: Matrix,
    clusters: dict[str, Clusters],
    threshold: float | None,
    with_clusters: bool,
) -> None:
    """Draw deltas.png, deltas_histogram.png, label_correlation.png, and each clustering if wanted.

    Args:
        clusters: of `find_clusters`.
        threshold: the knee of the deltas.
    """
    shown = {"deltas": "bicluster_T"} | ({name: name for name in clusters} if with_clusters else {})
    for file, name in shown.items():
        plot_clustering(folder / f"{file}.png", matrix, name, clusters[name])
    plot_histogram(folder / "deltas_histogram.png", matrix, threshold)
    plot_label_correlation(folder / "label_correlation.png", matrix)


def plot_clustering(path: Path, matrix: Matrix, name: str, clusters: Clusters) -> None:
    """Draw the deltas with rows and columns in the order of a clustering, and lines between."""
    values, row_names = matrix.grid("delta"), matrix.attributes
    if name == "bicluster_TT":
        values, row_names = values[matrix.square], matrix.tasks
    unsorted = {"rows": np.zeros(len(row_names), int), "columns": np.zeros(len(matrix.tasks), int)}
    if name == "svd_tasks":
        clusters = {"columns": clusters["rows"]}
    elif name == "bicluster_TA":  # attributes by attributes: the tasks keep their order
        clusters = {"rows": clusters["rows"]}
    clusters = unsorted | clusters
    figure = Figure(figsize=(11.5, 10), layout="constrained")
    axes = figure.subplots()
    rows, columns = (np.argsort(clusters[side], kind="stable") for side in unsorted)
    for line, of in (
        (axes.axhline, clusters["rows"][rows]),
        (axes.axvline, clusters["columns"][columns]),
    ):
        for border in np.flatnonzero(np.diff(of)) + 1:
            line(border, color="#0077cc", linewidth=0.9)
    names = [row_names[at] for at in rows], [matrix.tasks[at] for at in columns]
    heatmap(axes, values[np.ix_(rows, columns)], *names, "delta, points")
    axes.set(ylabel="spurious attribute", xlabel="task")
    axes.set_title(f"delta, sorted by {name}", fontsize=11, loc="left")
    save_figure(figure, path)


def plot_histogram(path: Path, matrix: Matrix, threshold: float | None) -> None:
    """Draw the deltas in 1-point bins, tested pairs and others, with their cumulative count."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    defined = [pair for pair in matrix.pairs if pair["delta"] is not None]
    deltas = [pair["delta"] for pair in defined]
    edges = np.arange(0, np.floor(max(deltas, default=0)) + 2)
    kinds = {"tested": True, "smallest group under 10": False}
    parts = [[p["delta"] for p in defined if p["tested"] == kind] for kind in kinds.values()]
    axes.hist(parts, edges, stacked=True, color=["#4466aa", "#ccbb88"], label=list(kinds))
    axes.legend(loc="center right")
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


def plot_label_correlation(path: Path, matrix: Matrix, labelled: int = 12) -> None:
    """Draw delta against |phi| of the train labels; some of the largest deltas are named."""
    known = [pair for pair in matrix.pairs if pair["tested"] and pair["phi"] is not None]
    phi = np.array([abs(pair["phi"]) for pair in known])  # (P,)
    delta = np.array([pair["delta"] for pair in known])
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(phi, delta, s=9, alpha=0.45, color="#4466aa", linewidths=0)
    for pair in _apart(phi, delta, labelled):
        side = -1 if phi[pair] > 0.6 * phi.max() else 1
        axes.annotate(
            " : ".join(readable([known[pair]["task"], known[pair]["attribute"]])),
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
