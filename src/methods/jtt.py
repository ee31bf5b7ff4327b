"""JTT (Liu et al. 2021, "Just Train Twice"): train briefly, then see the errors more often.

Stage 1 trains a network for a few epochs. The error set holds the train examples that it gets
wrong, per task. Stage 2 trains a fresh network that sees these examples `lambda_up` times per
epoch. For several tasks, `multiplicities` joins the errors into one number per example.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from src.data.groupings import Grouping
from src.evaluation.logits import load_logits, predictions, rows_identity
from src.evaluation.metrics import count_groups
from src.evaluation.results import read_evaluation, task_figures
from src.io import UserError, atomic_path, write_atomic
from src.methods.found_groups import load_columns
from src.methods.stages import Node, Stages
from src.sampling.plans import stack_groups, stack_labels


def graph(stages: Stages) -> Node:
    """Return JTT's graph: stage 1, its logits on train, the error set, stage 2."""
    given, path = stages.config.dataloader.error_set, stages.run.path / "error_set.npz"
    inputs = ()
    if given is None:
        first = stages.train("stage_1", dataloader={"error_set": None, "lambda_up": 1.0})
        logits = stages.export(first, "train")

        def make(*_: object) -> None:
            make_error_set(stages, first, path)

        inputs = (Node(path.name, path.exists, make, (logits,)),)
    return stages.train("stage_2", inputs, dataloader={"error_set": given or str(path)})


def make_error_set(stages: Stages, first: Node, path: Path) -> None:
    """Write the error set of a finished stage 1, and a table of it beside."""
    groupings, rows = stages.groupings, stages.dataset.split("train")
    run, epoch = first.run, first.epoch()
    logits = load_logits(run.logits("train", epoch))
    figures = task_figures(read_evaluation(run.epoch_stats(epoch)))
    losses = {name.partition(":")[0]: values["loss"] for name, values in figures.items()}
    task_losses = np.array([losses[task] for task in stages.tasks])
    labels = stack_labels(rows, groupings)  # (N, T)
    predicted = np.stack([predictions(logits.of_task(task)) for task in stages.tasks], axis=1)
    errors = (predicted != labels) & (labels >= 0)
    table = error_table(errors, task_losses, stack_groups(rows, groupings), groupings)
    write_atomic(path.with_suffix(".csv"), table.to_csv(index=False))
    data = rows_identity(rows.names, rows.codes)
    save_error_set(path, rows.names, stages.tasks, errors, task_losses, data)


def multiplicities(
    errors: np.ndarray,
    lambda_up: float,
    join: str = "inv",
    task_losses: np.ndarray | None = None,
) -> np.ndarray:
    """Return how often stage 2 sees each example, (N,) int64.

    This is 1 + round(v (lambda_up - 1)), half to even. With e the number of tasks that are wrong on
    an example, v is 0 for e = 0. Otherwise `join` decides: `union`: 1; `inv`: 1/e; `xor`: 1 for odd
    e, 0 for even; `task`: the loss of the wrong tasks as a share of the loss of all tasks (`union`
    if all losses are 0). For one task all four agree.

    Args:
        errors: (N, T) bool.
        lambda_up: how often an example that every task gets wrong is seen, at least 1.
        join: as above.
        task_losses: (T,), needed by `task`.
    """
    wrong = errors.sum(axis=1)  # (N,)
    share, whole = (wrong > 0).astype(np.float64), np.ones(1)  # v = share / whole
    if join == "inv":
        whole = np.maximum(wrong, 1)
    elif join == "xor":
        share = (wrong % 2).astype(np.float64)
    elif join == "task":
        losses = np.nan_to_num(task_losses)  # NaN: no label in validation
        if losses.sum() > 0:
            share, whole = errors @ losses, losses.sum()
    # One division, last: 1/e times lambda - 1 could miss an exact half.
    return 1 + np.rint(share * (lambda_up - 1) / whole).astype(np.int64)


def save_error_set(
    path: Path,
    names: np.ndarray,
    tasks: Sequence[str],
    errors: np.ndarray,
    task_losses: np.ndarray,
    data: str,
) -> None:
    """Write an error set as .npz.

    Args:
        names: (N,) file names of the train examples.
        errors: (N, T) bool, whether the model of stage 1 is wrong.
        task_losses: (T,) its validation loss for each task.
        data: identity of the train rows (names and labels).
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.char.encode(np.asarray(names, dtype=str), "utf-8"),
            tasks=np.asarray(tasks, dtype=str),
            errors=np.packbits(errors, axis=0),
            task_losses=np.asarray(task_losses, np.float64),
            data=np.array(data),
        )


def load_error_set(
    path: Path, names: np.ndarray, tasks: Sequence[str], data: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return errors (N, T) bool and task losses (T,), in the order of `tasks`.

    Args:
        names: (N,) file names of the train examples.
        data: identity of the train rows; an error set of the first edition has none.

    Raises:
        UserError: the file is missing or damaged, or belongs to other examples or tasks.
    """
    what = f"error set {path}"
    needed = ["names", "errors", "task_losses"]
    arrays, order = load_columns(path, tasks, needed, what, "run stage 1 to make it")
    saved_names = np.char.decode(arrays["names"], "utf-8")
    same_names = np.array_equal(saved_names, np.asarray(names, dtype=str))
    if not same_names or str(arrays.get("data", data)) != data:
        raise UserError(
            f"{what} was made from other data ({len(saved_names):,} train examples, here "
            f"{len(names):,}, or other labels): use one of the same data, or run stage 1"
        )
    errors = np.unpackbits(arrays["errors"], axis=0, count=len(names)).astype(bool)
    return errors[:, order], arrays["task_losses"][order]


def error_table(
    errors: np.ndarray, losses: np.ndarray, groups: np.ndarray, groupings: Sequence[Grouping]
) -> pd.DataFrame:
    """Count errors and examples of each task and group.

    Args:
        errors: (N, T) bool; losses: (T,); groups: (N, T) ids, -1 = unknown.

    Returns:
        Columns grouping, group, name, errors, total, val_loss; one row per grouping and group.
    """
    rows = []
    for column, grouping in enumerate(groupings):
        counts = count_groups(errors[:, column], groups[:, column], grouping.num_groups)
        for group, (name, wrong, total) in enumerate(zip(grouping.group_names, *counts)):
            rows.append((grouping.name, group, name, wrong, total, losses[column]))
    return pd.DataFrame(rows, columns=["grouping", "group", "name", "errors", "total", "val_loss"])
