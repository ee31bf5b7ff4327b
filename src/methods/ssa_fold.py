"""The network of one of SSA's parts: it learns attributes from few labels and its own predictions.

A batch has as many labelled rows (half of validation) as unlabelled ones (the other parts of
train). The loss is the mean cross-entropy of the labelled rows, and that of the unlabelled rows
whose prediction is confident enough, with this prediction as the label. How confident is enough
depends on the pseudo group (class, predicted attribute), so that all groups grow to one size.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.dataset import Dataset
from src.data.groupings import Grouping
from src.data.sources import ImageView
from src.data.table import Table
from src.methods.found_groups import GroupLabels
from src.methods.options import SsaOptions
from src.methods.ssa import train_parts
from src.objective.compose import Objective
from src.sampling.draws import FOLD_STREAM, stratified_halves
from src.sampling.epochs import FixedSchedule, IndexPlan
from src.sampling.plans import stack_groups
from src.training.method import Forward, Loss, Method

MOST_SAMPLED = 20_000  # unlabelled rows that decide the thresholds


class FoldData:
    """The data of one part; train: labelled rows, then unlabelled ones; val: rows that select.

    Args:
        groupings: one per attribute, `Attr:Task+Task`.
    """

    def __init__(
        self, dataset: Dataset, groupings: Sequence[Grouping], options: SsaOptions, seed: int
    ):
        self.dataset, self.groupings = dataset, list(groupings)
        fit, select = stratified_halves(stack_groups(dataset.split("val"), groupings), seed)
        count = len(dataset.split("train"))
        own = train_parts(count, options.folds, seed)[options.fold]
        others = np.setdiff1d(np.arange(count), own)
        self.rows = {"train": [("val", fit), ("train", others)], "val": [("val", select)]}

    def split(self, split: str) -> Table:
        """Return the rows of a split; the attributes of unlabelled rows are unknown."""
        table = self.true_split(split)
        if split == "train":
            hidden = len(self.rows["train"][0][1])
            codes = table.codes.copy()
            for grouping in self.groupings:
                codes[hidden:, table.columns.index(grouping.task)] = -1
            table = replace(table, codes=codes)
        return table

    def true_split(self, split: str) -> Table:
        parts = [self.dataset.split(name).select(rows) for name, rows in self.rows[split]]
        return replace(
            parts[0],
            names=np.concatenate([part.names for part in parts]),
            split=np.concatenate([part.split for part in parts]),
            codes=np.concatenate([part.codes for part in parts]),
        )

    def images(self, split: str, full_frame: bool = False) -> ImageView:
        """Return the images of a split."""
        return ImageView(
            [(self.dataset.images(name, full_frame=full_frame), rows)
             for name, rows in self.rows[split]]
        )  # fmt: skip


class FoldLabels(GroupLabels):
    """Groups of the labelled rows as usual; in train the classes (N, T) take their place."""

    def groups(self, split: str) -> np.ndarray:
        if split != "train":
            return super().groups(split)
        rows = self.dataset.true_split(split)
        columns = []
        for grouping in self.own:  # its task is an attribute, hidden here; its attributes are tasks
            classes = np.zeros(len(rows), np.int64)
            for name, values in zip(grouping.attributes, grouping.classes[1:]):
                column = rows.column(name)
                unknown = (classes < 0) | (column < 0)
                classes = np.where(unknown, -1, classes * len(values) + column)
            columns.append(classes)
        return np.stack(columns, axis=1)


class FoldSchedule(FixedSchedule):
    """Batches of as many labelled rows as unlabelled ones; an epoch has a fixed number of them."""

    def __init__(self, labelled: np.ndarray, unlabelled: np.ndarray, steps: int):
        self.halves, self.steps_per_epoch = (labelled, unlabelled), steps

    def batches(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        """Return the positions (2B,) of each batch of an epoch: labelled, then unlabelled."""
        rng = np.random.default_rng([seed, FOLD_STREAM, epoch])
        steps = self.steps_per_epoch
        wanted = steps * batch_size
        drawn = []
        for rows in self.halves:
            passes = [rng.permutation(rows) for _ in range(-(-wanted // len(rows)))]
            drawn.append(np.concatenate(passes)[:wanted].reshape(steps, batch_size))
        return list(np.concatenate(drawn, axis=1))

    def steps(self, batch_size: int) -> int:
        return self.steps_per_epoch

    def rows(self, batch_size: int) -> int:
        return 2 * batch_size

    def positions(self) -> np.ndarray:
        return np.sort(np.concatenate(self.halves))


class SsaFold(Method):
    """Learn attributes from labelled rows and confident predictions; see the module."""

    captured = False  # not yet tried as a CUDA graph

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        is_labelled = (self.tables.labels >= 0).any(1).cpu().numpy()
        self.labelled, self.unlabelled = np.flatnonzero(is_labelled), np.flatnonzero(~is_labelled)
        classes = self.tables.layout.num_classes
        # A pseudo group is attribute * classes + class.
        self.classes = [groups // k for groups, k in zip(self.tables.num_groups, classes)]
        start = torch.full((len(classes), max(self.tables.num_groups)), self.options.threshold)
        self.register_buffer("thresholds", start)  # (T, G)

    @classmethod
    def data(cls, labels: GroupLabels, options: SsaOptions) -> FoldLabels:
        data = FoldData(labels.dataset, labels.own, options, labels.seed)
        return FoldLabels(data, labels.own, seed=labels.seed)

    def schedule(self, plan: IndexPlan, seed: int) -> FoldSchedule:
        rng = np.random.default_rng([seed, FOLD_STREAM, 0])
        self.sample = rng.permutation(self.unlabelled)[:MOST_SAMPLED]
        return FoldSchedule(self.labelled, self.unlabelled, self.options.interval)

    def loss(self, network: Forward, objective: Objective, images: Tensor, rows: Tensor) -> Loss:
        logits, half = network(images), len(rows) // 2
        labelled, logged = objective(self.tables.batch(logits[:half], rows[:half]))
        batch = self.tables.batch(logits[half:], rows[half:])
        predicted, confidence, groups = self.pseudo_groups(batch.logits.detach(), batch.groups)
        needed = self.thresholds.gather(1, groups.clamp(min=0).T).T  # (B, T)
        trusted = torch.where((confidence >= needed) & (groups >= 0), predicted, -1)
        own, _ = objective(replace(batch, labels=trusted))
        return labelled + own, logged

    def pseudo_groups(self, logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return predicted attributes, their probabilities, and pseudo groups; each (B, T).

        Args:
            logits: (B, C).
            classes: (B, T); -1 = unknown, and so is the pseudo group then.
        """
        best = [table.max(1) for table in self.tables.layout.probabilities(logits)]
        confidence = torch.stack([values for values, _ in best], 1)
        predicted = torch.stack([indices for _, indices in best], 1)
        sizes = torch.tensor(self.classes, device=logits.device)
        return predicted, confidence, torch.where(classes >= 0, predicted * sizes + classes, -1)

    def end_epoch(self, predict: Callable[[np.ndarray], Tensor]) -> None:
        """Renew the thresholds from predictions on the unlabelled rows."""
        tables = self.tables
        classes = tables.groups[torch.from_numpy(self.sample).to(tables.groups.device)].cpu()
        _, confidence, groups = self.pseudo_groups(predict(self.sample), classes)
        labels, own = tables.labels[self.labelled].cpu(), tables.groups[self.labelled].cpu()
        for task, size in enumerate(tables.num_groups):
            known = (labels[:, task] >= 0) & (own[:, task] >= 0)
            true = (labels * torch.tensor(self.classes) + own)[known, task].numpy()
            fresh = thresholds(
                np.bincount(true, minlength=size),
                *(confidence[:, task].numpy(), groups[:, task].numpy()),
                *(len(self.unlabelled) / len(self.sample), self.options.threshold),
            )
            self.thresholds[task, :size] = torch.from_numpy(fresh).float()


