"""How a step is computed. Methods that no layer of the objective holds override parts of this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from src.objective.batch import TrainTables
from src.objective.compose import Objective
from src.objective.layer import Layer
from src.sampling.epochs import IndexPlan, Schedule

if TYPE_CHECKING:
    from src.methods.found_groups import GroupLabels

Forward = Callable[[Tensor], Tensor]  # images (B, 3, H, W) to logits (B, C)
Loss = tuple[Tensor, Tensor]  # the scalar to minimise, and the numbers for the log


class Method(Layer):
    """Plain training: one network, one forward pass, every epoch the same plan.

    Args:
        options: the method's own, see src/methods/options.py.
        tables: labels and groups of the train split.
        batch_size: as configured.
        resolution: (height, width) of the images.

    Attributes:
        parts: of a batch, whose gradients are averaged before the optimizer's step.
        captured: whether a CUDA graph may record its steps.
        whole_batches: whether each of several processes needs the images of all.
    """

    parts, captured, whole_batches = 1, True, False

    def __init__(
        self, options: object, tables: TrainTables, batch_size: int, resolution: Sequence[int]
    ):
        super().__init__()
        self.options, self.tables = options, tables
        self.batch_size, self.resolution = batch_size, tuple(resolution)

    @classmethod
    def data(cls, labels: GroupLabels, options: object) -> GroupLabels:
        """Return the data set to train on with its groups, from that of the configuration."""
        return labels

    def wrap(self, model: nn.Module, build: Callable[[], nn.Module]) -> nn.Module:
        """Return what is trained, from the network; `build` makes another one."""
        return model

    def schedule(self, plan: IndexPlan, seed: int) -> Schedule:
        """Return which examples each epoch sees; `plan` is that of samplers and subsets."""
        return Schedule(((1, plan),))

    def lr_factor(self, epoch: int) -> float:
        """Return the factor of the learning rate in an epoch (from 1)."""
        return 1.0

    def end_epoch(self, predict: Callable[[np.ndarray], Tensor]) -> None:
        """Use predictions: `predict` returns logits (n, C) on the CPU of train rows (n,)."""

    def draw(self, seed: int, step: int, size: int) -> None:
        """Draw the random numbers of a step into fixed tensors, for a batch of `size` rows."""

    def loss(self, network: Forward, objective: Objective, images: Tensor, rows: Tensor) -> Loss:
        """Return the loss of images (B, 3, H, W), which are `rows` (B,) of the train split.

        Args:
            network: in the run's precision.
        """
        return objective(self.tables.batch(network(images), rows))


def shared_buffer(size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a buffer for drawn numbers; a batch may have one row more than configured."""
    return torch.zeros(size + 1, dtype=dtype)
