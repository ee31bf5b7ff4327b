"""The objective: logits of a batch to the scalar that is minimised, through its layers."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from src.objective.across import ACROSS_LAYERS
from src.objective.batch import Batch, TrainTables
from src.objective.example import LOSSES, SHIFTS, WEIGHTS
from src.objective.gradient import GradientLayer, GramianLayer
from src.objective.layer import Layer
from src.objective.options import ObjectiveOptions
from src.objective.penalties import PENALTIES
from src.objective.task import TASK_LAYERS

# Layers across tasks whose steps are replayed as CUDA graphs, as the tests on a GPU cover them.
CAPTURED = {"static", "lbtw"}


class Objective(nn.Module):
    """Composes the layers that `options` names; see `ObjectiveOptions`.

    Args:
        tables: labels, groups and counts of the train split.
        tasks: names of the T tasks, for the log.
        task_weights: (T,) of `static`.
        lbtw_alpha: of `lbtw`.
    """

    def __init__(
        self,
        options: ObjectiveOptions,
        tables: TrainTables,
        tasks: list[str],
        task_weights: list[float],
        lbtw_alpha: float,
    ):
        super().__init__()
        self.tasks = tasks
        solver = options.gradient != "none"
        self.captured = options.across in CAPTURED and not solver
        self.shift = optional(SHIFTS, options.shift, options, tables)
        self.example = LOSSES[options.example](options, tables)
        self.weights = optional(WEIGHTS, options.weights, options, tables)
        self.task = TASK_LAYERS[options.task](options, tables, tasks)
        self.across = ACROSS_LAYERS[options.across](options, task_weights, lbtw_alpha)
        self.gradient = make_gradient_layer(options, tables, tasks) if solver else None
        self.penalty = optional(PENALTIES, options.penalty, options, tables)

    def forward(self, batch: Batch, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the scalar, and the numbers for the log in the order of `log_names`.

        Args:
            weights: (B, T), a method's own weights of the losses.
        """
        if self.gradient is not None:
            batch = with_float_logits(batch)
        losses, own = self._losses(batch)  # (B, T) each
        weights = own if weights is None else weights if own is None else weights * own
        if batch.partner is not None:
            losses, weights = self._mixed(batch, losses, weights), None
            unknown = batch.partner.labels < 0
            batch = replace(batch, labels=torch.where(unknown, -1, batch.labels))
        scalars = self.task(losses, weights, batch)  # (T,)
        total, task_weights = self.across(scalars)
        if self.gradient is not None:
            total, solved = self.gradient(task_weights * scalars, batch)
            task_weights = task_weights * solved
        if self.penalty is not None:
            total = total + self.penalty(losses, batch)
        extra = [layer.logged() for layer in self.layers() if layer.log_names]
        return total, torch.cat([scalars.detach(), task_weights.detach(), *extra])

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return the losses and weights (B, T) of layer 1."""
        if self.shift is not None:
            batch = self.shift(batch)
        return self.example(batch), None if self.weights is None else self.weights(batch)

    def _mixed(self, batch: Batch, losses: Tensor, weights: Tensor | None) -> Tensor:
        """Return the weighted losses of mixed images: each label counts by its image's share."""
        others, other_weights = self._losses(batch.partner)
        if weights is not None:
            losses, others = weights * losses, other_weights * others
        share = batch.share[:, None]
        return share * losses + (1 - share) * others

    def layers(self) -> list[Layer]:
        return [layer for layer in self.children() if isinstance(layer, Layer)]

    @property
    def log_names(self) -> list[str]:
        """Flat keys of the logged numbers: `Blond_Hair/loss`, `Blond_Hair/weight`, ..."""
        names = [f"{task}/loss" for task in self.tasks] + [f"{task}/weight" for task in self.tasks]
        return names + [name for layer in self.layers() for name in layer.log_names]

    def commit(self, finite: Tensor) -> None:
        """Take over the new state of all layers, if the step was finite (0-dim bool)."""
        for layer in self.layers():
            layer.commit(finite)

    def draw(self, seed: int, step: int) -> None:
        """Draw the random numbers of all layers for a step (from 0)."""
        for layer in self.layers():
            layer.draw(seed, step)

    def start_epoch(self, epoch: int) -> None:
        for layer in self.layers():
            layer.start_epoch(epoch)

    def end_epoch(self, val_losses: Tensor) -> None:
        """Tell all layers the validation loss of each task's groups, (T, G); NaN if empty."""
        for layer in self.layers():
            layer.end_epoch(val_losses)


def make_gradient_layer(
    options: ObjectiveOptions, tables: TrainTables, tasks: list[str]
) -> GradientLayer:
    if options.gradient != "torchjd":
        return GramianLayer(options, tables, tasks)
    from src.objective.jacobian import JacobianLayer  # its library is optional

    return JacobianLayer(options, tables, tasks)


def with_float_logits(batch: Batch) -> Batch:
    """Return the batch with float32 logits, the same tensor for the partner's."""
    logits = batch.logits.float()
    partner = None if batch.partner is None else replace(batch.partner, logits=logits)
    return replace(batch, logits=logits, partner=partner)


def optional(layers: dict[str, type[Layer]], name: str, *arguments: Any) -> Layer | None:
    """Make the layer of a name; None for `none`."""
    return None if name == "none" else layers[name](*arguments)
