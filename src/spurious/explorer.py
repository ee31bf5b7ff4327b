"""The explorer: the whole matrix as one page, with its pairs, groups and example images."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from src.data.dataset import Dataset
from src.data.images import ImageFiles
from src.data.pixels import open_image
from src.io import UserError
from src.pages import data_url, write_page
from src.spurious.clusters import Clusters
from src.spurious.delta import codes
from src.spurious.matrix import Matrix
from src.spurious.results import Evaluated

SIDE = 72  # pixels of an example image


def write_explorer(
    path: Path,
    matrix: Matrix,
    evaluated: Evaluated,
    clusters: dict[str, Clusters],
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
    data = {
        "attributes": matrix.attributes,
        "tasks": matrix.tasks,
        "images": len(evaluated.rows),
        "summary": {name: value for name, value in summary.items() if name != "clusters"},
        "models": {
            s.task: {
                "run": s.run,
                "checkpoint": s.checkpoint.name,
                "epoch": str(s.checkpoint.epoch),
            }
            for s in evaluated.summaries
        },
        "pairs": matrix.pairs,
        "orders": _orders(matrix, clusters),
        "faces": faces,
        "facesPerGroup": per_group,
    }
    write_page(path, "Spurious correlations", ("common", "explorer"), data)


def _orders(matrix: Matrix, clusters: dict[str, Clusters]) -> list[dict[str, Any]]:
    """Return the ways to sort the matrix: names of its rows and columns, in order."""
    tested = np.where(matrix.grid("tested") == 1, matrix.grid("delta"), 0)
    counts = matrix.grid("tested") == 1
    columns, rows = (tested.sum(axis) / np.maximum(counts.sum(axis), 1) for axis in (0, 1))
    both, attributes, tasks = (
        clusters[name] for name in ("bicluster_T", "svd_attributes", "svd_tasks")
    )
    keys = {
        "name": (np.zeros(len(rows)), np.zeros(len(columns))),
        "mean delta": (-rows, -columns),
        "biclusters of T": (both["rows"], both["columns"]),
        "SVD clusters": (attributes["rows"], tasks["rows"]),
    }
    return [
        {
            "label": label,
            "rows": [matrix.attributes[at] for at in np.argsort(by_row, kind="stable")],
            "columns": [matrix.tasks[at] for at in np.argsort(by_column, kind="stable")],
        }
        for label, (by_row, by_column) in keys.items()
    ]


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
    return data_url(packed.getvalue(), "image/jpeg")
