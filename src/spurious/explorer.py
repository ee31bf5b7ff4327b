"""The explorer: the whole matrix as one page, with its pairs, groups and example images."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from src.data.dataset import Dataset
from src.data.images import ImageFiles
from src.data.pixels import open_image
from src.evaluation.metrics import wilson
from src.io import UserError
from src.pages import write_page
from src.spurious.clusters import Clustering
from src.spurious.columns import codes
from src.spurious.matrix import Matrix
from src.spurious.results import Evaluated

SIDE = 72  # pixels of an example image
# Orders of the page by clusters: label, clustering of the rows, clustering of the columns.
_CLUSTER_ORDERS = (
    ("biclusters of T", "bicluster_T", "bicluster_T"),
    ("SVD clusters", "svd_attributes", "svd_tasks"),
)


def write_explorer(
    path: Path,
    matrix: Matrix,
    evaluated: Evaluated,
    clusters: dict[str, Clustering],
    summary: dict[str, Any],
    faces: list[dict[str, Any]],
    per_group: int = 0,
) -> None:
    """Write the page.

    Args:
        summary: threshold, counts and the rank correlation, as in clusters.json.
        faces: of `choose_faces`; empty: a page without images.
        per_group: how many of them are shown of each group.
    """
    names = ("pairs", "tested", "q_at_most_0.05", "threshold", "above_threshold")
    orders = []
    for label, of_rows, of_columns in _CLUSTER_ORDERS:
        columns = clusters[of_columns].columns
        if columns is None:  # a clustering of tasks alone
            columns = clusters[of_columns].rows
        orders.append(
            {"label": label, "rows": clusters[of_rows].rows.tolist(), "columns": columns.tolist()}
        )
    data = {
        "attributes": matrix.attributes,
        "tasks": matrix.tasks,
        "split": evaluated.summaries[0].split,
        "images": len(evaluated.rows),
        "summary": {name: summary[name] for name in names}
        | {"rankCorrelation": summary["rank_correlation_of_phi_and_delta"]},
        "models": [
            {"run": s.run, "checkpoint": s.checkpoint.name, "epoch": str(s.checkpoint.epoch)}
            for s in evaluated.summaries
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
        "orders": orders,
        "faces": faces,
        "facesPerGroup": per_group,
    }
    write_page(path, "explorer", "Spurious correlations", data)


def _flat(values: np.ndarray) -> list[float | None]:
    """Return (A, T) as a list over (task, attribute), with four significant figures."""
    numbers = values.T.ravel().tolist()
    return [None if np.isnan(number) else float(f"{number:.4g}") for number in numbers]


def _intervals(matrix: Matrix) -> list[list[float] | None]:
    """Return Wilson's 95 % intervals over (task, attribute, group), as fractions."""
    pairs = zip(
        matrix.correct.transpose(1, 0, 2).ravel().tolist(),
        matrix.total.transpose(1, 0, 2).ravel().tolist(),
    )
    limits = (wilson(correct, total) for correct, total in pairs)
    return [None if limit is None else [round(end, 4) for end in limit] for limit in limits]


# ---------------------------------------------------------------------------- example images


def choose_faces(evaluated: Evaluated, dataset: Dataset, per_group: int) -> list[dict[str, Any]]:
    """Choose a few examples of the evaluated split that show every group of every pair.

    Args:
        per_group: images of every combination of two columns' classes, if there are as many.

    Returns:
        One dict per image: `src`, a data: URL; `attributes` (a character 0, 1 or ? for each),
        `labels` and `right` (a character per task).

    Raises:
        UserError: an image is missing or cannot be read.
    """
    images, rows = dataset.files, evaluated.rows
    values = codes(rows, list(dict.fromkeys([*evaluated.attributes, *evaluated.tasks])))
    drawn = np.random.default_rng(0).permutation(len(rows))
    chosen = drawn[cover(values[drawn], per_group)]
    attributes, labels = codes(rows, evaluated.attributes), codes(rows, evaluated.tasks)
    return [
        {
            "src": _data_url(images, str(rows.names[row])),
            "attributes": _characters(attributes[row]),
            "labels": _characters(labels[row]),
            "right": _characters(evaluated.right[row].astype(int)),
        }
        for row in chosen
    ]


def _characters(values: np.ndarray) -> str:
    return "".join("01?"[value] for value in values.tolist())


def cover(values: np.ndarray, per_group: int) -> list[int]:
    """Choose examples that show each combination of two columns' classes `per_group` times.

    An example is chosen if it shows a combination that lacks examples so far.

    Args:
        values: (N, C) 0 or 1; -1 (unknown) belongs to no combination.

    Returns:
        Positions of the chosen examples. All examples of a rarer combination are chosen.
    """
    one_hot = np.concatenate([values == 0, values == 1], axis=1).astype(np.float32)  # (N, 2C)
    lacking = np.minimum(one_hot.T @ one_hot, per_group)  # (2C, 2C)
    chosen = []
    for row, shown in enumerate(one_hot):
        if shown @ lacking @ shown > 0:
            chosen.append(row)
            lacking = np.maximum(lacking - np.outer(shown, shown), 0)
    return chosen


def _data_url(images: ImageFiles, name: str) -> str:
    try:
        with open_image(images.read(name)) as image:
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) // 2, (height - side) // 2
            square = image.convert("RGB").crop((left, top, left + side, top + side))
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: a broken PNG
        raise UserError(f"{images.path(name)} cannot be read as an image ({error})") from error
    packed = io.BytesIO()
    square = square.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3)
    square.save(packed, "JPEG", quality=78)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
