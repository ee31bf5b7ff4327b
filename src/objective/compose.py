"""The objective: logits of a batch to the scalar that is minimised, through its layers."""

from dataclasses import replace

import torch
from torch import Tensor

from src.objective.across import ACROSS_LAYERS
from src.objective.batch import Batch, TrainTables
from src.objective.example import LOSSES, SHIFTS, WEIGHTS
from src.objective.gradient import GramianLayer
from src.objective.layer import Layer, TableLayer
from src.objective.options import ObjectiveOptions
from src.objective.penalties import PENALTIES
from src.objective.task import TASK_LAYERS

# Layers across tasks whose steps are replayed as CUDA graphs, as the tests on a GPU cover them.
CAPTURED = {"static", "lbtw"}


class Objective(Layer):
    """Composes the layers that `options` names; see `ObjectiveOptions`.

    Args:
        tables: labels, groups and counts of the train split.
        task_weights: (T,) of `static`.
        lbtw_alpha: of `lbtw`.
    """

    def __init__(
        self,
        options: ObjectiveOptions,
        tables: TrainTables,
        task_weights: list[float],
        lbtw_alpha: float,
    ):
        super().__init__()

        def make(layers: dict[str, type[TableLayer]], name: str) -> TableLayer | None:
            return None if name == "none" else layers[name](options, tables)

        self.tasks = tables.tasks
        self.shift = make(SHIFTS, options.shift)
        self.example = make(LOSSES, options.example)
        self.weights = make(WEIGHTS, options.weights)
        self.task = make(TASK_LAYERS, options.task)
        self.across = ACROSS_LAYERS[options.across](options, task_weights, lbtw_alpha)
        if options.gradient == "torchjd":
            from src.objective.jacobian import JacobianLayer  # its library is optional

            self.gradient = JacobianLayer(options, tables)
        else:
            solver = options.gradient != "none"
            self.gradient = GramianLayer(options, tables) if solver else None
        self.penalty = make(PENALTIES, options.penalty)
        self.captured = options.across in CAPTURED and self.gradient is None

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
        extra = [layer.logged() for layer in self.sublayers() if layer.log_names]
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

    @property
    def log_names(self) -> list[str]:
        """Flat keys of the logged numbers: `Blond_Hair/loss`, `Blond_Hair/weight`, ..."""
        names = [f"{task}/loss" for task in self.tasks] + [f"{task}/weight" for task in self.tasks]
        return names + [name for layer in self.sublayers() for name in layer.log_names]


def with_float_logits(batch: Batch) -> Batch:
    """Return the batch with float32 logits, the same tensor for the partner's."""
    logits = batch.logits.float()
    partner = None if batch.partner is None else replace(batch.partner, logits=logits)
    return replace(batch, logits=logits, partner=partner)
