"""Layer 2: the losses of the examples to one number per task."""

import torch
from torch import Tensor

from src.objective.batch import Batch, TrainTables, cells
from src.objective.options import ObjectiveOptions
from src.objective.state import Layer


class Mean(Layer):
    """The mean over the labelled examples of the batch: sum(w l) / number of labels."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables, tasks: list[str]):
        super().__init__()
        self.all_labelled = tables.all_labelled

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        """Return S (T,) of losses (B, T) and weights (B, T), None for all 1."""
        if weights is not None:
            losses = weights * losses
        if self.all_labelled:
            return losses.mean(dim=0)
        known = batch.labels >= 0  # (B, T)
        return (losses * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)


def group_means(
    losses: Tensor, weights: Tensor | None, groups: Tensor, num_groups: int
) -> tuple[Tensor, Tensor]:
    """Return the weighted mean loss of each task's groups, and the sum of weights; both (T, G).

    A group that is absent from the batch has loss 0 and weight 0.
    """
    members = cells(groups, num_groups)  # (B, T, G)
    if weights is not None:
        members = members * weights[..., None]
    size = members.sum(0)  # (T, G)
    total = (members * losses[..., None]).sum(0)
    return total / torch.where(size > 0, size, 1.0), size


class GroupDRO(Layer):
    """Group DRO (Sagawa et al. 2020, algorithm 1): S_t = sum_g q_tg L_tg.

    The group weights q follow the losses: q_g <- q_g exp(eta A_g), normalised, with A_g = L_g +
    C/sqrt(n_g). They are used at once, have no gradient, and are never reset. C/sqrt(n_g) only
    moves q. As in the authors' code, a group that is absent from the batch counts with A_g =
    C/sqrt(n_g). q is kept as a logarithm, which cannot underflow.

    For several tasks each has its own q (`per_task`), or one q covers the groups of all tasks
    (`joint`): then S_t = T sum_g q_tg L_tg, so that a plain sum over tasks has the usual scale.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables, tasks: list[str]):
        super().__init__()
        self.options = options.dro
        counts = tables.group_counts  # (T, G)
        exists = counts > 0
        size = exists.sum(1, keepdim=True) if self.options.scope == "per_task" else exists.sum()
        start = torch.where(exists, -torch.log(size.float()), -torch.inf)
        shift = self.options.adjustment / counts.clamp(min=1).sqrt()
        self.register_buffer("shift", shift * exists, persistent=False)
        self.add_state("log_q", start)  # (T, G)
        self.tasks, self.num_groups = tasks, tables.num_groups

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        """Return S (T,) of losses (B, T) and weights (B, T)."""
        means, _ = group_means(losses, weights, batch.groups, self.log_q.shape[1])  # (T, G)
        signal = means.detach() + self.shift
        if self.options.normalize:
            total = signal.sum(1, keepdim=True) if self._per_task else signal.sum()
            signal = signal / total.clamp(min=1e-12)
        log_q = self.log_q + self.options.eta * signal
        total = (
            torch.logsumexp(log_q, 1, keepdim=True) if self._per_task else log_q.logsumexp((0, 1))
        )
        q = self.propose("log_q", log_q - total).exp()
        scale = 1 if self._per_task else len(q)
        return scale * (q * means).sum(1)

    @property
    def _per_task(self) -> bool:
        return self.options.scope == "per_task"

    @property
    def log_names(self) -> list[str]:
        pairs = zip(self.tasks, self.num_groups)
        return [f"{task}/q{group}" for task, groups in pairs for group in range(groups)]

    def logged(self) -> Tensor:
        rows = zip(self.log_q_proposed.exp(), self.num_groups)
        return torch.cat([q[:groups] for q, groups in rows])


TASK_LAYERS = {"mean": Mean, "dro": GroupDRO}
