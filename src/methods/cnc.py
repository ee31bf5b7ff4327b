"""CnC (Zhang et al. 2022, "Correct-n-Contrast"): contrast what stage 1 confuses.

Stage 1 is a regularised ERM network. Stage 2 trains a new network with a contrastive loss beside
the cross-entropy: features of one class that stage 1 predicts differently are pulled together,
those of different classes that it predicts alike are pushed apart. src/sampling/contrast.py draws
the units.

Of the authors' code this follows the slices by prediction (`slice_with pred`), the two-sided loss
and the encoder in eval mode, with batch norm at its first statistics. Lists that are too short are
drawn from with replacement; they cut all four to the shortest. Each step contrasts one task, in
turns; the cross-entropy is that of all tasks.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from src.evaluation.logits import load_logits, predictions
from src.methods.found_groups import FoundGroups, identify
from src.methods.stages import Node, Stages
from src.models.build import Network
from src.objective.compose import Objective
from src.sampling.contrast import ContrastSchedule
from src.sampling.epochs import IndexPlan
from src.sampling.plans import stack_labels
from src.training.method import Forward, Loss, Method


def graph(stages: Stages) -> Node:
    """Return CnC's graph: stage 1, its predictions on train, stage 2."""
    first = stages.train("stage_1")
    logits = stages.export(first, "train")
    return stages.train_on_found_groups(
        (logits,), lambda _: predicted_classes(stages, first), own_step=True
    )


def predicted_classes(stages: Stages, first: Node) -> FoundGroups:
    """Return the classes that stage 1 predicts on train, as environments."""
    logits = load_logits(first.run.logits("train", first.epoch()))
    labels = stack_labels(stages.dataset.split("train"), stages.groupings)
    predicted = np.stack([predictions(logits.of_task(task)) for task in stages.tasks], axis=1)
    sizes = tuple(grouping.num_classes for grouping in stages.groupings)
    environments = {"train": np.where(labels >= 0, predicted, -1)}
    return FoundGroups(environments, sizes, {"train": identify(stages.dataset, "train")})


class ContrastiveNetwork(Network):
    """A network that in training returns its features beside the logits.

    With `frozen` the backbone stays in eval mode, as in the authors' code.
    """

    def __init__(self, network: Network, frozen: bool):
        super().__init__(network.backbone, network.head)
        self.frozen = frozen

    def train(self, mode: bool = True) -> "ContrastiveNetwork":
        super().train(mode)
        self.backbone.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C), in training logits and features (B, C + D)."""
        features = self.features(images)
        logits = self.head(features)
        return torch.cat([logits, features], 1) if self.training else logits


class CnC(Method):
    """Minimise weight * contrastive loss + (1 - weight) * objective; see the module."""

    captured = False  # not yet tried as a CUDA graph
    whole_batches = True

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.parts = self.options.units

    def wrap(self, model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
        return ContrastiveNetwork(model, self.options.batch_norm == "eval")

    def schedule(self, plan: IndexPlan, seed: int) -> ContrastSchedule:
        labels, groups = self.tables.labels.cpu().numpy(), self.tables.groups.cpu().numpy()
        sizes = self.tables.layout.num_classes  # a group is (class, predicted class)
        options = self.options
        return ContrastSchedule(
            *(labels, np.where(groups >= 0, groups % sizes, -1), self.tables.tasks),
            *(options.rows, options.units, options.anchor_share, options.max_units),
        )

    def loss(self, network: Forward, objective: Objective, images: Tensor, rows: Tensor) -> Loss:
        output, width = network(images), self.tables.layout.width
        batch = self.tables.batch(output[:, :width].float(), rows)
        total, logged = objective(replace(batch, features=output[:, width:]))
        weight = self.options.contrastive_weight
        contrast = contrastive_loss(output[:, width:], self.options.temperature)
        return weight * contrast + (1 - weight) * total, logged


def contrastive_loss(features: Tensor, temperature: float) -> Tensor:
    """Return the two-sided contrastive loss of one unit.

    The first anchor has the positives and the negatives; the first positive has the anchors as
    positives, and the easy negatives.

    Args:
        features: (4k, D): k anchors, positives, negatives and easy negatives.
    """
    anchors, positives, negatives, easy = normalize(features.float()).chunk(4)
    one_side = contrast(anchors[0], positives, negatives, temperature)
    return one_side + contrast(positives[0], anchors, easy, temperature)


def contrast(anchor: Tensor, positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Return -mean_p log(exp(s_p/tau) / sum over negatives and positives of exp(s/tau)).

    Args:
        anchor: (D,), positives and negatives: (k, D), all of length 1; s are their cosines.
    """
    near, far = positives @ anchor / temperature, negatives @ anchor / temperature
    return torch.logsumexp(torch.cat([near, far]), 0) - near.mean()
