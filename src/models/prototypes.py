"""The head of DPE: for each task an ensemble of members, each with a prototype per class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class PrototypeEnsemble(nn.Module):
    """The members of all tasks.

    Attributes:
        prototypes: (T, M, K, D); of a task with fewer than K classes the last rows are not used.
        scale: (T, M), the distance's factor a of each member.
    """

    def __init__(self, num_classes: Sequence[int], members: int, width: int):
        super().__init__()
        self.num_classes = tuple(num_classes)
        shape = (len(num_classes), members)
        self.register_buffer("prototypes", torch.zeros(*shape, max(num_classes), width))
        self.register_buffer("scale", torch.ones(shape))

    def forward(self, features: Tensor) -> Tensor:
        """Return flat logits (N, C) of features (N, D)."""
        rows, columns = standardise_rows(features.float()), []
        for task, classes in enumerate(self.num_classes):
            members = zip(self.prototypes[task, :, :classes], self.scale[task])
            scores = [torch.softmax(score(rows, p, a), 1) for p, a in members]
            logs = torch.log(torch.stack(scores).mean(0).clamp(min=1e-12))  # (N, K)
            columns.append(logs[:, 1:] - logs[:, :1] if classes == 2 else logs)
        return torch.cat(columns, 1)


def standardise_rows(features: Tensor) -> Tensor:
    """Return (z - mean_d z) / sd_d z of each row of (N, D); a constant row becomes 0."""
    deviation = features.std(1, correction=0, keepdim=True).clamp(min=1e-12)
    return (features - features.mean(1, keepdim=True)) / deviation


def score(rows: Tensor, prototypes: Tensor, scale: Tensor) -> Tensor:
    """Return -|a| times the distance of normalised rows (N, D) and prototypes (K, D), (N, K)."""
    return -scale.abs() * torch.cdist(normalize(rows), normalize(prototypes))
