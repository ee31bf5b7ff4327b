"""Clusters of the attributes and tasks of a delta matrix: biclusters, SVD, stability.

The matrix (A, T) has a row per attribute and a column per task; undefined deltas count as 0.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy.special import softmax
from sklearn.cluster import KMeans, SpectralCoclustering
from sklearn.exceptions import ConvergenceWarning

from src.io import UserError

# Cluster numbers of the `rows` (R,) of a matrix and, if both are clustered, of its `columns` (C,).
Clusters = dict[str, np.ndarray]


def bicluster(matrix: np.ndarray, k: int, seed: int = 0) -> Clusters:
    """Divide a positive matrix into k blocks by spectral co-clustering (Dhillon 2001)."""
    if not 1 <= k <= min(matrix.shape):
        rows, columns = matrix.shape
        raise UserError(f"--k {k}: use 1 to {min(matrix.shape)} for {rows} x {columns} pairs")
    if k == 1:  # sklearn's spectral step fails here
        return dict(zip(("rows", "columns"), (np.zeros(size, np.int64) for size in matrix.shape)))
    model = SpectralCoclustering(n_clusters=k, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(matrix)
    return _renumber(rows=model.row_labels_, columns=model.column_labels_)


def svd_features(matrix: np.ndarray, gamma: float) -> np.ndarray:
    """Return the rows of a matrix (R, C) in the space of its strongest factors, U_d diag(s_d).

    Each column is L2-normalised first (a zero column stays zero); d is the smallest number >= 1 of
    factors whose squared singular values reach share `gamma` of all.
    """
    if not 0 < gamma <= 1:
        raise UserError(f"--gamma {gamma:g}: use a share above 0 and up to 1")
    lengths = np.linalg.norm(matrix, axis=0, keepdims=True)
    if not lengths.any():
        raise UserError("every delta is 0 or undefined: there is nothing to cluster")
    left, values, _ = np.linalg.svd(matrix / np.where(lengths > 0, lengths, 1), full_matrices=False)
    shares = np.cumsum(values**2) / np.sum(values**2)
    # Rounding must not make gamma = 1 ask for more factors than exist.
    d = min(int(np.searchsorted(shares, gamma - 1e-12)) + 1, len(values))
    return left[:, :d] * values[:d]


def kmeans(features: np.ndarray, k: int, seed: int = 0) -> Clusters:
    """Return k-means clusters of the rows of `features` (R, d); fewer if fewer rows differ."""
    if not 1 <= k <= len(features):
        raise UserError(f"--k {k}: use 1 to {len(features)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = KMeans(k, n_init=10, random_state=seed).fit(features).labels_
    return _renumber(rows=labels)


def _renumber(**labels: np.ndarray) -> Clusters:
    """Number clusters from 0 in the order in which they first appear."""
    order = dict.fromkeys(np.concatenate(list(labels.values())).tolist())
    number = {label: place for place, label in enumerate(order)}
    return {side: np.array([number[x] for x in part.tolist()]) for side, part in labels.items()}


def find_clusters(
    matrix: np.ndarray, square: np.ndarray | None, k: int, gamma: float, seed: int = 0
) -> dict[str, Clusters]:
    """Return all clusterings of a delta matrix.

    Args:
        matrix: M (A, T), deltas in 0..200, undefined ones 0.
        square: positions (T,) of the tasks among the rows; None if some are not there.

    Returns:
        `bicluster_T` of S, the column softmax of M / 100; `bicluster_TA` of S S^T (attributes by
        attributes); `bicluster_TT` of S S over the rows of the tasks themselves, if `square`;
        `svd_attributes` and `svd_tasks`, k-means on the SVD features of M and of its transpose.
    """
    soft = softmax(matrix / 100, axis=0)  # (A, T)
    found = {
        "bicluster_T": bicluster(soft, k, seed),
        "bicluster_TA": bicluster(soft @ soft.T, k, seed),
    }
    if square is not None:
        soft_square = softmax(matrix[square] / 100, axis=0)  # (T, T)
        found["bicluster_TT"] = bicluster(soft_square @ soft_square, k, seed)
    return found | {
        "svd_attributes": kmeans(svd_features(matrix, gamma), k, seed),
        "svd_tasks": kmeans(svd_features(matrix.T, gamma), k, seed),
    }


def share_together(resamples: Sequence[np.ndarray]) -> np.ndarray:
    """Return the share of clusterings (R,) in which two members are in one cluster: (R, R)."""
    return np.mean([labels[:, None] == labels for labels in resamples], axis=0)


def cluster_stability(labels: np.ndarray, together: np.ndarray) -> dict[int, float | None]:
    """Return the mean share of each cluster's pairs that stay together; None without a pair."""
    result = {}
    for cluster in np.unique(labels).tolist():
        members = np.flatnonzero(labels == cluster)
        pairs = together[np.ix_(members, members)][np.triu_indices(len(members), 1)]
        result[cluster] = float(pairs.mean()) if len(pairs) else None
    return result
