"""Layer 2 over groups: their mean, the worst one, group DRO, CVaR over groups."""

import torch
from torch import Tensor

from src.objective.batch import Batch, TrainTables, cells
from src.objective.layer import Layer, TableLayer
from src.objective.options import ObjectiveOptions


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


def environments(batch: Batch, tables: TrainTables) -> Tensor:
    """Return the attribute value of each example and task, (B, T); -1 = unknown.

    An attribute value is an environment in the sense of IRM.
    """
    columns = zip(batch.groups.T, tables.num_groups, tables.layout.num_classes)
    values = torch.stack([groups % (count // k) for groups, count, k in columns], 1)
    return torch.where(batch.groups >= 0, values, -1)


class GroupMean(TableLayer):
    """The mean over the groups that are present in the batch."""

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        size = self.tables.group_counts.shape[1]
        means, sizes = group_means(losses, weights, self.levels(batch), size)  # (T, G)
        return means.sum(1) / (sizes > 0).sum(1).clamp(min=1)

    def levels(self, batch: Batch) -> Tensor:
        return batch.groups


class EnvironmentMean(GroupMean):
    """The mean over the attribute values that are present in the batch, as in IRM and V-REx."""

    def levels(self, batch: Batch) -> Tensor:
        return environments(batch, self.tables)


class WorstGroup(TableLayer):
    """The loss of the worst group of the batch: group DRO with an infinite step size."""

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        size = self.tables.group_counts.shape[1]
        means, sizes = group_means(losses, weights, batch.groups, size)
        return torch.where(sizes > 0, means, -torch.inf).amax(1).clamp(min=0)


class GroupDRO(TableLayer):
    """Group DRO (Sagawa et al. 2020, algorithm 1): S_t = sum_g q_tg L_tg.

    The group weights q follow the losses: q_g <- q_g exp(eta A_g), normalised, with A_g = L_g +
    C/sqrt(n_g). They are used at once, have no gradient, and are never reset. C/sqrt(n_g) only
    moves q. As in the authors' code, a group that is absent from the batch has L_g = 0 in A_g. q is
    kept as a logarithm, which cannot underflow.

    For several tasks each has its own q (`per_task`), or one q covers the groups of all tasks
    (`joint`): then S_t = T sum_g q_tg L_tg, so that a plain sum over tasks has the usual scale.

    With reference losses b (T, G) q follows L_g - b_g, so that noisy labels or hard tasks do not
    attract all weight; S_t stays the same.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.dro = options.dro
        counts = tables.group_counts  # (T, G)
        exists = counts > 0
        size = exists.sum(1, keepdim=True) if self._per_task else exists.sum()
        self.exists, self.root = exists, counts.clamp(min=1).sqrt()
        self.register_buffer("adjustment", self.dro.adjustment * exists)  # C (T, G)
        self.add_state("log_q", torch.where(exists, -torch.log(size.float()), -torch.inf))
        self.history = GroupHistory(counts.shape, self.dro.gamma)

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        means, sizes = group_means(losses, weights, batch.groups, self.log_q.shape[1])  # (T, G)
        if self.dro.automatic_adjustment:
            self.history(means.detach(), sizes > 0)
        # The authors add C/sqrt(n) only if all C are positive.
        positive = ((self.adjustment > 0) | ~self.exists).all()
        signal = means.detach() + torch.where(positive, self.adjustment / self.root, 0.0)
        if self.tables.reference is not None:
            signal = signal - torch.where(sizes > 0, self.tables.reference, 0.0)
        if self.dro.normalize:
            total = signal.sum(1, keepdim=True) if self._per_task else signal.sum()
            signal = signal / total.clamp(min=1e-12)
        log_q = self.log_q + self.dro.eta * signal
        total = log_q.logsumexp(1, keepdim=True) if self._per_task else log_q.logsumexp((0, 1))
        q = self.propose("log_q", log_q - total).exp()
        scale = 1 if self._per_task else len(q)
        return scale * (q * means).sum(1)

    @property
    def _per_task(self) -> bool:
        return self.dro.scope == "per_task"

    def end_epoch(self, val_losses: Tensor) -> None:
        """Set C to the generalisation gap: (validation loss - mean train loss) sqrt(n)."""
        if self.dro.automatic_adjustment:
            gap = (val_losses.to(self.root) - self.history.means) * self.root
            self.adjustment.copy_(torch.where(self.exists & torch.isfinite(gap), gap, 0.0))

    @property
    def log_names(self) -> list[str]:
        pairs = zip(self.tables.tasks, self.tables.num_groups)
        return [f"{task}/q{group}" for task, groups in pairs for group in range(groups)]

    def logged(self) -> Tensor:
        rows = zip(self.log_q_proposed.exp(), self.tables.num_groups)
        return torch.cat([q[:groups] for q, groups in rows])


class GroupHistory(Layer):
    """Running means of the group losses; a group's first loss starts its mean."""

    def __init__(self, shape: tuple[int, int], gamma: float):
        super().__init__()
        self.gamma = gamma
        self.add_state("means", torch.zeros(shape))  # (T, G)
        self.add_state("seen", torch.zeros(shape, dtype=torch.bool))

    def forward(self, means: Tensor, present: Tensor) -> Tensor:
        """Return the means after this batch; both arguments are (T, G)."""
        moved = torch.where(self.seen, (1 - self.gamma) * self.means + self.gamma * means, means)
        self.propose("seen", self.seen | present)
        return self.propose("means", torch.where(present, moved, self.means))


class CVaRGroups(TableLayer):
    """CVaR over groups (`btl` in the code of Sagawa et al. 2020).

    The groups with the largest mean losses, down to a share alpha of all train examples, weigh
    pi_g / alpha; the last of them gets what is missing to 1.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.cvar, counts = options.cvar_groups, tables.group_counts
        self.shares = (counts / counts.sum(1, keepdim=True)).float()  # pi (T, G)
        self.shift = self.cvar.adjustment / counts.clamp(min=1).sqrt()
        self.history = GroupHistory(counts.shape, self.cvar.gamma)

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        means, sizes = group_means(losses, weights, batch.groups, self.shares.shape[1])
        ranks = self.history(means.detach(), sizes > 0) + self.shift
        ranks = torch.where(self.shares > 0, ranks, -torch.inf)
        order = ranks.argsort(dim=1, descending=True, stable=True)
        share = self.shares.gather(1, order) / self.cvar.alpha
        taken = share.cumsum(1) - share  # by the groups before
        sorted_weights = torch.minimum(share, (1 - taken).clamp(min=0))
        q = torch.zeros_like(share).scatter(1, order, sorted_weights)
        least = self.cvar.minimum_weight
        q = least * self.shares + (1 - least) * q
        return (q * means).sum(1)
