"""Logit adjustment of saved logits (Menon et al. 2021): shift them by the priors of train."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.logits import Logits
from src.io import UserError
from src.sampling.draws import known_share
from src.sampling.plans import stack_groups

if TYPE_CHECKING:
    from src.evaluation.evaluator import RunEvaluator


def adjust(
    logits: Logits,
    groupings: Sequence[Grouping],
    train: Table,
    rows: Table,
    tau: float,
    by: str = "class",
) -> Logits:
    """Return logits minus tau times the log priors of the classes on train.

    A binary task's logit becomes f - tau log(n_1 / n_0); of several classes z_k - tau log n_k.

    Args:
        groupings: one per task of the logits.
        train, rows: of the train split, and of the split of the logits.
        by: `class`, or `group` for the priors among the examples with the same attribute values;
            an example whose group is unknown is not adjusted then.
    """
    parts = []
    for grouping in groupings:
        own = logits.of_task(grouping.task)
        own = own[:, None] if own.ndim == 1 else own  # (N, 1) or (N, K)
        used = grouping if by == "group" else grouping.without_attributes()
        priors, groups = log_priors(used, train), used.group_ids(rows)  # (K, A), (N,)
        shift = priors.T[groups.clip(min=0) % priors.shape[1]]  # (N, K)
        if by == "group":
            shift = shift * (groups >= 0)[:, None]
        else:
            shift = np.broadcast_to(priors[:, 0], shift.shape)
        shift = shift[:, 1:] - shift[:, :1] if own.shape[1] == 1 else shift
        parts.append(own - tau * shift)
    return replace(logits, values=np.concatenate(parts, axis=1).astype(np.float32))


def with_known_groups(
    train: Table, groupings: Sequence[Grouping], share: float, seed: int
) -> Table:
    """Return the rows of train whose groups a run knew; see exp.dataset.groups_known.

    Raises:
        UserError: it knew none.
    """
    if share == 0:
        raise UserError(
            "the run was trained without group labels, so groups have no priors: use "
            "--adjust_by class"
        )
    groups = stack_groups(train, groupings)
    return train.select((known_share(groups, share, seed) == groups).all(axis=1))


def adjust_run(
    evaluator: "RunEvaluator",
    logits: Logits,
    groupings: Sequence[Grouping],
    split: str,
    tau: float,
    by: str,
) -> Logits:
    """Adjust the logits of a run by the examples of train whose groups it knew.

    Args:
        groupings: the first one of each task counts, for other tasks that of the training.
    """
    train, config = evaluator.rows("train"), evaluator.config
    if by == "group":
        share = config.dataset.groups_known if config.dataset.subgroup_labels else 0.0
        train = with_known_groups(train, evaluator.groupings, share, config.seed)
    first = {of.task: of for of in [*evaluator.groupings, *reversed(groupings)]}
    one_per_task = [first[task] for task in evaluator.tasks]
    return adjust(logits, one_per_task, train, evaluator.rows(split), tau, by)


def log_priors(grouping: Grouping, train: Table) -> np.ndarray:
    """Return the log counts of the classes among equal attribute values, (K, A).

    If one of them is empty, each count is one larger.
    """
    groups = grouping.group_ids(train)
    counts = np.bincount(groups[groups >= 0], minlength=grouping.num_groups)
    counts = counts.reshape(grouping.num_classes, -1)
    return np.log(np.where((counts == 0).any(axis=0), counts + 1, counts))
