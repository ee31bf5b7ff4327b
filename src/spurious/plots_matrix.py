"""Pictures of a delta matrix and its clusters: arrays in, a PNG out."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm, Normalize

from src.data.groupings import ATTRIBUTES
from src.spurious.clusters import Clustering, svd_features
from src.spurious.matrix import Matrix, member_names, phi_rank_correlation
from src.spurious.plots import heatmap, readable, save


def plot_all(
    folder: Path,
    matrix: Matrix,
    clusters: dict[str, Clustering],
    together: dict[str, Clustering],
    gamma: float,
    threshold: float | None,
) -> None:
    """All pictures of `scripts.spurious_eval`.

    Args:
        clusters: of `find_clusters`; together: of `resample_clusters`.
    """
    plot_matrix(folder / "deltas.png", matrix.delta, ATTRIBUTES, matrix.tasks, "delta of all pairs")
    for name, found in clusters.items():
        rows, columns = member_names(matrix, name)
        plot_clustering(folder / f"{name}.png", matrix, name, found)
        for kind, members, shares, labels in (
            ("rows", rows, together[name].rows, found.rows),
            ("columns", columns, together[name].columns, found.columns),
        ):
            if shares is not None:
                plot_matrix(
                    folder / f"stability_{name}_{kind}.png",
                    shares,
                    members,
                    members,
                    f"{name}: share of resamples in which two {kind} stay together",
                    "share",
                    labels,
                    labels,
                    "",
                    "",
                    Normalize(0, 1),
                )
    spectra = {
        "T (attributes)": svd_features(matrix.filled, gamma).singular_values,
        "A (tasks)": svd_features(matrix.filled.T, gamma).singular_values,
    }
    plot_singular_values(folder / "singular_values.png", spectra, gamma)
    defined = ~np.isnan(matrix.delta)
    plot_delta_histogram(
        folder / "deltas_histogram.png",
        matrix.delta[defined & matrix.tested],
        matrix.delta[defined & ~matrix.tested],
        threshold,
    )
    plot_delta_counts(folder / "deltas_heatmap.png", matrix.delta, matrix.tasks, threshold)
    known = matrix.tested & ~np.isnan(matrix.phi)
    names = np.array([[f"{task}:{name}" for task in matrix.tasks] for name in ATTRIBUTES])
    plot_label_correlation(
        folder / "label_correlation.png",
        matrix.phi[known],
        matrix.delta[known],
        names[known].tolist(),
        phi_rank_correlation(matrix),
    )


def plot_clustering(path: Path, matrix: Matrix, name: str, found: Clustering) -> None:
    """The deltas, with rows and columns in the order of the clusters that concern them."""
    rows, columns = found.rows, found.columns
    values, row_names, column_names = matrix.delta, ATTRIBUTES, matrix.tasks
    if (
        name == "bicluster_TA"
    ):  # attributes by attributes: the columns of the deltas stay as they are
        columns = None
    elif name == "bicluster_TT":
        values, row_names = matrix.delta[matrix.columns], matrix.tasks
    elif name == "svd_tasks":
        rows, columns = None, found.rows
    title = f"delta, sorted by {name}"
    plot_matrix(
        path,
        values,
        row_names,
        column_names,
        title,
        row_clusters=rows,
        column_clusters=columns,
    )


def plot_matrix(
    path: Path,
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    label: str = "delta, points",
    row_clusters: np.ndarray | None = None,
    column_clusters: np.ndarray | None = None,
    row_title: str = "spurious attribute",
    column_title: str = "task",
    norm: Normalize | None = None,
) -> None:
    """A matrix (R, C) with names; with clusters, its rows and columns are sorted by them.

    Lines are drawn between clusters.
    """
    row_order = _order(len(rows), row_clusters)
    column_order = _order(len(columns), column_clusters)
    figure, axes = plt.subplots(figsize=(11.5, 10))
    figure.subplots_adjust(0.13, 0.14, 0.96, 0.97)
    heatmap(
        axes,
        values[np.ix_(row_order, column_order)],
        [rows[row] for row in row_order],
        [columns[column] for column in column_order],
        norm=norm,
        label=label,
    )
    if row_clusters is not None:
        for place in _borders(row_clusters[row_order]):
            axes.axhline(place, color="#0077cc", linewidth=0.9)
    if column_clusters is not None:
        for place in _borders(column_clusters[column_order]):
            axes.axvline(place, color="#0077cc", linewidth=0.9)
    axes.set_ylabel(row_title)
    axes.set_xlabel(column_title)
    axes.set_title(title, fontsize=11, loc="left")
    save(figure, path)


def _order(count: int, clusters: np.ndarray | None) -> np.ndarray:
    return np.arange(count) if clusters is None else np.argsort(clusters, kind="stable")


def _borders(ordered: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(ordered)) + 0.5


def plot_singular_values(path: Path, spectra: dict[str, np.ndarray], gamma: float) -> None:
    """Cumulative share of squared singular values, for each matrix, with the line at gamma."""
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, values in spectra.items():
        shares = np.cumsum(values**2) / np.sum(values**2)
        axes.plot(np.arange(1, len(values) + 1), shares, marker=".", label=name)
    axes.axhline(gamma, color="grey", linestyle="--", linewidth=1)
    axes.text(len(values), gamma, f"gamma = {gamma:g} ", ha="right", va="bottom", fontsize=9)
    axes.set_xlabel("factors kept, d")
    axes.set_ylabel("share of squared singular values")
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower right")
    save(figure, path)


def plot_delta_histogram(
    path: Path, tested: np.ndarray, small: np.ndarray, threshold: float | None
) -> None:
    """Deltas in 1-point bins: tested pairs, on them those with a small group, and how many exceed.

    tested, small: deltas (.,) of pairs with and without a test; threshold: the suggested one.
    """
    deltas = np.concatenate([tested, small])
    edges = np.arange(0, np.floor(deltas.max(initial=0)) + 2)
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axes.hist(
        [tested, small],
        edges,
        stacked=True,
        color=["#4466aa", "#ccbb88"],
        label=["tested", "smallest group under 10"],
    )
    axes.set_xlabel("delta, points")
    axes.set_ylabel("pairs in a bin of 1 point")
    above = axes.twinx()
    counts, _ = np.histogram(deltas, edges)
    above.plot(
        edges[1:], np.cumsum(counts), color="#222222", linewidth=1.2, label="at or below (right)"
    )
    above.set_ylim(0, None)
    above.set_ylabel("pairs at or below")
    if threshold is not None:
        axes.axvline(threshold, color="#cc3311", linestyle="--", linewidth=1.2)
        axes.text(
            threshold, axes.get_ylim()[1], f" knee: {threshold:.1f}", color="#cc3311", va="top"
        )
    handles = [entry for part in (axes, above) for entry in zip(*part.get_legend_handles_labels())]
    axes.legend(*zip(*handles), loc="center right", fontsize=8)
    save(figure, path)


def plot_delta_counts(
    path: Path, matrix: np.ndarray, tasks: Sequence[str], threshold: float | None
) -> None:
    """A row per task: how many of its deltas (matrix (A, T), NaN undefined) fall in each bin."""
    edges = np.arange(0, np.floor(np.nanmax(matrix, initial=0)) + 2)
    counts = np.stack(
        [np.histogram(column[~np.isnan(column)], edges)[0] for column in matrix.T]
    )  # (T, bins)
    figure, axes = plt.subplots(figsize=(13, 8.5), layout="constrained")
    image = axes.imshow(
        np.where(counts > 0, counts, np.nan),
        aspect="auto",
        cmap="viridis_r",
        norm=LogNorm(1, max(2, counts.max())),
        extent=(0, edges[-1], len(tasks) - 0.5, -0.5),
        interpolation="none",
    )
    axes.set_yticks(range(len(tasks)), readable(tasks), fontsize=7)
    axes.set_xlabel("delta, points")
    axes.set_title("deltas of each task in bins of 1 point", fontsize=11, loc="left")
    if threshold is not None:
        axes.axvline(threshold, color="#cc3311", linestyle="--", linewidth=1.2)
    figure.colorbar(image, ax=axes, pad=0.01, fraction=0.025).set_label("pairs", fontsize=8)
    save(figure, path)


def plot_label_correlation(
    path: Path,
    phi: np.ndarray,
    delta: np.ndarray,
    names: Sequence[str],
    rank_correlation: float | None,
    labelled: int = 12,
) -> None:
    """Scatter of |phi| (P,) of the labels against delta (P,); some of the largest deltas are
    named."""
    figure, axes = plt.subplots(figsize=(9, 6.5), layout="constrained")
    size = np.abs(phi)
    axes.scatter(size, delta, s=9, alpha=0.45, color="#4466aa", linewidths=0)
    for pair in _apart(size, delta, labelled):
        far_right = size[pair] > 0.6 * size.max()
        axes.annotate(
            names[pair].replace("_", " "),
            (size[pair], delta[pair]),
            xytext=(-5 if far_right else 5, 0),
            textcoords="offset points",
            ha="right" if far_right else "left",
            va="center",
            fontsize=7,
        )
    known = "" if rank_correlation is None else f"; rank correlation {rank_correlation:.2f}"
    axes.set_title(
        f"Is the gap explained by the labels alone? {len(delta)} pairs{known}",
        fontsize=11,
        loc="left",
    )
    axes.set_xlabel("|phi| of task and attribute in the train labels")
    axes.set_ylabel("delta of the model, points")
    axes.set_xlim(0, None)
    axes.set_ylim(0, None)
    save(figure, path)


def _apart(x: np.ndarray, y: np.ndarray, most: int) -> list[int]:
    """The points (P,) of largest y whose names, beside them, do not run into each other."""
    kept: list[int] = []
    for point in np.argsort(-y, kind="stable"):
        close = (
            abs(y[point] - y[other]) < 0.02 * y.max() and abs(x[point] - x[other]) < 0.3 * x.max()
            for other in kept
        )
        if len(kept) < most and not any(close):
            kept.append(int(point))
    return kept
