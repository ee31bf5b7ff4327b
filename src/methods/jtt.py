"""JTT (Liu et al. 2021, "Just Train Twice"): train briefly, then see the errors more often.

Stage 1 trains a network for a few epochs. The error set holds the train examples that it gets
wrong, per task. Stage 2 trains a fresh network that sees these examples `lambda_up` times per
epoch. For several tasks, `multiplicities` joins the errors into one number per example.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from src.data.groupings import Grouping
from src.evaluation.logits import load_logits, predictions, rows_identity
from src.evaluation.metrics import count_groups
from src.evaluation.results import read_evaluation, task_figures
from src.io import DAMAGE, UserError, atomic_path, load_arrays, write_atomic
from src.methods.stages import Node, Stages
from src.sampling.plans import stack_groups


@dataclass(frozen=True)
class ErrorSet:
    """The result of stage 1.

    Attributes:
        errors: (N, T) bool, whether the model is wrong.
        task_losses: (T,) float64, the final validation loss of each task.
        data: identity of the train rows (names and labels).
    """

    errors: np.ndarray
    task_losses: np.ndarray
    data: str


def graph(stages: Stages) -> Node:
    """Return JTT's graph: stage 1, its logits on train, the error set, stage 2."""
    path = stages.run.path / "error_set.npz"
    given = stages.settings.error_set
    if given is not None:
        error_set = Node(str(given), done=lambda: True)
    else:
        first = stages.train("stage_1", dataloader={"error_set": None, "lambda_up": 1.0})
        logits = stages.export(first, "train")
        error_set = Node(
            path.name,
            done=path.exists,
            make=lambda *_: make_error_set(stages, first, path),
            inputs=(logits,),
        )
    return stages.train(
        "stage_2", inputs=(error_set,), dataloader={"error_set": str(given or path)}
    )


def make_error_set(stages: Stages, first: Node, path: Path) -> None:
    """Write the error set of a finished stage 1, and a table of it beside."""
    groupings, rows = stages.groupings, stages.dataset.split("train")
    run, epoch = first.run, first.epoch()
    logits = load_logits(run.logits("train", epoch))
    figures = task_figures(read_evaluation(run.epoch_stats(epoch)))
    losses = {name.partition(":")[0]: values["loss"] for name, values in figures.items()}
    labels = np.stack([grouping.labels(rows) for grouping in groupings], axis=1)  # (N, T)
    predicted = np.stack([predictions(logits.of_task(g.task)) for g in groupings], axis=1)
    errors = ErrorSet(
        (predicted != labels) & (labels >= 0),
        np.array([losses[grouping.task] for grouping in groupings]),
        rows_identity(rows.names, rows.codes),
    )
    table = error_table(errors, stack_groups(rows, groupings), groupings)
    write_atomic(path.with_suffix(".csv"), table.to_csv(index=False))
    save_error_set(path, rows.names, [grouping.task for grouping in groupings], errors)


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


def save_error_set(path: Path, names: np.ndarray, tasks: Sequence[str], errors: ErrorSet) -> None:
    """Write an error set as .npz.

    Args:
        names: (N,) file names of the train examples.
        tasks: (T,) task names.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.char.encode(np.asarray(names, dtype=str), "utf-8"),
            tasks=np.asarray(tasks, dtype=str),
            errors=np.packbits(errors.errors, axis=0),
            task_losses=np.asarray(errors.task_losses, np.float64),
            data=np.array(errors.data),
        )


def load_error_set(path: Path, names: np.ndarray, tasks: Sequence[str], data: str) -> ErrorSet:
    """Read an error set, its columns in the order of `tasks`.

    Args:
        names: (N,) file names of the train examples.
        tasks: (T,) task names.
        data: identity of the train rows; an error set of the first edition has none.

    Raises:
        UserError: the file is missing or damaged, or belongs to other examples or tasks.
    """
    try:
        saved = load_arrays(path)
        saved_names = np.char.decode(saved["names"], "utf-8")
        saved_tasks, packed, losses = saved["tasks"].tolist(), saved["errors"], saved["task_losses"]
        # unpackbits would cut or pad arrays of another length
        if packed.shape != (-(-len(saved_names) // 8), len(saved_tasks)):
            raise ValueError("its arrays do not fit together")
        errors = np.unpackbits(packed, axis=0, count=len(saved_names)).astype(bool)
    except FileNotFoundError as error:
        raise UserError(f"error set {path} is missing: run stage 1 to make it") from error
    except (*DAMAGE, TypeError) as error:
        raise UserError(
            f"error set {path} cannot be read ({error}): delete it and run stage 1"
        ) from error
    if sorted(saved_tasks) != sorted(tasks):
        raise UserError(
            f"error set {path} is of the tasks {', '.join(saved_tasks)}, but the run trains "
            f"{', '.join(tasks)}: use one of the same tasks, or run stage 1"
        )
    same_names = np.array_equal(saved_names, np.asarray(names, dtype=str))
    if not same_names or str(saved.get("data", data)) != data:
        raise UserError(
            f"error set {path} was made from other data ({len(saved_names):,} train examples, here "
            f"{len(names):,}, or other labels): use one of the same data, or run stage 1"
        )
    order = [saved_tasks.index(task) for task in tasks]
    return ErrorSet(errors[:, order], losses[order], data)


def error_table(
    error_set: ErrorSet, groups: np.ndarray, groupings: Sequence[Grouping]
) -> pd.DataFrame:
    """Count errors and examples of each task and group; a pandas table.

    Args:
        groups: (N, T) int64 group ids; for groupings of bare tasks these are the labels.

    Returns:
        Columns grouping, group, name, errors, total, val_loss; one row per grouping and group.
    """
    rows = []
    for column, grouping in enumerate(groupings):
        ids, loss = groups[:, column], error_set.task_losses[column]
        errors = error_set.errors[:, column]
        wrong, total = count_groups(errors, ids, grouping.num_groups)
        for group, name in enumerate(grouping.group_names):
            rows.append((grouping.name, group, name, wrong[group], total[group], loss))
    return pd.DataFrame(rows, columns=["grouping", "group", "name", "errors", "total", "val_loss"])
