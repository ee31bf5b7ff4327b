"""AFR (Qiu et al. 2023, "Simple and Fast Group Robustness by Automatic Feature Reweighting").

Stage 1 trains on a random 80 % of train. The head is then fine-tuned on the other 20 %, with the
weights mu_i ~ N/n_y exp(-gamma p_i), p_i the probability that stage 1 gives to the true class. The
loss is sum_i mu_i CE_i + lambda ||w - w_0||^2, minimised by full-batch gradient descent from w_0
with clipped gradients. gamma, lambda and the number of steps are chosen by validation's worst
group. As in the authors' command line (their notebook differs), descent starts at w_0 itself. A
binary task's head is fitted as two rows, as theirs is.
"""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from src.methods.heads import Head, HeadData, fit_each_task
from src.methods.options import AfrOptions
from src.methods.stages import Node, Stages
from src.sampling.draws import train_share


def graph(stages: Stages) -> Node:
    """Return AFR's graph: an ERM network on a share of train, its features, the head."""
    share = {"train_fraction": stages.options.train_fraction}
    return stages.head(stages.train("stage_1", dataloader=share), fit, ("train", "val"))


def fit(data: HeadData, options: AfrOptions) -> Head:
    """Fit one head per task."""
    kept = train_share(len(data.labels("train")), options.train_fraction, data.seed)
    rest = np.setdiff1d(np.arange(len(data.labels("train"))), kept)

    def fit_one(task: int) -> tuple[tuple[Tensor, Tensor], list[float]]:
        known = rest[data.labels("train")[rest, task] >= 0]
        rows, setting, step = fit_task(data, task, known, options)
        return rows, [*setting, step]

    return fit_each_task(data, fit_one, "gamma, lambda, steps")


def example_weights(probabilities: Tensor, labels: Tensor, gamma: Tensor) -> Tensor:
    """Return mu (S, N), summing to 1, for each gamma (S,).

    Args:
        probabilities: (N,) of the true class.
        labels: (N,).
    """
    by_class = len(labels) / torch.bincount(labels)[labels]
    weights = by_class * torch.exp(-gamma[:, None] * probabilities)
    return weights / weights.sum(1, keepdim=True)


def fit_task(
    data: HeadData, task: int, rows: np.ndarray, options: AfrOptions
) -> tuple[tuple[Tensor, Tensor], tuple[float, float], int]:
    """Return the best head of a task as K rows, its (gamma, lambda) and its number of steps.

    All settings descend at the same time, one slice each.
    """
    x = data.features("train")[rows]  # (N, D)
    y = torch.from_numpy(data.labels("train")[rows, task])
    weight, bias = data.base_rows(task)  # (K, D), (K,)
    start = torch.cat([weight, bias[:, None]], 1)  # (K, D + 1)
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    p = torch.softmax(x @ start.T, 1)[torch.arange(len(y)), y]
    gammas = np.linspace(options.gamma_min, options.gamma_max, options.num_gammas)
    settings = list(product(gammas.tolist(), options.strengths))
    mu = example_weights(p, y, torch.tensor([gamma for gamma, _ in settings]))  # (S, N)
    strength = torch.tensor([value for _, value in settings])[:, None, None]
    heads = start.expand(len(settings), -1, -1).clone()  # (S, K, D + 1)
    target = torch.nn.functional.one_hot(y, start.shape[0]).float()  # (N, K)
    best, found = -1.0, (start, settings[0], 0)
    for step in range(1, options.steps + 1):
        residual = torch.softmax(torch.einsum("nd,skd->snk", x, heads), 2) - target
        gradient = torch.einsum("sn,snk,nd->skd", mu, residual, x) + 2 * strength * (heads - start)
        norm = gradient.flatten(1).norm(dim=1)[:, None, None]
        heads = heads - options.lr * gradient / norm.clamp(min=1)
        if step % options.evaluate_every == 0 or step == options.steps:
            for number, accuracy in enumerate(val_worst_groups(data, task, heads)):
                if accuracy > best:
                    best, found = accuracy, (heads[number].clone(), settings[number], step)
    head, setting, step = found
    return (head[:, :-1], head[:, -1]), setting, step


def val_worst_groups(data: HeadData, task: int, heads: Tensor) -> list[float]:
    """Return validation's worst-group accuracy of each head (S, K, D + 1)."""
    x = data.features("val")
    logits = torch.einsum("nd,skd->snk", x, heads[..., :-1]) + heads[:, None, :, -1]
    return [data.worst_group(own, task) for own in logits]
