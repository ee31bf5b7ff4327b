"""Mixup and LISA: train on mixed images with mixed losses."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.objective.compose import Objective
from src.sampling.draws import MIX_STREAM
from src.sampling.epochs import IndexPlan
from src.sampling.pairs import PairSchedule
from src.training.method import Forward, Loss, Method, shared_buffer


class Mixup(Method):
    """Mixup (Zhang et al. 2018): each image is blended with another one of its batch.

    x' = s x + (1 - s) x_other, and the loss is s L(f', y) + (1 - s) L(f', y_other), with the share
    s drawn from Beta(alpha, alpha).
    """

    whole_batches = True

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.register_buffer("share", shared_buffer(self.batch_size), persistent=False)
        others = shared_buffer(self.batch_size, torch.int64)
        self.register_buffer("others", others, persistent=False)

    def draw(self, seed: int, step: int, size: int) -> None:
        rng = np.random.default_rng([seed, MIX_STREAM, step])
        count = size if self.options.per == "example" else 1
        share = np.broadcast_to(rng.beta(self.options.alpha, self.options.alpha, count), size)
        self.share[:size].copy_(torch.from_numpy(share.astype(np.float32)))
        self.others[:size].copy_(torch.from_numpy(rng.permutation(size)))

    def loss(self, network: Forward, objective: Objective, images: Tensor, rows: Tensor) -> Loss:
        share, others = self.share[: len(images)], self.others[: len(images)]
        blended = blend(images, images[others], share)
        batch = self.tables.batch(network(blended), rows)
        partner = self.tables.batch(batch.logits, rows[others])
        return objective(replace(batch, partner=partner, share=share))


class Lisa(Method):
    """LISA (Yao et al. 2022): mix pairs that share the label or the attribute value, not both.

    A batch holds anchors and then their partners; src/sampling/pairs.py draws them. Blending draws
    a share from Beta(alpha, alpha) for each pair. `cutmix` draws one for the batch and pastes a
    rectangle of the partner; the share is then the exact area that stays.
    """

    whole_batches = True

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.register_buffer("share", shared_buffer(self.batch_size), persistent=False)
        mask = torch.zeros(self.resolution, dtype=torch.bool)
        self.register_buffer("mask", mask, persistent=False)  # (H, W), the partner's rectangle

    def schedule(self, plan: IndexPlan, seed: int) -> PairSchedule:
        classes = self.tables.layout.num_classes
        return PairSchedule(
            self.tables.groups.cpu().numpy(),
            [groups // k for groups, k in zip(self.tables.num_groups, classes)],
            self.tables.num_groups,
            self.options.same_label,
        )

    def draw(self, seed: int, step: int, size: int) -> None:
        rng = np.random.default_rng([seed, MIX_STREAM, step])
        count = size // 2
        if self.options.mix == "mixup":
            share = rng.beta(self.options.alpha, self.options.alpha, count)
        else:
            rectangle = draw_rectangle(rng, self.options.alpha, self.resolution)
            self.mask.zero_()
            self.mask[rectangle] = True
            share = np.full(count, 1 - float(self.mask.float().mean()))
        self.share[:count].copy_(torch.from_numpy(share.astype(np.float32)))

    def loss(self, network: Forward, objective: Objective, images: Tensor, rows: Tensor) -> Loss:
        count = len(images) // 2
        share = self.share[:count]
        if self.options.mix == "mixup":
            mixed = blend(images[:count], images[count:], share)
        else:
            mixed = torch.where(self.mask, images[count:], images[:count])
        batch = self.tables.batch(network(mixed), rows[:count])
        partner = self.tables.batch(batch.logits, rows[count:])
        return objective(replace(batch, partner=partner, share=share))


def blend(images: Tensor, others: Tensor, share: Tensor) -> Tensor:
    """Return share x + (1 - share) x_other; images (B, 3, H, W) or features (B, D), share (B,)."""
    share = share.view(-1, *[1] * (images.ndim - 1))
    return share * images + (1 - share) * others


def draw_rectangle(
    rng: np.random.Generator, alpha: float, resolution: tuple[int, int]
) -> tuple[slice, slice]:
    """Draw CutMix's rectangle (Yun et al. 2019): sides of sqrt(1 - s), clipped at the edges."""
    side = math.sqrt(1 - rng.beta(alpha, alpha))
    slices = []
    for length in resolution:
        half, centre = int(length * side) // 2, int(rng.integers(length))
        slices.append(slice(max(centre - half, 0), min(centre + half, length)))
    return slices[0], slices[1]
