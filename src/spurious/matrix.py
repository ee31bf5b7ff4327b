"""The matrix of all pairs: its figures, its table, and its clusters under resampling.

Arrays are T[a, t] of shape (A, T): rows attributes, columns tasks; NaN is undefined.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from src.spurious.clusters import Clustering, cluster_stability, find_clusters, share_together
from src.spurious.columns import codes
from src.spurious.delta import benjamini_hochberg, count_pairs, gaps, label_association
from src.spurious.results import Evaluated, null


@dataclass(frozen=True)
class Matrix:
    """All pairs of A attributes and T tasks; see `delta.Gaps` for the figures."""

    attributes: tuple[str, ...]
    tasks: tuple[str, ...]
    correct: np.ndarray  # (A, T, 4)
    total: np.ndarray  # (A, T, 4)
    signed: np.ndarray  # (A, T)
    delta: np.ndarray  # (A, T)
    se: np.ndarray  # (A, T)
    p: np.ndarray  # (A, T)
    q: np.ndarray  # (A, T) Benjamini-Hochberg over all tested pairs
    tested: np.ndarray  # (A, T) bool
    phi: np.ndarray  # (A, T) correlation of task and attribute in the train labels
    risk_difference: np.ndarray  # (A, T) P(y=1 | a=1) - P(y=1 | a=0) in the train labels

    @property
    def square(self) -> np.ndarray | None:
        """Positions (T,) of the tasks among the attributes; None if some task is not there."""
        return square(self.attributes, self.tasks)

    @property
    def filled(self) -> np.ndarray:
        """`delta` with 0 for what is undefined, as the clusterings take it."""
        return np.nan_to_num(self.delta)


def square(attributes: Sequence[str], tasks: Sequence[str]) -> np.ndarray | None:
    """Return the positions (T,) of the tasks among the attributes; None if some are not there."""
    place = {name: number for number, name in enumerate(attributes)}
    return np.array([place[task] for task in tasks]) if place.keys() >= set(tasks) else None


def build_matrix(evaluated: Evaluated) -> Matrix:
    """Return the matrix of all evaluated tasks."""
    attributes, tasks = evaluated.attributes, evaluated.tasks
    own = np.array([[name == task for task in tasks] for name in attributes])  # (A, T) not a pair

    def count(rows: Any, right: np.ndarray) -> tuple[np.ndarray, ...]:
        counts = count_pairs(right, codes(rows, tasks), codes(rows, attributes))
        return tuple(np.where(own[..., None], 0, of.transpose(1, 0, 2)) for of in counts)

    correct, total = count(evaluated.rows, evaluated.right)
    statistics = gaps(correct, total)
    _, in_train = count(evaluated.train, np.zeros((len(evaluated.train), len(tasks)), bool))
    return Matrix(
        attributes,
        tasks,
        correct,
        total,
        statistics.signed,
        statistics.delta,
        statistics.se,
        statistics.p,
        benjamini_hochberg(statistics.p),
        statistics.tested,
        *label_association(in_train),
    )


def table_rows(matrix: Matrix, split: str) -> list[dict[str, Any]]:
    """Return all pairs as the rows that `pairs.write_table` takes."""
    names = ("delta", "signed_delta", "se", "p", "q", "phi", "risk_difference")
    figures = {name: getattr(matrix, name.removesuffix("_delta")) for name in names}
    return [
        {
            "task": task,
            "attribute": attribute,
            **{name: null(values[row, column]) for name, values in figures.items()},
            **{f"n{group}": int(matrix.total[row, column, group]) for group in range(4)},
            "tested": bool(matrix.tested[row, column]),
            "split": split,
        }
        for column, task in enumerate(matrix.tasks)
        for row, attribute in enumerate(matrix.attributes)
        if attribute != task
    ]


def phi_rank_correlation(matrix: Matrix) -> float | None:
    """Return Spearman's correlation of |phi| and delta over the tested pairs.

    Near 1, the gaps follow the association of the labels. None if it is undefined.
    """
    known = matrix.tested & ~np.isnan(matrix.phi)
    if known.sum() < 3:
        return None
    with np.errstate(invalid="ignore"):
        value = spearmanr(np.abs(matrix.phi[known]), matrix.delta[known]).statistic
    return null(value)


def resample_clusters(
    evaluated: Evaluated,
    k: int,
    gamma: float,
    resamples: int,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Clustering]:
    """Return how often members stay together if the evaluated images are drawn with replacement.

    Returns:
        As `find_clusters`, but with the shares (R, R) of resamples in place of cluster numbers.
    """
    labels = codes(evaluated.rows, evaluated.tasks)
    attributes = codes(evaluated.rows, evaluated.attributes)
    places = square(evaluated.attributes, evaluated.tasks)
    rng = np.random.default_rng(seed)
    count = len(labels)
    found: dict[str, list[Clustering]] = {}
    for _ in progress(range(resamples)):
        times = np.bincount(rng.integers(0, count, count), minlength=count)  # (N,)
        correct, total = count_pairs(evaluated.right, labels, attributes, times)
        # A task with itself has two empty groups: NaN, here 0.
        delta = np.nan_to_num(gaps(correct, total).delta).T  # (A, T)
        for name, clusters in find_clusters(delta, places, k, gamma).items():
            found.setdefault(name, []).append(clusters)
    return {
        name: Clustering(
            share_together(clusters.rows for clusters in drawn),
            None
            if drawn[0].columns is None
            else share_together(clusters.columns for clusters in drawn),
        )
        for name, drawn in found.items()
    }


def member_names(matrix: Matrix, clustering: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return the names of the rows and columns that a clustering is about."""
    return {
        "bicluster_T": (matrix.attributes, matrix.tasks),
        "bicluster_TA": (matrix.attributes, matrix.attributes),
        "bicluster_TT": (matrix.tasks, matrix.tasks),
        "svd_attributes": (matrix.attributes, ()),
        "svd_tasks": (matrix.tasks, ()),
    }[clustering]


def describe_clusters(
    matrix: Matrix, clusters: dict[str, Clustering], together: dict[str, Clustering]
) -> dict[str, list[dict[str, Any]]]:
    """List the members of every cluster, with the share of resamples in which they stay together.

    Returns:
        Clustering to its clusters: rows and, of a bicluster, columns, each with `stability`.
    """
    described = {}
    for name, found in clusters.items():
        kinds = {"rows": (found.rows, together[name].rows)}
        if found.columns is not None:
            kinds["columns"] = (found.columns, together[name].columns)
        names = dict(zip(("rows", "columns"), member_names(matrix, name)))
        numbers = sorted({int(n) for labels, _ in kinds.values() for n in labels})
        stability = {kind: cluster_stability(*pair) for kind, pair in kinds.items()}
        described[name] = [
            {
                "cluster": number,
                **{
                    kind: [names[kind][place] for place in np.flatnonzero(labels == number)]
                    for kind, (labels, _) in kinds.items()
                },
                "stability": {kind: stability[kind].get(number) for kind in kinds},
            }
            for number in numbers
        ]
    return described
