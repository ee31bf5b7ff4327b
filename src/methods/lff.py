"""LfF (Nam et al. 2020, "Learning from Failure"): a biased network shows what is hard."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from src.models.build import Network
from src.objective.batch import look_up
from src.objective.compose import Objective
from src.training.method import Forward, Loss, Method


class TwoNetworks(Network):
    """The debiased network, with the biased one beside it; only the debiased one predicts."""

    def __init__(self, debiased: Network, biased: Network):
        super().__init__(debiased.backbone, debiased.head)
        self.biased = biased

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C) of the debiased network, in training those of both (2, B, C)."""
        logits = super().forward(images)
        return torch.stack([logits, self.biased(images)]) if self.training else logits


class LfF(Method):
    """Weigh examples by how much harder they are for a network that learns what is easy.

    The biased network minimises q p^q CE (p^q without gradient), q times the gradient of the
    generalised cross-entropy, as in the authors' code. Each network has a running mean E of every
    example's loss. Divided by the largest of its class, they give the weight of an example in the
    debiased network's loss: w = e_b / (e_b + e_d). Needs no group labels. For several tasks the
    means and weights are per task.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        shape = self.tables.labels.shape
        self.add_state("biased_losses", torch.zeros(shape))  # E (N, T)
        self.add_state("debiased_losses", torch.zeros(shape))
        self.add_state("seen", torch.zeros(shape[0], dtype=torch.bool))

    def wrap(self, model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
        return TwoNetworks(model, build())

    def loss(self, network: Forward, objective: Objective, images: Tensor, rows: Tensor) -> Loss:
        debiased, biased = network(images)  # each (B, C)
        layout, batch = self.tables.layout, self.tables.batch(debiased, rows)
        known = batch.labels >= 0  # (B, T)
        biased_losses = layout.losses(biased, batch.labels)  # (B, T)
        debiased_losses = layout.losses(debiased, batch.labels)
        weights = self._weights(biased_losses.detach(), debiased_losses.detach(), batch)
        q = self.options.q
        p = torch.exp(-biased_losses.detach())
        generalised = (q * p**q * biased_losses * known).sum(0) / known.sum(0).clamp(min=1)
        total, logged = objective(batch, weights)
        return total + generalised.sum(), logged

    def _weights(self, biased: Tensor, debiased: Tensor, batch: Any) -> Tensor:
        """Return w (B, T) from the losses (B, T) of both networks."""
        difficulties = []
        for name, losses in (("biased_losses", biased), ("debiased_losses", debiased)):
            before, seen = getattr(self, name), self.seen[batch.positions, None]
            ema = self.options.ema
            mean = torch.where(
                seen, ema * before[batch.positions] + (1 - ema) * losses, losses
            )  # (B, T)
            means = self.propose(name, before.index_copy(0, batch.positions, mean))
            largest = self._largest_of_classes(means)  # (T, K)
            difficulties.append(mean / look_up(largest, batch.labels).clamp(min=1e-12))
        self.propose("seen", self.seen.index_fill(0, batch.positions, True))
        hard_for_biased, hard_for_debiased = difficulties
        return hard_for_biased / (hard_for_biased + hard_for_debiased + 1e-8)

    def _largest_of_classes(self, means: Tensor) -> Tensor:
        """Return the largest mean loss of each task's classes over the train split, (T, K)."""
        labels = self.tables.labels
        classes = range(max(self.tables.layout.num_classes))
        return torch.stack([torch.where(labels == k, means, 0.0).amax(0) for k in classes], 1)
