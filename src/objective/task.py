"""Layer 2: the losses of the examples to one number per task."""

import torch
from torch import Tensor

from src.objective.batch import Batch
from src.objective.groups import CVaRGroups, EnvironmentMean, GroupDRO, GroupMean, WorstGroup
from src.objective.layer import TableLayer


class Mean(TableLayer):
    """The mean over the labelled examples of the batch: sum(w l) / number of labels."""

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        if weights is not None:
            losses = weights * losses
        if self.tables.all_labelled:
            return losses.mean(dim=0)
        known = batch.labels >= 0  # (B, T)
        return (losses * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)


class CVaR(TableLayer):
    """CVaR-DRO (Levy et al. 2020): the mean of the largest losses, a share alpha of the batch.

    Of m examples the k = floor(alpha m) largest weigh 1/(alpha m), the next one 1 - k/(alpha m).
    The weights have no gradient.
    """

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        losses = losses if weights is None else weights * losses
        known = batch.labels >= 0  # (B, T)
        losses = losses * known
        if self.options.cvar.unit == "example":
            ranked, known = losses.sum(1, keepdim=True), known.any(1, keepdim=True)
        else:
            ranked = losses
        order = torch.where(known, ranked.detach(), -torch.inf).argsort(0, descending=True)
        count = (self.options.cvar.alpha * known.sum(0)).clamp(min=1e-12)  # alpha m
        places = torch.arange(len(losses), device=losses.device)[:, None]
        by_rank = (count - places).clamp(0, 1) / count
        p = torch.zeros_like(by_rank.expand_as(ranked)).scatter(0, order, by_rank)
        return (p * losses).sum(0)


class Chi2(TableLayer):
    """Chi-square DRO (Levy et al. 2020): the worst weights p with mean((m p - 1)^2) / 2 = rho.

    p_i = relu(l_i - eta) / sum, with eta found by 60 halvings, so that no step waits for the
    device. The weights have no gradient.
    """

    HALVINGS = 60

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        losses = losses if weights is None else weights * losses
        known = batch.labels >= 0
        p = self.worst_weights(losses.detach().double(), known)
        return (p.float() * losses * known).sum(0)

    def worst_weights(self, losses: Tensor, known: Tensor) -> Tensor:
        """Return p (B, T) for losses (B, T) >= 0."""
        count = known.sum(0).clamp(min=1)  # m (T,)
        largest = torch.where(known, losses, -torch.inf).amax(0)
        smallest = torch.where(known, losses, torch.inf).amin(0)
        rho = self.options.chi2.rho
        low = -largest / ((2 * rho + 1) ** 0.5 - 1)
        high = largest.clone()
        for _ in range(self.HALVINGS):
            middle = (low + high) / 2
            p = self._normalised((losses - middle).clamp(min=0) * known)
            divergence = (((count * p - 1) ** 2) * known).sum(0) / (2 * count)
            too_far = divergence > rho
            low, high = torch.where(too_far, low, middle), torch.where(too_far, middle, high)
        p = self._normalised((losses - low).clamp(min=0) * known)
        top = (losses == largest) & known  # the ball may hold all weight on the largest losses
        inside = count <= top.sum(0) * (1 + 2 * rho)
        p = torch.where(inside, self._normalised(top.double()), p)
        flat = largest - smallest <= 1e-5 * largest
        return torch.where(flat, known / count, p)

    @staticmethod
    def _normalised(weights: Tensor) -> Tensor:
        return weights / weights.sum(0).clamp(min=1e-300)


TASK_LAYERS = {
    "mean": Mean,
    "group_mean": GroupMean,
    "environment_mean": EnvironmentMean,
    "worst": WorstGroup,
    "dro": GroupDRO,
    "cvar_groups": CVaRGroups,
    "cvar": CVaR,
    "chi2": Chi2,
}
