"""Validation after each epoch: one pass, its figures, and the selection of epochs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.data.sources import ImageView
from src.data.table import Table
from src.evaluation.logits import Logits, Source, log_losses, rows_identity, save_logits
from src.evaluation.predict import check_finite, image_identity, predict
from src.evaluation.results import evaluate, evaluation_json, read_evaluation, task_figures
from src.io import write_json
from src.objective.logits import LogitLayout
from src.runs.folder import Run
from src.runs.selection import record_validation, scores
from src.training.checkpoints import model_hash
from src.training.distributed import Ranks


@dataclass(frozen=True)
class Validated:
    """The figures of an epoch.

    Attributes:
        metrics: flat figures for the log.
        summary: a line to print.
        group_losses: (T, G), the mean loss of each task's groups; NaN if empty.
    """

    metrics: dict[str, float | None]
    summary: str
    group_losses: np.ndarray


class Validation:
    """Validates the network of a run and selects its best epochs.

    Args:
        rows: of the validation split, with the columns of `groupings`.
        groupings: one per task.
        by_group: whether their groups are more than the classes; without, the rules that need
            groups select nothing.
    """

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        rows: Table,
        groupings: Sequence[Grouping],
        by_group: bool,
        batch_size: int,
        device: torch.device,
        precision: str,
        ranks: Ranks,
    ):
        self.run, self.dataset, self.by_group = run, dataset, by_group
        self.rows, self.groupings = rows, list(groupings)
        self.layout = LogitLayout([grouping.num_classes for grouping in groupings])
        self.images, own = dataset.images("val"), dataset.split("val")
        self.identity = rows_identity(own.names, own.codes)
        self.batch_size, self.device, self.precision = batch_size, device, precision
        self.ranks = ranks

    def __call__(self, model: Any, epoch: int, stop: Any) -> Validated | None:
        """Validate, and save logits and figures; return None if a signal came."""
        tasks = tuple(grouping.task for grouping in self.groupings)
        # Processes cannot stop in the midst of a pass that they share.
        stop = stop if self.ranks.size == 1 else lambda: None
        values = self._logits(model, self.images, len(self.rows), progress="val", stop=stop)
        if values is None:
            return None
        source = Source(
            *("val", str(epoch), model_hash(model.state_dict())),
            *(self.identity, image_identity(self.images)),
            *(self.precision, self.device.type),
        )
        logits = Logits(values.numpy(), tasks, self.layout.num_classes, source)
        figures = evaluate(logits, self.groupings, self.rows)
        if self.ranks.first:
            save_logits(self.run.logits("val", epoch), logits)
            report = evaluation_json(self.run.path, logits, str(epoch), figures)
            write_json(self.run.epoch_stats(epoch), report)
        losses = group_losses(logits, self.groupings, self.rows)
        return Validated(flat_metrics(figures), summary_line(figures), losses)

    def train_logits(self, model: Any, rows: np.ndarray) -> torch.Tensor:
        """Return the logits (n, C) of rows (n,) of train in eval mode, without augmentation."""
        images = ImageView([(self.dataset.images("train"), rows)])
        return self._logits(model, images, len(rows), progress="train")

    def _logits(self, model: Any, images: Any, count: int, **options: Any) -> torch.Tensor | None:
        """Return the logits (N, C) of `count` images, which the processes share."""
        passed = predict(
            *(model, images, count, self.layout.width),
            *(self.device, self.precision, self.batch_size),
            share=self.ranks.share,
            **options,
        )
        if passed is None:
            return None
        own = torch.from_numpy(passed.logits)
        if self.ranks.size == 1:
            return own
        logits = self.ranks.gather(own, count)
        check_finite(logits, self.precision)  # on all processes, so that all raise
        return logits

    def select(self, epoch: int) -> dict[str, int]:
        """Add a validated epoch, whose checkpoint exists, to val_stats.json.

        Return the epoch that each rule selects now.
        """
        figures = task_figures(read_evaluation(self.run.epoch_stats(epoch)))
        return record_validation(self.run, epoch, scores(figures, self.by_group))["selected"]


def group_losses(logits: Logits, groupings: Sequence[Grouping], rows: Table) -> np.ndarray:
    """Return the mean loss of each task's groups, (T, G); NaN if empty."""
    means = np.full((len(groupings), max(g.num_groups for g in groupings)), np.nan)
    for task, grouping in enumerate(groupings):
        labels, (members, groups) = grouping.labels(rows), grouping.members(rows)
        losses = log_losses(logits.of_task(grouping.task), labels.clip(min=0))[members]  # (M,)
        for group in np.unique(groups):
            means[task, group] = losses[groups == group].mean()
    return means


def flat_metrics(figures: dict[str, Any]) -> dict[str, float | None]:
    """Flatten validation figures: `val/Blond_Hair/g3_acc`; None for an empty group."""
    flat = {}
    for name, values in figures.items():
        prefix = f"val/{name.partition(':')[0]}"
        worst = values["worst_group"]
        flat[f"{prefix}/loss"] = values["loss"]
        flat[f"{prefix}/avg_acc"] = values["avg_acc"]
        flat[f"{prefix}/worst_group_acc"] = worst["acc"] if worst else None
        for group in values["groups"]:
            flat[f"{prefix}/g{group['id']}_acc"] = group["acc"]
    return flat


def summary_line(figures: dict[str, Any]) -> str:
    """Format validation figures: average and worst group with its name and size, per task."""
    parts = []
    for name, values in figures.items():
        average = "-" if values["avg_acc"] is None else f"{100 * values['avg_acc']:.1f}"
        part = f"val {name.partition(':')[0]}: average {average}"
        worst = values["worst_group"]
        if worst:
            group = values["groups"][worst["id"]]
            part += f", worst group {100 * worst['acc']:.1f} ({group['name']}, n={group['total']})"
        parts.append(part)
    return "; ".join(parts)
