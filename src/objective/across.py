"""Layer 3: the numbers of the tasks to the one scalar that is minimised.

These layers minimise weighted sums of the numbers S_t >= 0. Weights have no gradient unless they
are learnt. Layers that take logarithms are in across_log.py.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from src.objective.across_log import FAMO, GeometricLoss, LogLoss, SmoothTchebycheff
from src.objective.layer import AcrossLayer, EpochMeans, is_present
from src.objective.options import ObjectiveOptions
from src.sampling.draws import TASK_STREAM

# A first loss near zero would make the ratio of losses explode.
SMALLEST_FIRST_LOSS = 1e-3


class StaticWeights(AcrossLayer):
    """sum_t w_t S_t with fixed weights."""

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.register_buffer("weights", torch.tensor(weights), persistent=False)  # (T,)

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        return (self.weights * scalars).sum(), self.weights


class LossBalancedTaskWeighting(AcrossLayer):
    """LBTW (Liu, Liang and Gitter, AAAI 2019): w_t = (S_t / S0_t) ** alpha, without gradient.

    S0_t belongs to the first batch of the current epoch, as in the authors' code (the paper says
    the first batch of training). The weights are not rescaled to sum to T; the authors' code does
    that.
    """

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.alpha = alpha
        self.add_state("first", torch.zeros(len(weights)))  # (T,); 0: not seen in this epoch

    def start_epoch(self, epoch: int) -> None:
        self.first.zero_()

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        current = scalars.detach()
        start = current.clamp(min=SMALLEST_FIRST_LOSS)
        starts = (self.first == 0) & is_present(scalars)
        first = self.propose("first", torch.where(starts, start, self.first))
        weights = (current / first.clamp(min=SMALLEST_FIRST_LOSS)) ** self.alpha
        return (weights * scalars).sum(), weights


class LearntWeights(AcrossLayer):
    """A layer with a learnt number s_t per task, from 0."""

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.s = nn.Parameter(torch.zeros(self.num_tasks))

    def price(self, scalars: Tensor) -> Tensor:
        """Return s (T,), 0 for tasks without a label in the batch."""
        return torch.where(is_present(scalars), self.s, 0.0)


class UncertaintyWeighting(LearntWeights):
    """UW (Kendall, Gal and Cipolla 2018): sum_t (exp(-s_t) S_t + s_t) / 2, s learnt from 0.

    The paper has exp(-s) S + s/2 for classification. Both lead to the weight 1 / (2 S_t).
    """

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        weights = 0.5 * torch.exp(-self.s)
        return (weights * scalars + 0.5 * self.price(scalars)).sum(), weights.detach()


class IMTLLoss(LearntWeights):
    """IMTL-L (Liu et al. 2021): sum_t (exp(s_t) S_t - s_t), s learnt from 0."""

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.exp(self.s)
        return (weights * scalars - self.price(scalars)).sum(), weights.detach()


class DynamicWeightAverage(AcrossLayer):
    """DWA (Liu, Johns and Davison 2019): w = T softmax(r / temperature).

    r_t is the ratio of the mean train losses of the last two epochs. The weights of the first two
    epochs are 1.
    """

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.epoch_means = EpochMeans(self.num_tasks)
        self.register_buffer("last", torch.zeros(self.num_tasks))  # mean of the epoch before
        self.register_buffer("weights", torch.ones(self.num_tasks))

    def start_epoch(self, epoch: int) -> None:
        mean = self.epoch_means.restart(self.last)
        if epoch > 2:
            ratio = torch.where(self.last > 0, mean / self.last, 1.0)
            self.weights.copy_(self.num_tasks * (ratio / self.options.dwa.temperature).softmax(0))
        self.last.copy_(mean)

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        self.epoch_means(scalars)
        return (self.weights * scalars).sum(), self.weights


class RandomLossWeighting(AcrossLayer):
    """RLW (Lin et al. 2022): w = T softmax(normal numbers), drawn anew for each step."""

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.register_buffer("weights", torch.ones(self.num_tasks), persistent=False)

    def draw(self, seed: int, step: int) -> None:
        drawn = np.random.default_rng([seed, TASK_STREAM, step]).normal(size=self.num_tasks)
        self.weights.copy_(self.num_tasks * torch.from_numpy(drawn).softmax(0))

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        return (self.weights * scalars).sum(), self.weights


class TaskDRO(AcrossLayer):
    """DRO over tasks: T sum_t p_t S_t, with p <- p exp(eta S), normalised.

    Over `mean` this minimises the worst task, over `dro` the worst group of the worst task. A task
    without a label in the batch keeps its p.
    """

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__(options, weights, alpha)
        self.add_state("log_p", torch.full((self.num_tasks,), -math.log(self.num_tasks)))

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        present = is_present(scalars)
        mass = torch.where(present, self.log_p, -torch.inf).logsumexp(0)
        raised = self.log_p + self.options.task_dro.eta * scalars.detach()
        moved = torch.where(present, raised, -torch.inf)
        log_p = torch.where(present, moved.log_softmax(0) + mass, self.log_p)
        weights = self.num_tasks * self.propose("log_p", log_p).exp()
        return (weights * scalars).sum(), weights


ACROSS_LAYERS: dict[str, type[AcrossLayer]] = {
    "static": StaticWeights,
    "lbtw": LossBalancedTaskWeighting,
    "uw": UncertaintyWeighting,
    "dwa": DynamicWeightAverage,
    "rlw": RandomLossWeighting,
    "gls": GeometricLoss,
    "log": LogLoss,
    "imtl_l": IMTLLoss,
    "stch": SmoothTchebycheff,
    "task_dro": TaskDRO,
    "famo": FAMO,
}
