"""The folder of a matrix (outputs/spurious_eval): what the job of each task writes, and reading it.

$TASK/$ATTR.json     one pair: group accuracies, counts, delta, standard error, p
$TASK/summary.csv    all pairs of the task
$TASK/summary.json   which model and data they come from; written last: the task is finished

Predictions stay in the logits file of the run, and labels in the data set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.logits import Logits, load_logits, predictions, rows_identity
from src.evaluation.metrics import summarise
from src.io import UserError, read_json, write_atomic, write_json
from src.spurious.delta import binary_columns, codes, count_pairs, gaps

MAKE = "run python -m scripts.run_create_spurious_matrix"


class Checkpoint(BaseModel):
    """The checkpoint that was evaluated."""

    name: str
    epoch: int | str
    hash: str


class Summary(BaseModel):
    """Which model and data the results of a task come from: summary.json."""

    task: str
    run: str
    checkpoint: Checkpoint
    split: str
    data: str  # `rows_identity` of the split
    root: str  # folder of the data set
    moved_to: str | None = None  # --root, if it was given
    logits: str  # file with the predictions
    attributes: list[str]


@dataclass(frozen=True)
class Evaluated:
    """Finished tasks of a matrix folder.

    Attributes:
        summaries: of the T tasks.
        rows: the evaluated split.
        train: the train split, for the association of labels.
        right: (N, T) bool, whether each prediction is correct.
        attributes: names of the A attributes.
    """

    summaries: list[Summary]
    rows: Table
    train: Table
    right: np.ndarray
    attributes: tuple[str, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(summary.task for summary in self.summaries)


def is_right(logits: Logits, rows: Table, tasks: Sequence[str]) -> np.ndarray:
    """Return whether the prediction of each task is correct, (N, T) bool."""
    columns = [predictions(logits.of_task(task)) == rows.column(task) for task in tasks]
    return np.stack(columns, axis=1)


def evaluate_pairs(
    rows: Table, right: np.ndarray, tasks: Sequence[str], attributes: Sequence[str]
) -> list[dict[str, Any]]:
    """Evaluate tasks on their groups with each attribute.

    Args:
        right: (N, T) bool, whether each prediction is correct.

    Returns:
        One dict per task and other attribute; accuracies are fractions, delta and its error are
        points.
    """
    correct, total = count_pairs(right, codes(rows, tasks), codes(rows, attributes))  # (T, A, 4)
    statistics = gaps(correct, total)
    names = {"delta": "delta", "signed_delta": "signed", "se": "se", "p": "p"}
    figures = {name: getattr(statistics, field) for name, field in names.items()}
    return [
        {
            "grouping": pair.name,
            "task": task,
            "attribute": attribute,
            "groups": summarise(pair, correct[at], total[at], None)["groups"],
            **{name: null(values[at]) for name, values in figures.items()},
            "tested": bool(statistics.tested[at]),
        }
        for column, task in enumerate(tasks)
        for row, attribute in enumerate(attributes)
        for at, pair in [((column, row), Grouping(task, (attribute,)))]
        if attribute != task
    ]


def null(value: float) -> float | None:
    """Return NaN as the None of JSON."""
    return None if np.isnan(value) else float(value)


def write_task(folder: Path, summary: Summary, pairs: list[dict[str, Any]]) -> None:
    """Write the files of one task, summary.json last."""
    import pandas as pd

    task = folder / summary.task
    source = summary.model_dump(exclude={"root", "moved_to", "logits", "attributes"})
    for pair in pairs:
        write_json(task / f"{pair['attribute']}.json", source | pair)
    table = pd.DataFrame(pairs)
    for figure, key in (("acc", "acc"), ("n", "total")):
        for group in range(4):
            table[f"{figure}{group}"] = [pair["groups"][group][key] for pair in pairs]
    table["tested"] = table["tested"].astype(int)
    text = table.drop(columns=["grouping", "groups", "task"]).to_csv(
        index=False, lineterminator="\n"
    )
    write_atomic(task / "summary.csv", text)
    write_json(task / "summary.json", summary.model_dump())


def finished(folder: Path) -> Iterator[Summary]:
    """Yield the summaries of all finished tasks, by name."""
    for path in sorted(folder.glob("*/summary.json")):
        yield read_json(path, Summary)


def is_finished(
    folder: Path, task: str, split: str, checkpoint: str, attributes: Sequence[str] | None = None
) -> bool:
    """Return whether the folder holds the task's results for these weights and this split.

    Args:
        checkpoint: hash of the weights.
        attributes: those that are wanted; None: whatever the folder has.
    """
    try:
        summary = read_json(folder / task / "summary.json", Summary)
    except UserError:  # missing, damaged, or of an earlier version: it is made again
        return False
    return (
        (summary.split, summary.checkpoint.hash) == (split, checkpoint)
        and set(attributes or ()) <= {*summary.attributes, task}
        and Path(summary.logits).exists()
    )


def refuse_other_data(folder: Path, split: str, data: str, root: str) -> None:
    """Check that a matrix folder holds only results on the same data.

    Raises:
        UserError: the folder holds the matrix of another data set or split.
    """
    for path in folder.glob("*/summary.json"):
        try:
            there = read_json(path, Summary)
        except UserError:
            continue
        if (there.split, there.data) != (split, data):
            change = " (its labels have changed)" if there.split == split else ""
            raise UserError(
                f"{folder} holds a matrix of the {there.split} split of {there.root}, this one is "
                f"of the {split} split of {root}{change}: choose another --json_dir, or delete "
                "that folder"
            )


def read_evaluated(
    summaries: Sequence[Summary], rows: Table, train: Table, attributes: Sequence[str] | None = None
) -> Evaluated:
    """Read the predictions of finished tasks from the logits of their runs.

    Args:
        summaries: of `finished`.
        rows, train: the evaluated split and the train split.
        attributes: those to look at; None: all that the tasks were evaluated on.

    Raises:
        UserError: logits are missing, or belong to other weights or other data.
    """
    data, right = rows_identity(rows.names, rows.codes), []
    place = {name: number for number, name in enumerate(rows.columns)}
    summaries = sorted(summaries, key=lambda summary: place.get(summary.task, -1))
    for summary in summaries:
        try:
            logits = load_logits(Path(summary.logits))
        except UserError as error:
            raise UserError(f"{error}; {MAKE} to make {summary.task} again") from error
        source = logits.source
        if (source.checkpoint, source.rows, data) != (summary.checkpoint.hash, data, summary.data):
            raise UserError(
                f"{summary.logits} is of another model or other data than the results of "
                f"{summary.task}: {MAKE} to make them again"
            )
        right.append(is_right(logits, rows, binary_columns(rows, [summary.task]))[:, 0])
    known = {name for summary in summaries for name in summary.attributes}
    names = attributes or [name for name in rows.columns if name in known]
    right = np.stack(right, axis=1)
    return Evaluated(summaries, rows, train, right, binary_columns(rows, names))
