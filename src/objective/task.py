"""Layer 2: the losses of the examples to one number per task."""

from torch import Tensor

from src.objective.batch import Batch, TrainTables
from src.objective.options import ObjectiveOptions
from src.objective.state import Layer


class Mean(Layer):
    """The mean over the labelled examples of the batch: sum(w l) / number of labels."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables, tasks: list[str]):
        super().__init__()
        self.all_labelled = tables.all_labelled

    def forward(self, losses: Tensor, weights: Tensor | None, batch: Batch) -> Tensor:
        """Return S (T,) of losses (B, T) and weights (B, T), None for all 1."""
        if weights is not None:
            losses = weights * losses
        if self.all_labelled:
            return losses.mean(dim=0)
        known = batch.labels >= 0  # (B, T)
        return (losses * known).sum(dim=0) / known.sum(dim=0).clamp(min=1)


TASK_LAYERS = {"mean": Mean}
