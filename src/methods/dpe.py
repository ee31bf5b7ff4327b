"""DPE (To et al., ICML 2025, "Diverse Prototypical Ensembles"): many heads of class prototypes.

Features are standardised per row. Each member has a prototype per class, is fitted on its own
balanced subset of validation, and is pushed away from the members before it. The ensemble predicts
with the mean of its members' probabilities. It is no linear head: its flat logit is the log odds of
that mean (for K > 2 classes its log).
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from src.io import UserError
from src.methods.dfr import balanced
from src.methods.heads import Head, HeadData
from src.methods.options import DpeOptions
from src.methods.stages import Node, Stages
from src.models.prototypes import PrototypeEnsemble, score, standardise_rows

DPE_STREAM = 23
PROTOTYPE_DECAY = 10.0  # of mean_k |p_k|^2
BATCH_SIZE, EPOCHS, LR, MOMENTUM = 256, 20, 1e-3, 0.9  # the authors'


def graph(stages: Stages) -> Node:
    """Return DPE's graph: an ERM network, its features, the ensemble."""
    return stages.head(stages.train("stage_1"), fit, ["val"], kind="prototypes")


def fit(data: HeadData, options: DpeOptions) -> Head:
    """Fit an ensemble per task."""
    if options.balance == "group" and not data.group_labels.has_groups("val"):
        raise UserError("exp.dpe.balance=group needs groups of validation: set balance=class")
    fit_rows, select_rows = data.halves()
    everything = np.arange(len(data.labels("val")))
    if options.refit == "all":
        fit_rows = select_rows = everything  # as the authors do: chosen on the rows of the fit
    rows = standardise_rows(data.features("val"))
    ensemble = PrototypeEnsemble(data.layout.num_classes, options.members, rows.shape[1])
    for task in range(len(data.tasks)):
        fit_task(data, task, options, rows, (fit_rows, select_rows), ensemble)
    return Head(ensemble, fit_rows)


def fit_task(
    data: HeadData,
    task: int,
    options: DpeOptions,
    rows: Tensor,
    split: tuple[np.ndarray, np.ndarray],
    ensemble: PrototypeEnsemble,
) -> None:
    """Fit the members of one task, one after the other, into `ensemble`."""
    fit_rows, select_rows = split
    classes, labels = data.layout.num_classes[task], data.labels("val")[:, task]
    levels = data.groups("val")[:, task] if options.balance == "group" else labels
    rng = np.random.default_rng([data.seed, DPE_STREAM, task])
    earlier: list[Tensor] = []
    for member in range(options.members):
        subset = fit_rows[balanced(levels[fit_rows], rng)]
        start = rng.normal(0, 0.01, (classes, rows.shape[1])).astype(np.float32)
        prototypes = torch.from_numpy(start).requires_grad_()
        scale = torch.ones((), requires_grad=True)
        optimizer = torch.optim.SGD([prototypes, scale], LR, MOMENTUM)
        best, found = -1.0, None
        for _ in range(EPOCHS):
            for batch in batches(rng.permutation(subset)):
                y = torch.from_numpy(labels[batch])
                loss = member_loss(rows[batch], y, (prototypes, scale), earlier, options)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                logits = score(rows[select_rows], prototypes, scale)
            accuracy = data.worst_group(logits, task, select_rows)
            if accuracy >= best:  # of equal epochs the last
                best, found = accuracy, (prototypes.detach().clone(), scale.detach().clone())
        earlier.append(found[0])
        ensemble.prototypes[task, member, :classes] = found[0]
        ensemble.scale[task, member] = found[1]


def batches(rows: np.ndarray) -> list[np.ndarray]:
    """Cut rows into full batches; fewer rows than one batch are one."""
    full = [rows[i : i + BATCH_SIZE] for i in range(0, len(rows) - BATCH_SIZE + 1, BATCH_SIZE)]
    return full or [rows]


def member_loss(
    rows: Tensor,
    labels: Tensor,
    member: tuple[Tensor, Tensor],
    earlier: list[Tensor],
    options: DpeOptions,
) -> Tensor:
    """Return cross-entropy of scaled scores, the prototypes' decay, and their similarity penalty.

    The penalty is R_s |mean_k sum_j p_k . p_k^(j) / ((D - 1) s)| over the s - 1 members before,
    with R_s = R / (1 + 0.1 (s - 2)). Products of opposite sign cancel, as in the authors' code.
    """
    prototypes, scale = member
    logits = options.entropic_scale * score(rows, prototypes, scale)
    loss = cross_entropy(logits, labels) + PROTOTYPE_DECAY * (prototypes**2).sum(1).mean()
    if earlier:
        number, width = len(earlier) + 1, prototypes.shape[1]
        products = (prototypes * torch.stack(earlier).sum(0)).sum(1)  # (K,)
        similarity = (products / ((width - 1) * number)).mean().abs()
        loss = loss + options.diversity / (1 + 0.1 * (number - 2)) * similarity
    return loss
