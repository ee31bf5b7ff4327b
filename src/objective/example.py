"""Layer 1: logits to the losses and weights of each example and task."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from src.objective.batch import Batch, TrainTables, look_up
from src.objective.layer import TableLayer
from src.objective.options import LevelWeights, ObjectiveOptions

# ---------------------------------------------------------------------------- losses


class CrossEntropy(TableLayer):
    """Cross-entropy; binary tasks have one logit, see src/objective/logits.py."""

    def forward(self, batch: Batch) -> Tensor:
        """Return losses (B, T)."""
        return self.tables.layout.losses(batch.logits, batch.labels)


class Focal(CrossEntropy):
    """Focal loss (Lin et al. 2017): (1 - p) ** gamma times the cross-entropy.

    p is the probability of the true class; the gradient flows through the factor, too.
    """

    def forward(self, batch: Batch) -> Tensor:
        losses = super().forward(batch)
        return (1 - torch.exp(-losses)) ** self.options.focal.gamma * losses


class LDAM(TableLayer):
    """LDAM (Cao et al. 2019): the true class needs a margin D_y ~ n_y ** (-1/4).

    For one logit f: f' = s (f - D_1) if y = 1, else s (f + D_0), then the cross-entropy. The
    largest D is `max_margin`. As in the authors' code the head is a cosine classifier, without
    which the scale s = 30 saturates at once. With DRW, classes are weighed by effective numbers
    from an epoch on.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        own, n = options.ldam, tables.class_counts.double()  # (T, K)
        rarity = torch.where(n > 0, n**-0.25, 0.0)
        self.margins = (own.max_margin * rarity / rarity.amax(1, keepdim=True)).float()
        by_number = LevelWeights(scheme="effective", beta=own.beta)
        self.class_weights = level_weights(tables.class_counts, by_number)
        self.register_buffer("reweighs", torch.tensor(False))

    def start_epoch(self, epoch: int) -> None:
        first = self.options.ldam.drw_from_epoch
        self.reweighs.fill_(first is not None and epoch >= first)

    def forward(self, batch: Batch) -> Tensor:
        scale = self.options.ldam.scale
        margin = scale * look_up(self.margins, batch.labels)
        losses = self.tables.layout.losses(batch.logits, batch.labels, scale, margin)
        weights = look_up(self.class_weights, batch.labels)
        return torch.where(self.reweighs, weights, 1.0) * losses


class VS(TableLayer):
    """Vector-scaling loss (Kini et al. 2021): log(1 + exp(iota - Delta m)), m the margin.

    Delta = (n / n_max) ** gamma and iota = -tau log(n / N) of the example's group or class. For one
    logit, m = (2y - 1) f. The official code for groups subtracts iota from both logits, where
    softmax cancels it; only its Delta acts. Here tau = 0 gives that.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.by_group = options.vs.level == "group"
        n = (tables.group_counts if self.by_group else tables.class_counts).double()
        shares = n / n.sum(1, keepdim=True)
        self.scale = ((n / n.amax(1, keepdim=True)) ** options.vs.gamma).float()
        self.margin = torch.where(n > 0, -options.vs.tau * torch.log(shares), 0.0).float()

    def forward(self, batch: Batch) -> Tensor:
        levels = batch.groups if self.by_group else batch.labels
        scale = torch.where(levels >= 0, look_up(self.scale, levels), 1.0)
        margin = look_up(self.margin, levels)
        return self.tables.layout.losses(batch.logits, batch.labels, scale, margin)


# ---------------------------------------------------------------------------- shifts


class ClassShift(TableLayer):
    """Balanced softmax and logit adjustment (Ren et al. 2020, Menon et al. 2021), in training.

    f' = f + tau log(n_1 / n_0); a task of K > 2 classes adds tau log n_k to each logit.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        counts = zip(tables.class_counts, tables.layout.num_classes)
        shifts = [log_odds(own[:classes]) for own, classes in counts]
        self.shift = (options.class_shift.tau * torch.cat(shifts)).float()  # (C,)

    def forward(self, batch: Batch) -> Batch:
        """Return the batch with shifted logits (B, C)."""
        return replace(batch, logits=batch.logits + self.shift)


class GroupShift(TableLayer):
    """Logit adjustment within each attribute value a: f' = f + tau log(n_(1,a) / n_(0,a)).

    The attribute is needed in training only. A group without examples counts as one more of each of
    its attribute value's groups. An unknown group is not shifted.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        shifts = []
        for counts, groups, classes in zip(
            tables.group_counts, tables.num_groups, tables.layout.num_classes
        ):
            own = counts[:groups].view(classes, -1).T  # (A, K)
            occurs = own.sum(0) > 0  # (K,)
            empty = ((own == 0) & occurs).any(1, keepdim=True)  # (A, 1)
            of_group = log_odds(own + empty * occurs).T.repeat(1, classes)  # (1 or K, groups)
            shifts.append(pad(of_group, (0, counts.numel() + 1 - groups)))
        # (C, G + 1): the last column is that of the unknown group, -1.
        self.table = (options.group_shift.tau * torch.cat(shifts)).float()

    def forward(self, batch: Batch) -> Batch:
        """Return the batch with shifted logits (B, C)."""
        pairs = zip(self.tables.layout.columns, batch.groups.T)
        parts = [self.table[columns][:, groups].T for columns, groups in pairs]
        return replace(batch, logits=batch.logits + torch.cat(parts, 1))


def log_odds(counts: Tensor) -> Tensor:
    """Return what counts (..., K) add to a task's logits: log n_1/n_0, or for K > 2 all log n_k."""
    logs = torch.log(counts.double().clamp(min=1e-12))
    return logs[..., 1:] - logs[..., :1] if logs.shape[-1] == 2 else logs


# ---------------------------------------------------------------------------- weights


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


class ClassWeights(TableLayer):
    """Weights by class; the mean is over the batch, not over the sum of weights."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.table = level_weights(tables.class_counts, options.class_weights)  # (T, K)

    def forward(self, batch: Batch) -> Tensor:
        """Return weights (B, T)."""
        return look_up(self.table, batch.labels)


class GroupWeights(TableLayer):
    """Weights by group, each task with its own; an example of unknown group has weight 0.

    Unlike drawing by group (RWG), tasks do not have to agree on one weight per example.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.table = level_weights(tables.group_counts, options.group_weights)  # (T, G)

    def forward(self, batch: Batch) -> Tensor:
        """Return weights (B, T)."""
        return look_up(self.table, batch.groups)


LOSSES = {"bce": CrossEntropy, "focal": Focal, "ldam": LDAM, "vs": VS}
SHIFTS = {"class_shift": ClassShift, "group_shift": GroupShift}
WEIGHTS = {"class_weights": ClassWeights, "group_weights": GroupWeights}
