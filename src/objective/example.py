"""Layer 1: logits to the losses and weights of each example and task."""

from torch import Tensor

from src.objective.batch import Batch, TrainTables
from src.objective.options import ObjectiveOptions
from src.objective.state import Layer


class CrossEntropy(Layer):
    """Cross-entropy; binary tasks have one logit, see src/objective/logits.py."""

    def __init__(self, options: ObjectiveOptions, tables: TrainTables):
        super().__init__()
        self.layout = tables.layout

    def forward(self, batch: Batch) -> Tensor:
        """Return losses (B, T)."""
        return self.layout.losses(batch.logits, batch.labels)


LOSSES = {"bce": CrossEntropy}
