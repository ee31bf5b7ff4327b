"""Losses of the groups in other runs, which group DRO compares its own with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.evaluation.logits import load_logits
from src.io import UserError, expand
from src.objective.batch import TrainTables
from src.objective.groups import group_means
from src.objective.logits import LogitLayout


def reference_losses(paths: Sequence[str], tables: TrainTables, rows: str) -> Tensor:
    """Return the mean loss of each task's groups on train, (T, G); 0 for an empty group.

    Args:
        paths: saved logits of train, such as results/train_logits_25.npz; a task is taken from the
            first file that has it.
        rows: identity of the train rows.

    Raises:
        UserError: a file is missing, damaged or of other rows, or no file has a task.
    """
    where, saved = "exp.objective.dro.reference", [load_logits(expand(path)) for path in paths]
    for path, logits in zip(paths, saved):
        if logits.source.rows != rows:
            raise UserError(
                f"{where}: {path} are not logits of these train examples: make them by python "
                f"test.py --log_dir RUN --ckpt_num last --split train"
            )
    columns = []
    for number, task in enumerate(tables.tasks):
        own = next((logits for logits in saved if task in logits.tasks), None)
        if own is None:
            raise UserError(f"{where}: none of the files has the task {task}")
        layout = LogitLayout([tables.layout.num_classes[number]])
        values = torch.from_numpy(own.of_task(task)).view(-1, layout.width)
        columns.append(layout.losses(values, tables.labels[:, number : number + 1].cpu()))
    groups = torch.where(tables.labels >= 0, tables.groups, -1).cpu()
    means, _ = group_means(torch.cat(columns, 1), None, groups, tables.group_counts.shape[1])
    return means.to(tables.labels.device)
