"""Penalties on the losses of environments, the attribute's values; added after layer 3."""

import torch
from torch import Tensor

from src.objective.batch import Batch, TrainTables, cells
from src.objective.groups import environments, group_means
from src.objective.layer import TableLayer
from src.objective.options import IRMOptions, ObjectiveOptions, RExOptions


class Penalty(TableLayer):
    """A penalty whose strength is 1 for the first steps."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        sizes = zip(tables.num_groups, tables.layout.num_classes)
        self.num_values = max(groups // classes for groups, classes in sizes)  # A
        self.add_state("step", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Tensor, batch: Batch) -> Tensor:
        """Return the scalar penalty for losses (B, T)."""
        self.propose("step", self.step + 1)
        own: IRMOptions | RExOptions = getattr(self.options, self.options.penalty)
        strength = torch.where(self.step < own.anneal_steps, 1.0, own.strength)
        return strength * self.of_tasks(losses, environments(batch, self.tables), batch).sum()

    def of_tasks(self, losses: Tensor, values: Tensor, batch: Batch) -> Tensor:
        """Return the penalty of each task, (T,)."""
        raise NotImplementedError


class IRM(Penalty):
    """IRMv1 (Arjovsky et al. 2019), with the unbiased estimate of DomainBed.

    The penalty of an environment is the squared derivative of its mean loss by a factor s on the
    logits, at s = 1. The derivative of one example is sum_k r_k f_k, with r the residual: no second
    derivative is needed. Even and odd rows of an environment give two estimates whose product has
    no bias (and can be negative). An environment with one row does not count.
    """

    def of_tasks(self, losses: Tensor, values: Tensor, batch: Batch) -> Tensor:
        layout = self.tables.layout
        products = layout.residuals(batch.logits, batch.labels) * batch.logits.float()
        slopes = torch.stack([products[:, place].sum(1) for place in layout.columns], 1)
        members = cells(values, self.num_values)  # (B, T, A)
        odd = (members.cumsum(0) % 2 == 0) * members  # every second row of an environment
        halves = []
        for half in (members - odd, odd):
            size = half.sum(0)  # (T, A)
            halves.append((half * slopes[..., None]).sum(0) / size.clamp(min=1))
        counts = members.sum(0) >= 2  # (T, A)
        return (halves[0] * halves[1] * counts).sum(1) / counts.sum(1).clamp(min=1)


class REx(Penalty):
    """V-REx (Krueger et al. 2021): the variance of the environments' mean losses."""

    def of_tasks(self, losses: Tensor, values: Tensor, batch: Batch) -> Tensor:
        means, sizes = group_means(losses, None, values, self.num_values)  # (T, A)
        present = sizes > 0
        count = present.sum(1, keepdim=True).clamp(min=1)
        deviation = (means - means.sum(1, keepdim=True) / count) * present
        return (deviation**2).sum(1) / count[:, 0]


PENALTIES = {"irm": IRM, "rex": REx}
