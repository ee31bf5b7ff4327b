"""SELF (LaBonte et al. 2023, "Towards Last-layer Retraining for Group Robustness ...").

The rows of half of validation on which an early checkpoint and the final network disagree most are
likely to be from rare groups. The head is fine-tuned on the n rows with the largest KL(early ||
final), with class-balanced draws and no group labels. The early checkpoint, n and lr are chosen by
the worst group of the other half. As everything is done on features, the authors' augmentation of
these rows is left out. A binary task's head is fitted as two rows, as theirs is.
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from src.methods.heads import Head, HeadData, fit_each_task
from src.methods.options import SelfOptions
from src.methods.stages import Node, Stages

SELF_STREAM = 22
WEIGHT_DECAY, MOMENTUM = 1e-4, 0.9  # the authors'


def graph(stages: Stages) -> Node:
    """Return SELF's graph: a class-balanced ERM network, its logits at early epochs, the head."""
    epochs = stages.options.early_epochs
    first = stages.train("stage_1", epochs=epochs, dataloader={"sampler": "rwy"})
    early = [stages.export(first, "val", epoch=epoch) for epoch in epochs]
    return stages.head(first, fit, ["val"], early)


def fit(data: HeadData, options: SelfOptions) -> Head:
    """Fit one head per task."""
    fit_rows, _ = data.halves()
    return fit_each_task(
        data, lambda task: fit_task(data, task, options), "early epoch, rows, lr", fit_rows
    )


def disagreement(early: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Return the mean over classes of p_early (log p_early - log p_final), (N,).

    Args:
        early, final: logits of a task, (N,) or (N, K).
    """
    logs = []
    for logits in (early, final):
        rows = torch.from_numpy(logits.astype(np.float64))
        rows = torch.stack([rows * 0, rows], 1) if rows.ndim == 1 else rows
        logs.append(torch.log_softmax(rows, 1))
    return (logs[0].exp() * (logs[0] - logs[1])).mean(1).numpy()


def fit_task(
    data: HeadData, task: int, options: SelfOptions
) -> tuple[tuple[Tensor, Tensor], tuple[int, int, float]]:
    """Return the best head of a task as K rows, and its early epoch, number of rows and lr."""
    fit_rows, select_rows = data.halves()
    fit_rows = fit_rows[data.labels("val")[fit_rows, task] >= 0]
    final = data.logits("val").of_task(data.tasks[task])[fit_rows]
    best, found, chosen = -1.0, None, None
    for epoch, count, lr in product(options.early_epochs, options.num_rows, options.lrs):
        early = data.logits("val", epoch).of_task(data.tasks[task])[fit_rows]
        order = np.argsort(-disagreement(early, final), kind="stable")
        head = fine_tune(data, task, fit_rows[order[:count]], lr, options.steps)
        logits = data.features("val")[select_rows] @ head[0].T + head[1]
        accuracy = data.worst_group(logits, task, select_rows)
        if accuracy > best:
            best, found, chosen = accuracy, head, (epoch, count, lr)
    return found, chosen


def fine_tune(
    data: HeadData, task: int, rows: np.ndarray, lr: float, steps: int, batch_size: int = 100
) -> tuple[Tensor, Tensor]:
    """Fine-tune the base's head by SGD on class-balanced draws of `rows` of validation."""
    x = data.features("val")[rows]
    labels = data.labels("val")[rows, task]
    probabilities = 1 / np.bincount(labels)[labels]
    probabilities = probabilities / probabilities.sum()
    rng = np.random.default_rng([data.seed, SELF_STREAM, task])
    weight, bias = (tensor.requires_grad_() for tensor in data.base_rows(task))
    optimizer = torch.optim.SGD([weight, bias], lr, MOMENTUM, weight_decay=WEIGHT_DECAY)
    y = torch.from_numpy(labels)
    for _ in range(steps):
        batch = torch.from_numpy(rng.choice(len(rows), min(batch_size, len(rows)), p=probabilities))
        loss = torch.nn.functional.cross_entropy(x[batch] @ weight.T + bias, y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weight.detach(), bias.detach()
