"""From all tasks' counts to the matrix: q-values, the labels' view, clusters under resampling.

Matrices are T[a, t] of shape (40, K): rows attributes, columns the K tasks; NaN is undefined.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from src.data.groupings import ATTRIBUTES, COLUMN
from src.spurious.clusters import Clustering, cluster_stability, find_clusters, share_together
from src.spurious.delta import benjamini_hochberg, count_pairs, gaps, label_association
from src.spurious.results import Labels, TaskResult, null


@dataclass(frozen=True)
class Matrix:
    """All pairs of K tasks; see `spurious.Gaps` for the figures."""

    tasks: tuple[str, ...]
    correct: np.ndarray  # (40, K, 4)
    total: np.ndarray  # (40, K, 4)
    signed: np.ndarray  # (40, K)
    delta: np.ndarray  # (40, K)
    se: np.ndarray  # (40, K)
    p: np.ndarray  # (40, K)
    q: np.ndarray  # (40, K) Benjamini-Hochberg over all tested pairs
    tested: np.ndarray  # (40, K) bool
    phi: np.ndarray  # (40, K) correlation of task and attribute in the train labels
    risk_difference: np.ndarray  # (40, K) P(y=1 | a=1) - P(y=1 | a=0) in the train labels

    @property
    def columns(self) -> np.ndarray:
        """Where the tasks stand among the attributes (K,)."""
        return np.array([COLUMN[task] for task in self.tasks])

    @property
    def filled(self) -> np.ndarray:
        """delta with 0 for what is undefined, as the clusterings take it."""
        return np.nan_to_num(self.delta)


def build_matrix(results: Sequence[TaskResult], labels: Labels) -> Matrix:
    """The matrix of all finished tasks."""
    tasks = tuple(result.task for result in results)
    columns = [COLUMN[task] for task in tasks]
    correct = np.stack([result.correct for result in results], axis=1)
    total = np.stack([result.total for result in results], axis=1)
    statistics = gaps(correct, total)
    phi, difference = label_association(labels.joint, labels.num_train)
    return Matrix(
        tasks,
        correct,
        total,
        statistics.signed,
        statistics.delta,
        statistics.se,
        statistics.p,
        benjamini_hochberg(statistics.p),
        statistics.tested,
        phi[:, columns],
        difference[:, columns],
    )


def table_rows(matrix: Matrix, split: str) -> list[dict[str, Any]]:
    """All pairs as rows of `spurious_table`."""
    return [
        {
            "task": task,
            "attribute": attribute,
            "delta": null(matrix.delta[row, column]),
            "signed_delta": null(matrix.signed[row, column]),
            "se": null(matrix.se[row, column]),
            "p": null(matrix.p[row, column]),
            "q": null(matrix.q[row, column]),
            **{f"n{group}": int(matrix.total[row, column, group]) for group in range(4)},
            "phi": null(matrix.phi[row, column]),
            "risk_difference": null(matrix.risk_difference[row, column]),
            "tested": bool(matrix.tested[row, column]),
            "split": split,
        }
        for column, task in enumerate(matrix.tasks)
        for row, attribute in enumerate(ATTRIBUTES)
        if attribute != task
    ]


def phi_rank_correlation(matrix: Matrix) -> float | None:
    """Spearman's correlation of |phi| and delta over the tested pairs: near 1, the gaps follow the
    label correlations; None where it is undefined."""
    known = matrix.tested & ~np.isnan(matrix.phi)
    if known.sum() < 3:
        return None
    with np.errstate(invalid="ignore"):
        value = spearmanr(np.abs(matrix.phi[known]), matrix.delta[known]).statistic
    return null(value)


def resample_clusters(
    results: Sequence[TaskResult],
    labels: Labels,
    k: int,
    gamma: float,
    resamples: int,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Clustering]:
    """How often members stay together when the evaluated images are drawn anew, with replacement.

    Returns:
        As `find_clusters`, but with the shares (R, R) of resamples in place of cluster numbers.
    """
    columns = np.array([COLUMN[result.task] for result in results])
    right = np.stack([result.right for result in results], axis=1)  # (N, K)
    truth = labels.attributes[:, columns]
    rng = np.random.default_rng(seed)
    count = len(right)
    found: dict[str, list[Clustering]] = {}
    for _ in progress(range(resamples)):
        times = np.bincount(rng.integers(0, count, count), minlength=count)  # (N,)
        correct, total = count_pairs(right, truth, labels.attributes, times)
        delta = np.nan_to_num(gaps(correct, total).delta).T  # (40, K)
        for name, clusters in find_clusters(delta, columns, k, gamma).items():
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
    """Whom the cluster numbers of a clustering's rows and columns belong to."""
    return {
        "bicluster_T": (ATTRIBUTES, matrix.tasks),
        "bicluster_TA": (ATTRIBUTES, ATTRIBUTES),
        "bicluster_TT": (matrix.tasks, matrix.tasks),
        "svd_attributes": (ATTRIBUTES, ()),
        "svd_tasks": (matrix.tasks, ()),
    }[clustering]


def describe_clusters(
    matrix: Matrix, clusters: dict[str, Clustering], together: dict[str, Clustering]
) -> dict[str, list[dict[str, Any]]]:
    """The members of every cluster, with the mean share of resamples in which they stay together.

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
