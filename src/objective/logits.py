"""What a logit means: loss, residual, probability, prediction.

Logits are flat (B, C). A binary task has one column, whose sigmoid is the probability of class 1. A
task with K > 2 classes has K columns with a softmax. Labels (B, T) are int64, -1 where unknown.
Every layer and method goes through this module, so none of them asks how many classes a task has.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot


class LogitLayout:
    """Which columns of the flat logits belong to which task.

    Args:
        num_classes: K of each of the T tasks, at least 2.
    """

    def __init__(self, num_classes: Sequence[int]):
        self.num_classes = tuple(num_classes)
        self.binary = all(classes == 2 for classes in self.num_classes)
        self.columns: list[slice] = []  # of each task
        start = 0
        for classes in self.num_classes:
            width = 1 if classes == 2 else classes
            self.columns.append(slice(start, start + width))
            start += width
        self.width = start  # C

    def losses(
        self,
        logits: Tensor,
        labels: Tensor,
        scale: Tensor | float = 1.0,
        margin: Tensor | None = None,
    ) -> Tensor:
        """Return the cross-entropy of each example and task, (B, T) float32.

        Args:
            labels: (B, T); where -1, the loss has no meaning.
            scale: (B, T) or a number; multiplies the logits.
            margin: (B, T); how much the scaled logit of the true class must exceed the others. For
                one logit f the loss is log(1 + exp(margin - scale (2y - 1) f)).
        """
        logits = logits.float()
        if margin is not None:
            logits = self._with_margin(logits, labels, scale, margin)
        if self.binary:
            losses = binary_cross_entropy_with_logits(
                logits, labels.clamp(min=0).float(), reduction="none"
            )  # (B, T)
        else:
            losses = torch.stack(
                [self._task_losses(logits, labels, task) for task in range(len(self.columns))], 1
            )
        return losses

    def _with_margin(
        self, logits: Tensor, labels: Tensor, scale: Tensor | float, margin: Tensor
    ) -> Tensor:
        """Scale the logits, and lower that of the true class by the margin."""
        scale = torch.as_tensor(scale, device=logits.device).expand_as(margin)
        parts = []
        for task, columns in enumerate(self.columns):
            own = scale[:, task, None] * logits[:, columns]
            target, needed = labels[:, task].clamp(min=0), margin[:, task, None]
            if own.shape[1] == 1:
                sign = 2 * target[:, None].float() - 1
                parts.append(own - sign * needed)
            else:
                parts.append(own - needed * one_hot(target, own.shape[1]))
        return torch.cat(parts, 1)

    def _task_losses(self, logits: Tensor, labels: Tensor, task: int) -> Tensor:
        own, target = logits[:, self.columns[task]], labels[:, task].clamp(min=0)
        if own.shape[1] == 1:
            return binary_cross_entropy_with_logits(own[:, 0], target.float(), reduction="none")
        return cross_entropy(own, target, reduction="none")

    def probabilities(self, logits: Tensor) -> list[Tensor]:
        """Return the class probabilities (B, K) of each task."""
        tables = []
        for columns in self.columns:
            own = logits[:, columns].float()
            if own.shape[1] == 1:
                one = own.sigmoid()
                tables.append(torch.cat([1 - one, one], 1))
            else:
                tables.append(own.softmax(1))
        return tables

    def residuals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the derivative of each example's losses by its logits, (B, C).

        A binary task has sigmoid(f) - y, others softmax(f) - onehot(y).
        """
        parts = []
        for task, columns in enumerate(self.columns):
            own, target = logits[:, columns].float(), labels[:, task].clamp(min=0)
            if own.shape[1] == 1:
                parts.append(own.sigmoid() - target[:, None].float())
            else:
                parts.append(own.softmax(1) - one_hot(target, own.shape[1]).float())
        return torch.cat(parts, 1)