def thresholds(
    labelled: np.ndarray, confidence: np.ndarray, groups: np.ndarray, scale: float, first: float
) -> np.ndarray:
    """Return how confident a prediction must be to count, for each pseudo group, (G,).

    The smallest labelled group takes confident predictions. The others take the most confident
    ones, up to the size that the smallest then has: none (inf) where they are larger already.

    Args:
        labelled: (G,) labelled rows of each group.
        confidence, groups: (n,) predictions on unlabelled rows; group -1 does not count.
        scale: unlabelled rows that each of these n stands for.
        first: threshold of the smallest group.
    """
    smallest = int(np.argmin(np.where(labelled > 0, labelled, np.inf)))
    passing = (confidence[groups == smallest] >= first).sum() * scale
    most = labelled[smallest] + passing
    result = np.zeros(len(labelled))
    for group, count in enumerate(labelled):
        ranked = np.sort(confidence[groups == group])[::-1]
        allowed = int((most - count) / scale)
        if allowed <= 0:
            result[group] = np.inf
        elif len(ranked) > allowed:
            tied = ranked[allowed] == ranked[allowed - 1]  # then none of the tied ones passes
            result[group] = np.nextafter(ranked[allowed - 1], 2) if tied else ranked[allowed - 1]
    result[smallest] = first
    return result
