"""The folder of a matrix (outputs/spurious_eval): what each task's job writes, and reading it back.

labels.npz           names and attributes of the evaluated split, label counts of the train split
$TASK/summary.json   written last: the task is finished; summary.csv is the same as a table
$TASK/$ATTR.json     one pair: group accuracies, counts, delta, standard error, p
$TASK/predictions.npz   which examples the model got right, one bit each
"""

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.data.groupings import ATTRIBUTES, COLUMN, Grouping
from src.evaluation.metrics import summarise
from src.io import DAMAGE, UserError, atomic_path, load_arrays, read_json, write_atomic, write_json
from src.json_shapes import Or
from src.spurious.delta import count_pairs, gaps

SUMMARY = {
    "run": str,
    "checkpoint": {"name": str, "epoch": Or(str, int), "hash": str},
    "split": str,
    "data": str,
    "pairs": [{"attribute": str, "groups": [{"correct": int, "total": int}]}],
}
SUMMARY_COLUMNS = ["attribute", "delta", "signed_delta", "se", "p", "tested"]
SUMMARY_COLUMNS += [f"{figure}{group}" for figure in ("acc", "n") for group in range(4)]


@dataclass(frozen=True)
class Labels:
    """What the annotations say: of the evaluated split by example, of the train split by counts."""

    split: str
    data: str  # `rows_identity` of the evaluated split
    root: str  # the data set's folder, for example faces
    names: np.ndarray  # (N,) str
    attributes: np.ndarray  # (N, 40) uint8
    joint: np.ndarray  # (40, 40) train examples with both attributes
    num_train: int


@dataclass(frozen=True)
class TaskResult:
    """One model's counts on the evaluated split."""

    task: str
    run: str
    checkpoint: dict[str, str]  # name, epoch, hash
    split: str
    data: str
    correct: np.ndarray  # (40, 4), rows in the order of ATTRIBUTES; the task's own row is no pair
    total: np.ndarray  # (40, 4)
    right: np.ndarray  # (N,) bool


def null(value: float) -> float | None:
    """NaN as the None of JSON and tables."""
    return None if np.isnan(value) else float(value)


# ---------------------------------------------------------------------------- labels


def write_labels(folder: Path, labels: Labels) -> None:
    """Write labels.npz, or check that the one there is of the same data.

    Raises:
        UserError: the folder holds the matrix of another data set or split.
    """
    path = folder / "labels.npz"
    if path.exists():
        there = read_labels(folder)
        if (there.split, there.data) != (labels.split, labels.data):
            change = " (its labels have changed)" if there.split == labels.split else ""
            raise UserError(
                f"{folder} holds a matrix of the {there.split} split of {there.root}, this one is "
                f"of the {labels.split} split of {labels.root}{change}: choose another --json_dir, "
                "or delete that folder"
            )
        return
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            about=np.array([labels.split, labels.data, labels.root]),
            names=labels.names.astype(str),
            attributes=np.packbits(labels.attributes, axis=1),
            joint=labels.joint.astype(np.int64),
            num_train=np.array(labels.num_train),
        )


