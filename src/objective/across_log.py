"""Layer 3 with logarithms and exponentials of the tasks' numbers S_t.

A task without a label in the batch has S_t = 0; these layers leave it out.
"""

import torch
from torch import Tensor

from src.objective.layer import AcrossLayer, EpochMeans, Layer, is_present
from src.objective.options import FAMOOptions, ObjectiveOptions

SMALLEST_LOSS = 1e-8  # of logarithms and ratios


def log_losses(scalars: Tensor) -> tuple[Tensor, Tensor]:
    """Return log S_t, 0 for tasks without a loss, and which tasks have one (T,)."""
    present = is_present(scalars)
    return torch.where(present, scalars.clamp(min=SMALLEST_LOSS).log(), 0.0), present


def inverse(scalars: Tensor, present: Tensor) -> Tensor:
    """Return 1 / S_t without gradient, 0 for tasks without a loss."""
    return torch.where(present, 1 / scalars.detach().clamp(min=SMALLEST_LOSS), 0.0)


class GeometricLoss(AcrossLayer):
    """GLS (Chennupati et al. 2019): the geometric mean of S."""

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        logs, present = log_losses(scalars)
        count = present.sum().clamp(min=1)
        total = torch.exp(logs.sum() / count)
        return total, total.detach() * inverse(scalars, present) / count


class LogLoss(AcrossLayer):
    """sum_t log S_t: the scale of a task's loss has no effect."""

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        logs, present = log_losses(scalars)
        return logs.sum(), inverse(scalars, present)


class SmoothTchebycheff(AcrossLayer):
    """STCH (Lin et al. 2024): mu log sum_t exp(S_t / (mu r_t)), with r_t = 1.

    With warmup_epochs, sum log S is minimised in these epochs, and r_t is the mean of S_t over the
    last of them, as in LibMTL.
    """

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.epoch_means = EpochMeans(self.num_tasks)
        self.register_buffer("reference", torch.ones(self.num_tasks))
        self.register_buffer("warm", torch.tensor(options.stch.warmup_epochs == 0))

    def start_epoch(self, epoch: int) -> None:
        mean = self.epoch_means.restart(self.reference)
        warmup = self.options.stch.warmup_epochs
        if epoch == warmup + 1:
            self.reference.copy_(mean.clamp(min=SMALLEST_LOSS))
        self.warm.fill_(epoch > warmup)

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        self.epoch_means(scalars)
        logs, present = log_losses(scalars)
        mu = self.options.stch.mu
        scaled = scalars / (mu * self.reference)
        scaled = torch.where(present | ~present.any(), scaled, -torch.inf)
        total = torch.where(self.warm, mu * scaled.logsumexp(0), logs.sum())
        smooth = scaled.detach().softmax(0) / self.reference
        return total, torch.where(self.warm, smooth, inverse(scalars, present))


class FAMO(AcrossLayer):
    """FAMO (Liu et al. 2023): c sum_t z_t log S_t, with z = softmax(xi) and c = 1 / sum(z / S).

    After the step, xi follows how much each log S_t fell. By default a second forward pass in
    training mode measures S_t again; it moves no batch-norm statistics (in the authors' code it
    does). With `next_batch` the next batch's S_t is used instead: no cost, more noise.
    """

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.next_batch = options.famo.next_batch
        self.looks_again = not self.next_batch
        self.learner = FAMOWeights(options.famo, self.num_tasks)
        self.add_state("log_before", torch.zeros(self.num_tasks))
        self.add_state("seen", torch.zeros(self.num_tasks, dtype=torch.bool))

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        logs, present = log_losses(scalars)
        now = logs.detach()
        xi = self._learn(now, present) if self.next_batch else self.learner.xi
        self.propose("log_before", torch.where(present, now, self.log_before))
        self.propose("seen", self.seen | present)
        z = xi.softmax(0)
        ratios = z * inverse(scalars, present)
        c = 1 / ratios.sum().clamp(min=SMALLEST_LOSS)
        return c * (z * logs).sum(), c * ratios

    def observe(self, scalars: Tensor, finite: Tensor) -> None:
        self._learn(*log_losses(scalars))
        self.learner.commit(finite & torch.isfinite(scalars).all())

    def _learn(self, logs: Tensor, present: Tensor) -> Tensor:
        both = present & self.seen
        fall = torch.where(both, self.log_before - logs, 0.0)
        return self.learner(fall, both)


class FAMOWeights(Layer):
    """The logits xi (T,) of FAMO's weights, learnt by Adam with weight decay in the gradient."""

    def __init__(self, options: FAMOOptions, num_tasks: int):
        super().__init__()
        self.options = options
        for name in ("xi", "moment", "square"):
            self.add_state(name, torch.zeros(num_tasks))
        self.add_state("count", torch.zeros(num_tasks))

    def forward(self, fall: Tensor, learns: Tensor) -> Tensor:
        """Return xi after a step.

        Args:
            fall: (T,), how much each log S_t fell.
            learns: (T,) bool, whether this is known; the xi of other tasks stays.
        """
        z = torch.where(learns | ~learns.any(), self.xi, -torch.inf).softmax(0)
        gradient = z * (fall - (z * fall).sum()) + self.options.weight_decay * self.xi
        moment = torch.where(learns, 0.9 * self.moment + 0.1 * gradient, self.moment)
        square = torch.where(learns, 0.999 * self.square + 0.001 * gradient**2, self.square)
        self.propose("moment", moment)
        self.propose("square", square)
        count = self.propose("count", self.count + learns)
        step = (moment / (1 - 0.9**count)) / ((square / (1 - 0.999**count)).sqrt() + 1e-8)
        return self.propose("xi", torch.where(learns, self.xi - self.options.lr * step, self.xi))
