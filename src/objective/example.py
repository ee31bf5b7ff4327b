"""Layer 1: logits to the losses and weights of each example and task."""

from dataclasses import replace

import torch
from torch import Tensor

from src.objective.batch import Batch, TrainTables, look_up
from src.objective.layer import Layer
from src.objective.options import LevelWeights, ObjectiveOptions

# ---------------------------------------------------------------------------- losses


class CrossEntropy(Layer):
    """Cross-entropy; binary tasks have one logit, see src/objective/logits.py."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        self.layout = tables.layout

    def forward(self, batch: Batch) -> Tensor:
        """Return losses (B, T)."""
        return self.layout.losses(batch.logits, batch.labels)


class Focal(CrossEntropy):
    """Focal loss (Lin et al. 2017): (1 - p) ** gamma times the cross-entropy.

    p is the probability of the true class; the gradient flows through the factor, too.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.gamma = options.focal.gamma

    def forward(self, batch: Batch) -> Tensor:
        losses = super().forward(batch)
        return (1 - torch.exp(-losses)) ** self.gamma * losses


class LDAM(CrossEntropy):
    """LDAM (Cao et al. 2019): the true class needs a margin D_y ~ n_y ** (-1/4).

    For one logit f: f' = s (f - D_1) if y = 1, else s (f + D_0), then the cross-entropy. The
    largest D is `max_margin`. As in the authors' code the head is a cosine classifier, without
    which the scale s = 30 saturates at once. With DRW, classes are weighed by effective numbers
    from an epoch on.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__(options, tables)
        self.options = options.ldam
        n = tables.class_counts.double()  # (T, K)
        rarity = torch.where(n > 0, n**-0.25, 0.0)
        margins = self.options.max_margin * rarity / rarity.amax(1, keepdim=True)
        self.register_buffer("margins", margins.float(), persistent=False)
        by_number = LevelWeights(scheme="effective", beta=self.options.beta)
        weights = level_weights(tables.class_counts, by_number)
        self.register_buffer("class_weights", weights, persistent=False)
        self.register_buffer("reweighs", torch.tensor(False))

    def start_epoch(self, epoch: int) -> None:
        first = self.options.drw_from_epoch
        self.reweighs.fill_(first is not None and epoch >= first)

    def forward(self, batch: Batch) -> Tensor:
        margin = self.options.scale * look_up(self.margins, batch.labels)
        losses = self.layout.losses(
            *(batch.logits, batch.labels), scale=self.options.scale, margin=margin
        )
        weights = look_up(self.class_weights, batch.labels)
        return torch.where(self.reweighs, weights, 1.0) * losses


class VS(CrossEntropy):
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
        scale = (n / n.amax(1, keepdim=True)) ** options.vs.gamma
        margin = torch.where(n > 0, -options.vs.tau * torch.log(shares), 0.0)
        self.register_buffer("scale", scale.float(), persistent=False)
        self.register_buffer("margin", margin.float(), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        levels = batch.groups if self.by_group else batch.labels
        return self.layout.losses(
            *(batch.logits, batch.labels),
            scale=torch.where(levels >= 0, look_up(self.scale, levels), 1.0),
            margin=look_up(self.margin, levels),
        )


# ---------------------------------------------------------------------------- shifts


class ClassShift(Layer):
    """Balanced softmax and logit adjustment (Ren et al. 2020, Menon et al. 2021), in training.

    f' = f + tau log(n_1 / n_0); a task of K > 2 classes adds tau log n_k to each logit.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        priors = tables.class_counts[:, None].double()  # (T, 1, K)
        self.register_buffer(
            "table", shift_table(priors, tables, options.class_shift.tau), persistent=False
        )

    def forward(self, batch: Batch) -> Batch:
        """Return the batch with shifted logits (B, C)."""
        return replace(batch, logits=batch.logits + self.table[:, 0])


class GroupShift(Layer):
    """Logit adjustment within each attribute value a: f' = f + tau log(n_(1,a) / n_(0,a)).

    The attribute is needed in training only. A group without examples counts as one more of each of
    its attribute value's groups.
    """

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        self.num_values = [
            groups // classes
            for groups, classes in zip(tables.num_groups, tables.layout.num_classes)
        ]
        priors = torch.ones(
            tables.num_tasks, max(self.num_values), max(tables.layout.num_classes)
        ).double()
        for task, (counts, values) in enumerate(zip(tables.group_counts, self.num_values)):
            classes = tables.layout.num_classes[task]
            table = counts[: classes * values].view(classes, values).T.double()  # (A, K)
            occurs = table.sum(0) > 0  # (K,)
            empty = ((table == 0) & occurs).any(1, keepdim=True)  # (A, 1)
            priors[task, :values, :classes] = table + empty * occurs
        tau = options.group_shift.tau
        self.register_buffer("table", shift_table(priors, tables, tau), persistent=False)
        self.columns = tables.layout.columns

    def forward(self, batch: Batch) -> Batch:
        """Return the batch with shifted logits (B, C); an unknown group is not shifted."""
        parts = []
        for task, columns in enumerate(self.columns):
            groups = batch.groups[:, task]  # (B,)
            values = groups.clamp(min=0) % self.num_values[task]
            shift = self.table[columns].T[values]  # (B, columns of the task)
            parts.append(shift * (groups >= 0)[:, None])
        return replace(batch, logits=batch.logits + torch.cat(parts, 1))


def shift_table(priors: Tensor, tables: TrainTables, tau: float) -> Tensor:
    """Return what each attribute value adds to each logit, (C, A), from priors (T, A, K)."""
    rows = []
    for logs, classes in zip(torch.log(priors.clamp(min=1e-12)), tables.layout.num_classes):
        if classes == 2:
            rows.append((logs[:, 1] - logs[:, 0])[None])
        else:
            rows.append(logs[:, :classes].T)
    return (tau * torch.cat(rows)).float()


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


class ClassWeights(Layer):
    """Weights by class; the mean is over the batch, not over the sum of weights."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        self.register_buffer("table", self.weights(options, tables), persistent=False)  # (T, L)

    def weights(self, options: ObjectiveOptions, tables: TrainTables) -> Tensor:
        return level_weights(tables.class_counts, options.class_weights)

    def forward(self, batch: Batch) -> Tensor:
        """Return weights (B, T)."""
        return look_up(self.table, batch.labels)


class GroupWeights(ClassWeights):
    """Weights by group, each task with its own; an example of unknown group has weight 0.

    Unlike drawing by group (RWG), tasks do not have to agree on one weight per example.
    """

    def weights(self, options: ObjectiveOptions, tables: TrainTables) -> Tensor:
        return level_weights(tables.group_counts, options.group_weights)

    def forward(self, batch: Batch) -> Tensor:
        return look_up(self.table, batch.groups)


LOSSES = {"bce": CrossEntropy, "focal": Focal, "ldam": LDAM, "vs": VS}
SHIFTS = {"class_shift": ClassShift, "group_shift": GroupShift}
WEIGHTS = {"class_weights": ClassWeights, "group_weights": GroupWeights}
