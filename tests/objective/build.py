"""Small objectives and batches for tests."""

from typing import Any

import torch
from torch import Tensor

from src.objective.batch import Batch, TrainTables
from src.objective.compose import Objective
from src.objective.logits import LogitLayout
from src.objective.options import ObjectiveOptions


def make_tables(
    labels: list[list[int]], groups: list[list[int]] | None = None, classes: tuple[int, ...] = ()
) -> TrainTables:
    """Tables of a train split with labels (N, T); without groups, the labels are the groups."""
    y = torch.tensor(labels)
    g = y if groups is None else torch.tensor(groups)
    layout = LogitLayout(classes or [2] * y.shape[1])
    sizes = [k if groups is None else 2 * k for k in layout.num_classes]
    return TrainTables(layout, y, g, sizes, [f"t{task}" for task in range(y.shape[1])])


def make_objective(
    tables: TrainTables, task_weights: list[float] | None = None, **options: Any
) -> Objective:
    chosen = ObjectiveOptions(**{"across": "static", **options})
    return Objective(chosen, tables, task_weights or [1.0] * len(tables.tasks), 0.5)


def whole_batch(tables: TrainTables, logits: list[list[float]] | Tensor) -> Batch:
    """The batch of all examples."""
    logits = torch.as_tensor(logits)
    return tables.batch(logits, torch.arange(len(tables.labels)))


def step(objective: Objective, batch: Batch, finite: bool = True) -> Tensor:
    """Compute the scalar and commit the new state."""
    total, _ = objective(batch)
    objective.commit(torch.tensor(finite))
    return total