def read_labels(folder: Path) -> Labels:
    """Read labels.npz of a matrix folder."""

    def take(arrays: dict[str, np.ndarray]) -> Labels:
        split, data, root = (str(entry) for entry in arrays["about"])
        packed, joint, names = arrays["attributes"], arrays["joint"], arrays["names"]
        num_train = arrays["num_train"]
        if (
            packed.shape != (*names.shape, len(ATTRIBUTES) // 8)
            or joint.shape != (len(ATTRIBUTES),) * 2
            or num_train.shape != ()
        ):
            raise ValueError("its arrays do not fit together")
        if joint.dtype.kind not in "iu" or num_train.dtype.kind not in "iu":
            raise ValueError("its counts are no whole numbers")
        if num_train < 1 or joint.min() < 0 or joint.max() > num_train:
            raise ValueError(f"its counts are not from 0 to those of {num_train} train examples")
        attributes = np.unpackbits(packed, axis=1)
        return Labels(split, data, root, names, attributes, joint, int(num_train))

    return _read_arrays(folder / "labels.npz", take)


def _read_arrays(path: Path, take: Callable[[dict[str, np.ndarray]], Any]) -> Any:
    """What `take` makes of the arrays in a file."""
    try:
        return take(load_arrays(path))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {_MAKE}") from error
    except DAMAGE as error:
        raise UserError(f"{path} is damaged ({error}): delete it; {_MAKE}") from error


_MAKE = "python -m scripts.run_create_spurious_matrix makes it"

# ---------------------------------------------------------------------------- tasks


def write_task(folder: Path, result: TaskResult) -> None:
    """Write the files of one task, summary.json last."""
    place = folder / result.task
    pairs = describe_pairs(result)
    for pair in pairs:
        write_json(place / f"{pair['attribute']}.json", _about(result) | pair)
    text = io.StringIO()
    writer = csv.DictWriter(text, SUMMARY_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for pair in pairs:
        groups = {f"acc{g['id']}": g["acc"] for g in pair["groups"]}
        groups |= {f"n{g['id']}": g["total"] for g in pair["groups"]}
        row = {name: (pair | groups)[name] for name in SUMMARY_COLUMNS}
        writer.writerow(row | {"tested": int(pair["tested"])})
    write_atomic(place / "summary.csv", text.getvalue())
    with atomic_path(place / "predictions.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, right=np.packbits(result.right), count=np.array(len(result.right)))
    write_json(place / "summary.json", _about(result) | {"pairs": pairs})


def _about(result: TaskResult) -> dict[str, Any]:
    names = ("task", "run", "checkpoint", "split", "data")
    return {name: getattr(result, name) for name in names}


def describe_pairs(result: TaskResult) -> list[dict[str, Any]]:
    """One dict per other attribute: accuracies are fractions, delta and its error in points."""
    statistics = gaps(result.correct, result.total)
    pairs = []
    for row, (attribute, correct, total) in enumerate(
        zip(ATTRIBUTES, result.correct, result.total)
    ):
        if attribute == result.task:
            continue
        grouping = Grouping(result.task, (attribute,))
        pairs.append(
            {
                "grouping": grouping.name,
                "attribute": attribute,
                "groups": summarise(grouping, correct, total, None)["groups"],
                "delta": null(statistics.delta[row]),
                "signed_delta": null(statistics.signed[row]),
                "se": null(statistics.se[row]),
                "p": null(statistics.p[row]),
                "tested": bool(statistics.tested[row]),
            }
        )
    return pairs


def is_finished(folder: Path, task: str, split: str, checkpoint_hash: str | None) -> bool:
    """Does the folder hold the task's results, of these weights and this split?"""
    path = folder / task / "summary.json"
    if not path.exists() or not (folder / "labels.npz").exists():
        return False
    try:
        summary = read_json(path)
        return (summary["split"], summary["checkpoint"]["hash"]) == (split, checkpoint_hash)
    except (UserError, KeyError, TypeError):  # half a file of another program: make it anew
        return False


def read_tasks(folder: Path) -> list[TaskResult]:
    """All finished tasks of a matrix folder, in the order of ATTRIBUTES.

    Raises:
        UserError: none is finished, or some are of other data or another split than labels.npz.
    """
    tasks = [name for name in ATTRIBUTES if (folder / name / "summary.json").exists()]
    if not tasks:
        raise UserError(f"{folder} holds no finished task: {_MAKE}")
    labels = read_labels(folder)
    results = [_read_task(folder / task, task) for task in tasks]
    foreign = [
        result.task
        for result in results
        if (result.split, result.data) != (labels.split, labels.data)
        or len(result.right) != len(labels.names)
    ]
    if foreign:
        raise UserError(
            f"{folder}: {', '.join(foreign)} were evaluated on other data than {folder}/labels.npz "
            "tells of: delete those folders and make them anew"
        )
    _check_counts(folder, results, labels)
    return results


def _check_counts(folder: Path, results: list[TaskResult], labels: Labels) -> None:
    """Are the counts of each summary those of its predictions?"""
    right = np.stack([result.right for result in results], axis=1)  # (N, K)
    truth = labels.attributes[:, [COLUMN[result.task] for result in results]]
    for result, *counted in zip(results, *count_pairs(right, truth, labels.attributes)):
        others = np.arange(len(ATTRIBUTES)) != COLUMN[result.task]
        told = result.correct, result.total
        if not all(np.array_equal(t[others], c[others]) for t, c in zip(told, counted)):
            raise UserError(
                f"{folder / result.task}: summary.json and predictions.npz disagree: delete that "
                f"folder; {_MAKE}"
            )


def _read_task(place: Path, task: str) -> TaskResult:
    summary = read_json(place / "summary.json", SUMMARY)
    correct, total = (np.zeros((len(ATTRIBUTES), 4), np.int64) for _ in range(2))
    try:
        for pair in summary["pairs"]:
            row = COLUMN[pair["attribute"]]
            correct[row] = [group["correct"] for group in pair["groups"]]
            total[row] = [group["total"] for group in pair["groups"]]
        about = [summary[name] for name in ("run", "checkpoint", "split", "data")]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"{place}/summary.json is no summary of a task ({error!r}): delete {place}; {_MAKE}"
        ) from error
    right = _read_arrays(place / "predictions.npz", _unpack_right)
    return TaskResult(task, *about, correct, total, right)


def _unpack_right(arrays: dict[str, np.ndarray]) -> np.ndarray:
    packed, count = arrays["right"], int(arrays["count"])
    if not 0 <= count <= 8 * packed.size:  # unpackbits would pad it, whatever that takes
        raise ValueError(f"{packed.size:,} bytes are not the bits of {count:,} predictions")
    return np.unpackbits(packed, count=count).astype(bool)
