"""What happens after each epoch: one pass over the validation split, its figures, the choice."""

from collections.abc import Sequence
from typing import Any

import torch

from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.evaluation.logits import (
    Logits,
    data_identity,
    evaluate,
    evaluations,
    predict,
    read_report,
    report,
    save_logits,
)
from src.io import write_json
from src.runs.folder import Run
from src.runs.selection import record_validation, scores
from src.training.checkpoints import model_hash


class Validation:
    """Validates a run's network and chooses its best epochs.

    Args:
        groupings: one per task; without `by_group` only their classes are looked at, and the rules
            that need groups choose nothing.
    """

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        groupings: Sequence[Grouping],
        by_group: bool,
        batch_size: int,
        device: torch.device,
        precision: str,
    ):
        self.run, self.by_group = run, by_group
        self.groupings = [g if by_group else g.without_attributes() for g in groupings]
        self.rows = dataset.split("val")
        self.images = dataset.images("val")
        self.identity = data_identity(self.rows.names, self.rows.codes)
        self.batch_size, self.device, self.precision = batch_size, device, precision

    def __call__(self, model: Any, epoch: int, stop: Any) -> dict[str, float | None] | None:
        """Flat metrics of a pass, whose figures are saved; None where a signal came."""
        tasks = tuple(grouping.task for grouping in self.groupings)
        values = predict(
            model,
            self.images,
            len(self.rows.names),
            len(tasks),
            self.device,
            self.precision,
            self.batch_size,
            progress="val",
            stop=stop,
        )
        if values is None:
            return None
        checkpoint = model_hash(model.state_dict())
        logits = Logits(values, tasks, "val", str(epoch), checkpoint, self.identity)
        stats = evaluate(logits, self.groupings, self.rows)
        save_logits(self.run.logits("val", epoch), logits)
        write_json(self.run.epoch_stats(epoch), report(self.run.path, logits, str(epoch), stats))
        return flat_metrics(stats)

    def choose(self, epoch: int) -> dict[str, int]:
        """Add a validated epoch, whose checkpoint is on the disk, to val_stats.json; returns the
        epoch that each rule chooses by now."""
        stats = evaluations(read_report(self.run.epoch_stats(epoch)))
        return record_validation(self.run, epoch, scores(stats, self.by_group))["selected"]


def flat_metrics(stats: dict[str, Any]) -> dict[str, float | None]:
    """Validation figures as flat keys: `val/Blond_Hair/g3_acc`; of an empty group None."""
    flat = {}
    for name, figures in stats.items():
        prefix = f"val/{name.partition(':')[0]}"
        worst = figures["worst_group"]
        flat[f"{prefix}/loss"] = figures["loss"]
        flat[f"{prefix}/avg_acc"] = figures["avg_acc"]
        flat[f"{prefix}/worst_group_acc"] = worst["acc"] if worst else None
        for group in figures["groups"]:
            flat[f"{prefix}/g{group['id']}_acc"] = group["acc"]
    return flat
