"""Layer 1: logits to the losses and weights of each example and task."""

import torch
from torch import Tensor

from src.objective.batch import Batch, TrainTables, look_up
from src.objective.options import LevelWeights, ObjectiveOptions
from src.objective.state import Layer


class CrossEntropy(Layer):
    """Cross-entropy; binary tasks have one logit, see src/objective/logits.py."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        self.layout = tables.layout

    def forward(self, batch: Batch) -> Tensor:
        """Return losses (B, T)."""
        return self.layout.losses(batch.logits, batch.labels)


def level_weights(counts: Tensor, options: LevelWeights) -> Tensor:
    """Return a weight (T, L) for each class or group, from its count; 0 for empty ones.

    With u = 1/n, 1/sqrt(n) or (1-beta)/(1-beta**n), the weights are u divided by the mean of u over
    the levels that occur. The last one is the class-balanced loss of Cui et al. 2019.
    """
    n = counts.double()
    if options.scheme == "effective":
        inverse = (1 - options.beta) / (1 - options.beta**n)
    else:
        inverse = n ** (-1.0 if options.scheme == "inverse" else -0.5)
    inverse = torch.where(n > 0, inverse, 0.0)
    mean = inverse.sum(1, keepdim=True) / (n > 0).sum(1, keepdim=True)
    return (inverse / mean).float()


class ClassWeights(Layer):
    """Weights by class; the mean is over the batch, not over the sum of weights."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        table = level_weights(tables.class_counts, options.class_weights)
        self.register_buffer("table", table, persistent=False)  # (T, K)

    def forward(self, batch: Batch) -> Tensor:
        """Return weights (B, T)."""
        return look_up(self.table, batch.labels)


class GroupWeights(Layer):
    """Weights by group, each task with its own; an example of unknown group has weight 0.

    Unlike drawing by group (RWG), tasks do not have to agree on one weight per example.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        table = level_weights(tables.group_counts, options.group_weights)
        self.register_buffer("table", table, persistent=False)  # (T, G)

    def forward(self, batch: Batch) -> Tensor:
        """Return weights (B, T)."""
        return look_up(self.table, batch.groups)


LOSSES = {"bce": CrossEntropy}
WEIGHTS = {"class_weights": ClassWeights, "group_weights": GroupWeights}
