"""What the objective knows: the batch, and the counts of the train split."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from src.objective.logits import LogitLayout


@dataclass(frozen=True)
class Batch:
    """One batch as the objective sees it."""

    logits: Tensor  # (B, C)
    labels: Tensor  # (B, T) int64, -1 = unknown
    groups: Tensor  # (B, T) int64, -1 = unknown
    positions: Tensor  # (B,) int64, rows of the train split
    features: Tensor | None = None  # (B, D), what the head sees
    partner: "Batch | None" = None  # of mixed images: the labels of the other image
    share: Tensor | None = None  # (B,), of the first image in a mixed one


class TrainTables:
    """Labels and groups of the train split on the device, and how often each occurs.

    Args:
        layout: of the logits.
        labels: (N, T) int64, -1 = unknown.
        groups: (N, T) int64, -1 = unknown.
        num_groups: groups of each task, G_t.
        tasks: their names.

    Attributes:
        reference: (T, G) losses of the groups in other runs, for group DRO; None for none.
    """

    def __init__(
        self,
        layout: LogitLayout,
        labels: Tensor,
        groups: Tensor,
        num_groups: Sequence[int],
        tasks: Sequence[str],
    ):
        self.layout, self.labels, self.groups = layout, labels, groups
        self.num_groups, self.tasks = tuple(num_groups), list(tasks)
        self.class_counts = count(labels, max(layout.num_classes))  # (T, K)
        self.group_counts = count(groups, max(num_groups))  # (T, G)
        self.all_labelled = bool((labels >= 0).all())
        self.reference: Tensor | None = None

    def batch(self, logits: Tensor, positions: Tensor, features: Tensor | None = None) -> Batch:
        """Look up the labels and groups of `positions` (B,)."""
        return Batch(logits, self.labels[positions], self.groups[positions], positions, features)


def count(levels: Tensor, size: int) -> Tensor:
    """Count each level of each task: levels (N, T), -1 = unknown, to counts (T, size) int64."""
    counts = torch.zeros(levels.shape[1], size + 1, dtype=torch.int64, device=levels.device)
    counts.scatter_add_(1, (levels + 1).T, torch.ones_like(levels.T))
    return counts[:, 1:]


def look_up(table: Tensor, levels: Tensor) -> Tensor:
    """Return table[t, levels[b, t]] as (B, T), and 0 where the level is -1.

    Args:
        table: (T, L) float.
        levels: (B, T) int64.
    """
    values = table.gather(1, levels.clamp(min=0).T).T  # (B, T)
    return values * (levels >= 0)


def cells(levels: Tensor, size: int) -> Tensor:
    """Return the one-hot (B, T, size) float32 of levels (B, T); all zero where the level is -1."""
    return (levels[..., None] == torch.arange(size, device=levels.device)).float()
