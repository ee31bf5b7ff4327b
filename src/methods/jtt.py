"""JTT (Liu et al. 2021, "Just Train Twice"): the error set of stage 1, repeated in stage 2.

The error set holds, for each train example and task, whether the model of stage 1 is wrong. For
several tasks `multiplicities` joins the tasks' errors into one number per example.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.data.groupings import Grouping
from src.io import DAMAGE, UserError, atomic_path, load_arrays
from src.sampling.plans import LONGEST_EPOCH

JOINS = ("inv", "union", "xor", "task")


@dataclass(frozen=True)
class ErrorSet:
    """What stage 1 hands to stage 2.

    Attributes:
        errors: (N, T) bool, where the model is wrong.
        task_losses: (T,) float64, the final validation loss of each task.
    """

    errors: np.ndarray
    task_losses: np.ndarray


def error_matrix(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Where the predictions `logit > 0` miss the labels 0/1; all arrays (N, T), the result bool."""
    return (logits > 0) != (labels != 0)


def multiplicities(
    errors: np.ndarray,
    lambda_up: float,
    join: str = "inv",
    task_losses: np.ndarray | None = None,
) -> np.ndarray:
    """How often stage 2 sees each example: 1 + round(v (lambda_up - 1)), half to even; (N,) int64.

    With e the number of tasks wrong on an example, v is 0 for e = 0 and else, by `join`,
    `union`: 1; `inv`: 1/e; `xor`: 1 for odd e, 0 for even; `task`: the loss of the wrong tasks as a
    share of the loss of all tasks (`union` where all losses are 0). For one task all four agree.

    Args:
        errors: (N, T) bool.
        lambda_up: how often an example that every task gets wrong is seen, at least 1.
        join: one of `JOINS`.
        task_losses: (T,), needed by `task`.

    Raises:
        UserError: an unknown join, lambda_up below 1, or unusable losses.
    """
    if join not in JOINS:
        raise UserError(f"mtl_join_type={join!r}: use inv, union, xor or task")
    if not 1 <= lambda_up <= LONGEST_EPOCH:
        raise UserError(
            f"lambda_up={lambda_up}: use a number of at least 1 and at most {LONGEST_EPOCH:,}"
        )
    wrong = errors.sum(axis=1)  # (N,)
    share, whole = (wrong > 0).astype(np.float64), np.ones(1)  # v = share / whole
    if join == "inv":
        whole = np.maximum(wrong, 1)
    elif join == "xor":
        share = (wrong % 2).astype(np.float64)
    elif join == "task":
        losses = _usable_losses(task_losses, errors.shape[1])
        if losses.sum() > 0:
            share, whole = errors @ losses, losses.sum()
    # One division, last: 1/e times lambda - 1 could miss an exact half.
    return 1 + np.rint(share * (lambda_up - 1) / whole).astype(np.int64)


def save_error_set(
    path: Path, names: Sequence[str], tasks: Sequence[str], error_set: ErrorSet
) -> None:
    """Write an error set as .npz, without pickle.

    Args:
        path: where to; the file is written whole.
        names: (N,) file names of the train examples.
        tasks: (T,) task names.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.char.encode(np.asarray(names, dtype=str), "utf-8"),
            tasks=np.asarray(tasks, dtype=str),
            errors=np.packbits(error_set.errors, axis=0),
            task_losses=np.asarray(error_set.task_losses, np.float64),
        )


def load_error_set(path: Path, names: Sequence[str], tasks: Sequence[str]) -> ErrorSet:
    """Read an error set back, its columns in the order of `tasks`.

    Raises:
        UserError: the file is missing or damaged (each array has a checksum), or belongs to other
            examples or other tasks than `names` (N,) and `tasks` (T,).
    """
    path = Path(path)
    try:
        saved = load_arrays(path)
        saved_names = np.char.decode(saved["names"], "utf-8")
        saved_tasks, packed, losses = saved["tasks"].tolist(), saved["errors"], saved["task_losses"]
        if saved["tasks"].dtype.kind != "U" or saved["tasks"].ndim != 1:
            raise ValueError("its tasks are no list of texts")
        bytes_of_tasks = (-(-len(saved_names) // 8), len(saved_tasks))  # unpackbits cuts and pads
        if packed.shape != bytes_of_tasks or losses.shape != packed.shape[1:]:
            raise ValueError("its arrays do not fit together")
        errors = np.unpackbits(packed, axis=0, count=len(saved_names)).astype(bool)
    except FileNotFoundError as error:
        raise UserError(f"error set {path} is missing: run stage 1 to make it") from error
    except DAMAGE as error:
        raise UserError(
            f"error set {path} cannot be read ({error}): delete it and run stage 1"
        ) from error
    if sorted(saved_tasks) != sorted(tasks):
        raise UserError(
            f"error set {path} is of the tasks {', '.join(saved_tasks)}, but the run trains "
            f"{', '.join(tasks)}: load one of the same tasks, or run stage 1"
        )
    if not np.array_equal(saved_names, np.asarray(names, dtype=str)):
        raise UserError(
            f"error set {path} is of {len(saved_names):,} other examples than the {len(names):,} "
            f"of the train split: load one of the same data, or run stage 1"
        )
    order = [saved_tasks.index(task) for task in tasks]
    return ErrorSet(errors[:, order], losses[order])


def multiplicities_from(
    path: str | None, names: Sequence[str], tasks: Sequence[str], lambda_up: float, join: str
) -> np.ndarray | None:
    """`multiplicities` (N,) of a saved error set; None without one, as in every other method."""
    if path is None:
        return None
    found = load_error_set(Path(path), names, tasks)
    return multiplicities(found.errors, lambda_up, join, found.task_losses)


def error_table(
    error_set: ErrorSet, groups: np.ndarray, groupings: Sequence[Grouping]
) -> pd.DataFrame:
    """Errors and total of each task and group, with the task's validation loss of stage 1.

    Args:
        groups: (N, T) int64 group ids; for groupings of bare tasks these are the labels.

    Returns:
        Columns grouping, group, name, errors, total, val_loss; one row per grouping and group.
    """
    rows = []
    for column, grouping in enumerate(groupings):
        ids, loss = groups[:, column], error_set.task_losses[column]
        total = np.bincount(ids, minlength=grouping.num_groups)
        wrong = np.bincount(ids[error_set.errors[:, column]], minlength=grouping.num_groups)
        for group, name in enumerate(grouping.group_names):
            rows.append((grouping.name, group, name, wrong[group], total[group], loss))
    return pd.DataFrame(rows, columns=["grouping", "group", "name", "errors", "total", "val_loss"])


def _usable_losses(task_losses: np.ndarray | None, num_tasks: int) -> np.ndarray:
    losses = np.asarray([] if task_losses is None else task_losses, np.float64)
    if losses.shape != (num_tasks,) or not (np.isfinite(losses) & (losses >= 0)).all():
        raise UserError(
            f"mtl_join_type=task needs one finite loss per task, found {losses.tolist()} for "
            f"{num_tasks} tasks: run stage 1, or use inv, union or xor"
        )
    return losses
