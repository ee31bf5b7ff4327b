"""From per-task losses to the one scalar that is minimised."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

# A first loss near zero would make the ratio of losses explode.
SMALLEST_FIRST_LOSS = 1e-3


def task_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean binary cross-entropy per task: logits (B, T) and labels (B, T) to losses (T,) fp32."""
    losses = binary_cross_entropy_with_logits(
        logits.float(), labels.float(), reduction="none"
    )  # (B, T)
    return losses.mean(dim=0)  # (T,)


def build_objective(
    num_tasks: int, weights: list[float] | None, lbtw_alpha: float | None, device: torch.device
) -> "StaticWeights | LossBalancedTaskWeighting":
    """LBTW where an alpha is given, else fixed weights; None weighs every task by 1."""
    if lbtw_alpha is not None:
        return LossBalancedTaskWeighting(num_tasks, lbtw_alpha, device)
    return StaticWeights(weights or [1.0] * num_tasks, device)


class StaticWeights:
    """sum_t w_t * L_t with fixed weights."""

    def __init__(self, weights: list[float], device: torch.device):
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)  # (T,)

    def start_epoch(self) -> None:
        pass

    def __call__(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (T,) to (scalar objective, weights (T,) that were used)."""
        return (self.weights * losses).sum(), self.weights

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        pass


class LossBalancedTaskWeighting:
    """LBTW (Liu, Liang and Gitter, AAAI 2019): w_t = (L_t / L0_t) ** alpha, without gradient.

    L0_t is the loss of the first batch of the current epoch, as in the authors' code (their paper
    says the first batch of training). The weights are not rescaled to sum to T, as in the system
    this one follows; the authors' code rescales them.
    """

    def __init__(self, num_tasks: int, alpha: float, device: torch.device):
        self.alpha = alpha
        # One tensor for good, filled in place, so that a captured step keeps its address.
        self.first = torch.zeros(num_tasks, device=device)  # (T,); 0 means: not seen yet

    def start_epoch(self) -> None:
        self.first.zero_()

    def __call__(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Losses (T,) to (scalar objective, weights (T,) that were used)."""
        current = losses.detach()
        start = current.clamp(min=SMALLEST_FIRST_LOSS)
        self.first.copy_(torch.where(self.first == 0, start, self.first))
        weights = (current / self.first) ** self.alpha
        return (weights * losses).sum(), weights

    def state_dict(self) -> dict[str, Tensor]:
        return {"first": self.first}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.first.copy_(state["first"])
