"""The explorer: the whole matrix as one page, to look at pairs, groups and faces."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.data.groupings import ATTRIBUTES
from src.evaluation.metrics import wilson
from src.pages import write_page
from src.spurious.clusters import Clustering
from src.spurious.matrix import Matrix
from src.spurious.results import Labels, TaskResult

# Orders of the page that come from clusters: its label, the rows' clustering, the columns'.
CLUSTER_ORDERS = (
    ("biclusters of T", "bicluster_T", "bicluster_T"),
    ("SVD clusters", "svd_attributes", "svd_tasks"),
)


def write_explorer(
    path: Path,
    matrix: Matrix,
    labels: Labels,
    results: Sequence[TaskResult],
    clusters: dict[str, Clustering],
    summary: dict[str, Any],
    thumbnails: list[dict[str, Any]] | None = None,
) -> None:
    """Write the page.

    Args:
        summary: threshold, counts and the rank correlation, as in clusters.json.
        thumbnails: of `choose_thumbnails`; None leaves the page without images.
    """
    names = ("pairs", "tested", "q_at_most_0.05", "threshold", "above_threshold")
    data = {
        "attributes": ATTRIBUTES,
        "tasks": matrix.columns.tolist(),
        "split": labels.split,
        "images": len(labels.names),
        "trainImages": labels.num_train,
        "summary": {name: summary[name] for name in names}
        | {"rankCorrelation": summary["rank_correlation_of_phi_and_delta"]},
        "models": [
            {
                "run": result.run,
                "checkpoint": result.checkpoint["name"],
                "epoch": str(result.checkpoint["epoch"]),
            }
            for result in results
        ],
        # Flat lists over (task, attribute); of the groups over (task, attribute, group).
        "signed": _flat(matrix.signed),
        "se": _flat(matrix.se),
        "p": _flat(matrix.p),
        "q": _flat(matrix.q),
        "tested": matrix.tested.T.ravel().astype(int).tolist(),
        "phi": _flat(matrix.phi),
        "riskDifference": _flat(matrix.risk_difference),
        "correct": matrix.correct.transpose(1, 0, 2).ravel().tolist(),
        "total": matrix.total.transpose(1, 0, 2).ravel().tolist(),
        "intervals": _intervals(matrix),
        "orders": [
            {
                "label": label,
                "rows": clusters[rows].rows.tolist(),
                "columns": _column_clusters(clusters[columns]).tolist(),
            }
            for label, rows, columns in CLUSTER_ORDERS
        ],
        "faces": thumbnails or [],
    }
    write_page(path, "explorer", "Spurious correlations", data)


def _column_clusters(found: Clustering) -> np.ndarray:
    """A bicluster's columns; of a clustering of tasks alone, its rows are the tasks."""
    return found.rows if found.columns is None else found.columns


def _flat(values: np.ndarray) -> list[float | None]:
    """(40, K) as a list over (task, attribute), to four significant figures."""
    numbers = values.T.ravel().tolist()
    return [None if np.isnan(number) else float(f"{number:.4g}") for number in numbers]


def _intervals(matrix: Matrix) -> list[list[float] | None]:
    """Wilson's 95 % intervals over (task, attribute, group), as fractions."""
    pairs = zip(
        matrix.correct.transpose(1, 0, 2).ravel().tolist(),
        matrix.total.transpose(1, 0, 2).ravel().tolist(),
    )
    limits = (wilson(correct, total) for correct, total in pairs)
    return [None if limit is None else [round(end, 4) for end in limit] for limit in limits]
