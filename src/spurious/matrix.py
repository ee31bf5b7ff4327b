"""The matrix of all pairs: its figures, and its clusters under resampling.

Arrays are of shape (A, T): rows attributes, columns tasks; NaN is undefined.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from src.spurious.clusters import Clusters, cluster_stability, find_clusters, share_together
from src.spurious.delta import benjamini_hochberg, codes, count_pairs, gaps, label_association
from src.spurious.results import Evaluated, evaluate_pairs, null


@dataclass(frozen=True)
class Matrix:
    """All pairs of A attributes and T tasks.

    Attributes:
        pairs: of `evaluate_pairs`, with q (Benjamini-Hochberg over all tested pairs), and phi and
            risk_difference of the train labels; see `delta.label_association`.
    """

    attributes: tuple[str, ...]
    tasks: tuple[str, ...]
    pairs: list[dict[str, Any]]

    def grid(self, figure: str) -> np.ndarray:
        """Return a figure of all pairs, (A, T) float."""
        values = np.full((len(self.attributes), len(self.tasks)), np.nan)
        for pair in self.pairs:
            if pair[figure] is not None:
                place = self.attributes.index(pair["attribute"]), self.tasks.index(pair["task"])
                values[place] = pair[figure]
        return values

    @property
    def filled(self) -> np.ndarray:
        """The deltas with 0 for what is undefined, as the clusterings take it."""
        return np.nan_to_num(self.grid("delta"))

    @property
    def square(self) -> np.ndarray | None:
        return square(self.attributes, self.tasks)


def square(attributes: Sequence[str], tasks: Sequence[str]) -> np.ndarray | None:
    """Return the positions (T,) of the tasks among the attributes; None if some are not there."""
    place = {name: number for number, name in enumerate(attributes)}
    return np.array([place[task] for task in tasks]) if place.keys() >= set(tasks) else None


def build_matrix(evaluated: Evaluated) -> Matrix:
    """Return the matrix of all evaluated tasks."""
    attributes, tasks, train = evaluated.attributes, evaluated.tasks, evaluated.train
    pairs = evaluate_pairs(evaluated.rows, evaluated.right, tasks, attributes)
    q = benjamini_hochberg(np.array([pair["p"] for pair in pairs], dtype=float))
    anything = np.zeros((len(train), len(tasks)), bool)
    _, in_train = count_pairs(anything, codes(train, tasks), codes(train, attributes))
    phi, risk_difference = label_association(in_train)  # (T, A)
    for pair, own_q in zip(pairs, q):
        place = tasks.index(pair["task"]), attributes.index(pair["attribute"])
        pair["q"], pair["phi"] = null(own_q), null(phi[place])
        pair["risk_difference"] = null(risk_difference[place])
    return Matrix(attributes, tasks, pairs)


def phi_rank_correlation(matrix: Matrix) -> float | None:
    """Return Spearman's correlation of |phi| and delta over the tested pairs.

    Near 1, the gaps follow the association of the labels. None if it is undefined.
    """
    known = [p for p in matrix.pairs if p["tested"] and p["phi"] is not None]
    if len(known) < 3:
        return None
    with np.errstate(invalid="ignore"):
        phi, delta = [abs(p["phi"]) for p in known], [p["delta"] for p in known]
        return null(spearmanr(phi, delta).statistic)


def resample_clusters(
    evaluated: Evaluated,
    k: int,
    gamma: float,
    resamples: int,
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, Clusters]:
    """Return how often members stay together if the evaluated images are drawn with replacement.

    Returns:
        As `find_clusters`, but with the shares (R, R) of resamples in place of cluster numbers.
    """
    labels = codes(evaluated.rows, evaluated.tasks)
    attributes = codes(evaluated.rows, evaluated.attributes)
    places = square(evaluated.attributes, evaluated.tasks)
    rng, count = np.random.default_rng(seed), len(labels)
    drawn = []
    for _ in progress(range(resamples)):
        times = np.bincount(rng.integers(0, count, count), minlength=count)  # (N,)
        correct, total = count_pairs(evaluated.right, labels, attributes, times)
        # A task with itself has two empty groups: NaN, here 0.
        delta = np.nan_to_num(gaps(correct, total).delta).T  # (A, T)
        drawn.append(find_clusters(delta, places, k, gamma))

    return {
        name: {side: share_together([of[name][side] for of in drawn]) for side in sides}
        for name, sides in drawn[0].items()
    }


def describe_clusters(
    matrix: Matrix, clusters: dict[str, Clusters], together: dict[str, Clusters]
) -> dict[str, list[dict[str, Any]]]:
    """List the members of every cluster, with the share of resamples in which they stay together.

    Returns:
        Clustering to its clusters: rows and, of a bicluster, columns, each with `stability`.
    """
    names = {
        "bicluster_T": {"rows": matrix.attributes, "columns": matrix.tasks},
        "bicluster_TA": {"rows": matrix.attributes, "columns": matrix.attributes},
        "bicluster_TT": {"rows": matrix.tasks, "columns": matrix.tasks},
        "svd_attributes": {"rows": matrix.attributes},
        "svd_tasks": {"rows": matrix.tasks},
    }
    described = {}
    for name, sides in clusters.items():
        stable = {side: cluster_stability(of, together[name][side]) for side, of in sides.items()}
        described[name] = [
            {"cluster": number}
            | {
                side: [names[name][side][place] for place in np.flatnonzero(labels == number)]
                for side, labels in sides.items()
            }
            | {"stability": {side: stable[side].get(number) for side in sides}}
            for number in np.unique(np.concatenate(list(sides.values()))).tolist()
        ]
    return described
