"""Layer 3: the numbers of the tasks to the one scalar that is minimised."""

import torch
from torch import Tensor

from src.objective.layer import Layer
from src.objective.options import ObjectiveOptions

# A first loss near zero would make the ratio of losses explode.
SMALLEST_FIRST_LOSS = 1e-3


class StaticWeights(Layer):
    """sum_t w_t S_t with fixed weights."""

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights), persistent=False)  # (T,)

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scalar of S (T,), and the weights (T,) that were used."""
        return (self.weights * scalars).sum(), self.weights


class LossBalancedTaskWeighting(Layer):
    """LBTW (Liu, Liang and Gitter, AAAI 2019): w_t = (S_t / S0_t) ** alpha, without gradient.

    S0_t belongs to the first batch of the current epoch, as in the authors' code (the paper says
    the first batch of training). The weights are not rescaled to sum to T; the authors' code does
    that.
    """

    def __init__(self, options: ObjectiveOptions, weights: list[float], alpha: float):
        super().__init__()
        self.alpha = alpha
        self.add_state("first", torch.zeros(len(weights)))  # (T,); 0: not seen in this epoch

    def start_epoch(self, epoch: int) -> None:
        self.first.zero_()

    def forward(self, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scalar of S (T,), and the weights (T,) that were used."""
        current = scalars.detach()
        start = current.clamp(min=SMALLEST_FIRST_LOSS)
        first = self.propose("first", torch.where(self.first == 0, start, self.first))
        weights = (current / first) ** self.alpha
        return (weights * scalars).sum(), weights


ACROSS_LAYERS = {"static": StaticWeights, "lbtw": LossBalancedTaskWeighting}
