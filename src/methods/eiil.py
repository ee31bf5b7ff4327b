"""EIIL (Creager et al. 2021, "Environment Inference for Invariant Learning").

A reference network is trained briefly by ERM. Each train example is then put into one of two
environments, so that the IRM penalty of the reference network is largest; group DRO follows on the
groups (class, environment). Neither step needs group labels of train.

With R_i the derivative of example i's loss by a factor of its logits at 1, the penalty of soft
assignments q_i is 1/2 [(mean q_i R_i)^2 + (mean (1 - q_i) R_i)^2]. It is convex in mean q_i R_i, so
that q_i = [R_i > 0] is an exact optimum. For a binary task these are the examples that the
reference network gets wrong: JTT's error set. The authors search by Adam; at the size of CelebA
their gradients vanish, so `adam` multiplies the penalty by N^2.
"""

import numpy as np
import torch

from src.evaluation.logits import load_logits
from src.methods.found_groups import FoundGroups, identify
from src.methods.options import EiilOptions
from src.methods.stages import Node, Stages
from src.sampling.plans import stack_labels

EIIL_STREAM = 24


def graph(stages: Stages) -> Node:
    """Return EIIL's graph: a reference network, its logits on train, environments, stage 2."""
    first = stages.train("stage_1", dataset={"subsample": False, "subsample_type": None})
    logits = stages.export(first, "train")
    return stages.train_on_found_groups((logits,), lambda _: find_environments(stages, first))


def find_environments(stages: Stages, first: Node) -> FoundGroups:
    """Return the environments of the train examples, from the logits of the reference network."""
    options: EiilOptions = stages.options
    logits = load_logits(first.run.logits("train", first.epoch()))
    labels = stack_labels(stages.dataset.split("train"), stages.groupings)  # (N, T)
    columns = []
    for task, own in zip(stages.tasks, labels.T):
        derivatives = scale_derivatives(logits.of_task(task), own)
        if options.solver == "exact":
            environment = derivatives > 0
        else:
            environment = search(derivatives, options.lr, options.steps, stages.seed)
        print(f"{task}: {environment.sum():,} of {len(own):,} in environment 1", flush=True)
        columns.append(np.where(own >= 0, environment, -1))
    environments = {"train": np.stack(columns, axis=1)}
    data = {"train": identify(stages.dataset, "train")}
    return FoundGroups(environments, (2,) * len(columns), data)


def scale_derivatives(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return R (N,): the derivative of each loss by a factor of its logits, at factor 1.

    Args:
        logits: (N,) of a binary task, or (N, K).
        labels: (N,); unknown ones (-1) give 0.
    """
    rows = torch.from_numpy(logits.astype(np.float64))
    rows = torch.stack([rows * 0, rows], 1) if rows.ndim == 1 else rows  # (N, K)
    residuals = torch.softmax(rows, 1)
    residuals[torch.arange(len(rows)), labels.clip(min=0)] -= 1
    return np.where(labels >= 0, (residuals * rows).sum(1).numpy(), 0.0)


def penalty(assignment: torch.Tensor, derivatives: torch.Tensor) -> torch.Tensor:
    """Return the IRM penalty of soft assignments (N,) to environment 1."""
    first, second = assignment * derivatives, (1 - assignment) * derivatives
    return 0.5 * (first.mean() ** 2 + second.mean() ** 2)


def search(derivatives: np.ndarray, lr: float, steps: int, seed: int) -> np.ndarray:
    """Return environments (N,) bool by the authors' search: Adam on random logits of q."""
    R = torch.from_numpy(derivatives)
    start = np.random.default_rng([seed, EIIL_STREAM]).standard_normal(len(R))
    w = torch.from_numpy(start).requires_grad_()
    optimizer = torch.optim.Adam([w], lr)
    for _ in range(steps):
        optimizer.zero_grad()
        (-(len(R) ** 2) * penalty(torch.sigmoid(w), R)).backward()
        optimizer.step()
    return w.detach().numpy() > 0
