"""XRM (Pezeshki et al. 2024, "Discovering environments with XRM"): environments without labels.

Two linear twins are trained on the features of a frozen network. Each train example belongs to one
twin. The other twin, which never learns from it, may flip its label to a class of which it is
confident. An example is in environment 1 if either twin is wrong on its true label, in train and in
validation. Group DRO or RWG follow on the groups (class, environment), and select by those of
validation: no group label is used anywhere.

Of several settings (learning rate, weight decay, batch size) the one with most flipped labels is
kept, per task, of those that put every class in both environments if there are any. As in the
authors' code a class has its own row of weights, also in binary tasks. A step's rows and flips are
drawn from (seed, setting, step), and shared by the tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src.evaluation.logits import load_features
from src.methods.found_groups import FoundGroups, identify
from src.methods.options import XrmOptions
from src.methods.stages import Node, Stages
from src.runs.signals import Stopped
from src.sampling.plans import stack_labels

XRM_STREAM = 25
MOMENTUM = 0.9
CHUNK = 8192  # rows scored at once


@dataclass(frozen=True)
class Setting:
    """What one pair of twins is trained with."""

    lr: float
    weight_decay: float
    batch_size: int


@dataclass(frozen=True)
class Twins:
    """Two linear classifiers for each task.

    Attributes:
        weight: (2, T, K, D).
        bias: (2, T, K); -inf where a task has fewer than K classes.
        labels: (N, T) train labels after all flips.
    """

    weight: Tensor
    bias: Tensor
    labels: Tensor


def graph(stages: Stages) -> Node:
    """Return XRM's graph: a frozen network, its features, environments, stage 2."""
    first = stages.frozen("stage_1")
    exports = tuple(stages.export(first, split, features=True) for split in ("train", "val"))
    return stages.train_on_found_groups(
        exports, lambda stop: find_environments(stages, first, stop)
    )


def find_environments(
    stages: Stages, first: Node, stop: Callable[[], int | None] = lambda: None
) -> FoundGroups:
    """Return the environments of train and validation with the most flips among all settings."""
    options: XrmOptions = stages.options
    classes = [grouping.num_classes for grouping in stages.groupings]
    features, labels = {}, {}
    for split in ("train", "val"):
        values = load_features(first.run.features(split, first.epoch())).values
        features[split] = torch.from_numpy(values)  # (N, D) float16
        labels[split] = stack_labels(stages.dataset.split(split), stages.groupings)  # (N, T)
    best = [(False, -1.0)] * len(classes)  # whether all classes are in both environments, and rate
    found = {split: np.full_like(own, -1) for split, own in labels.items()}
    for number, setting in enumerate(draw_settings(options.settings, stages.seed)):
        if stop():
            raise Stopped(stop())
        train_labels = torch.from_numpy(labels["train"])
        twins = train_twins(
            *(features["train"], train_labels, classes, setting, options.steps),
            (stages.seed, number),
        )
        environments = {split: errors(features[split], twins, labels[split]) for split in labels}
        rates = flip_rates(twins.labels.numpy(), labels["train"])
        for task, rate in enumerate(rates):
            rank = (not is_degenerate(task, environments, labels), rate)
            if rank > best[task]:
                best[task] = rank
                for split, own in environments.items():
                    found[split][:, task] = own[:, task]
        print(f"{setting}: flip rates {[round(rate, 4) for rate in rates]}", flush=True)
    for task, (complete, _) in zip(stages.tasks, best):
        if not complete:
            print(f"warning: XRM found one environment only for a class of {task}", flush=True)
    data = {split: identify(stages.dataset, split) for split in labels}
    return FoundGroups(found, (2,) * len(classes), data)


def draw_settings(count: int, seed: int) -> list[Setting]:
    """Draw settings from the ranges of the paper."""
    rng = np.random.default_rng([seed, XRM_STREAM])
    return [
        Setting(
            lr=10 ** rng.uniform(-5, -3),
            weight_decay=10 ** rng.uniform(-6, -3),
            batch_size=round(2 ** rng.uniform(5, 7)),
        )
        for _ in range(count)
    ]


def train_twins(
    features: Tensor,
    labels: Tensor,
    classes: list[int],
    setting: Setting,
    steps: int,
    seeds: tuple[int, int],
) -> Twins:
    """Train both twins of all tasks; labels flip on the way.

    Args:
        features: (N, D).
        labels: (N, T) int64, -1 = unknown.
        classes: number of classes of each task.
        seeds: of the run, and the number of the setting.
    """
    count, tasks, most = len(features), len(classes), max(classes)
    twin_of = np.random.default_rng([seeds[0], XRM_STREAM, 0]).integers(0, 2, count)
    twin_of, labels = torch.from_numpy(twin_of), labels.clone()
    weight = torch.zeros(2, tasks, most, features.shape[1], requires_grad=True)
    bias = torch.zeros(2, tasks, most, requires_grad=True)
    sizes = torch.tensor(classes)  # (T,)
    closed = torch.where(torch.arange(most) < sizes[:, None], 0.0, -torch.inf)  # (T, K)
    optimizer = torch.optim.SGD(
        [weight, bias], setting.lr, MOMENTUM, weight_decay=setting.weight_decay
    )
    for step in range(1, steps + 1):
        rng = np.random.default_rng([*seeds, XRM_STREAM, step])
        size = min(setting.batch_size, count)
        rows = torch.from_numpy(rng.choice(count, size, replace=False))
        chance = torch.from_numpy(rng.random((size, 1)))
        logits = score(features[rows], weight, bias + closed)  # (2, B, T, K)
        inside = torch.where((twin_of[rows] == 0)[:, None, None], logits[0], logits[1])
        outside = torch.where((twin_of[rows] == 0)[:, None, None], logits[1], logits[0])
        optimizer.zero_grad()
        balanced_loss(inside, labels[rows]).backward()
        optimizer.step()
        confidence, predicted = torch.softmax(outside.detach(), -1).max(-1)  # (B, T)
        flips = (chance < flip_probability(confidence, sizes)) & (labels[rows] >= 0)
        labels[rows] = torch.where(flips, predicted, labels[rows])
    return Twins(weight.detach(), bias.detach() + closed, labels)


def score(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the logits (2, B, T, K) of both twins for features (B, D)."""
    flat = features.float() @ weight.flatten(0, 2).T + bias.flatten()
    return flat.unflatten(1, bias.shape).transpose(0, 1)


def balanced_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over tasks and classes of the mean cross-entropy of a class.

    A class that is absent from the batch has no term.

    Args:
        logits: (B, T, K), labels: (B, T), -1 = unknown.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.clamp(min=0).flatten(), reduction="none"
    ).view_as(labels)
    members = labels[..., None] == torch.arange(logits.shape[-1])  # (B, T, K)
    return ((members * losses[..., None]).sum(0) / members.sum(0).clamp(min=1)).sum()


def flip_probability(confidence: Tensor, classes: Tensor) -> Tensor:
    """Return (c - 1/K) K/(K - 1): 0 for a uniform prediction, 1 for a certain one."""
    return (confidence - 1 / classes) * classes / (classes - 1)


def errors(features: Tensor, twins: Twins, labels: np.ndarray) -> np.ndarray:
    """Return (N, T): 1 where a twin is wrong on the label, else 0; -1 where it is unknown."""
    wrong = []
    for start in range(0, len(features), CHUNK):
        rows = slice(start, start + CHUNK)
        predicted = score(features[rows], twins.weight, twins.bias).argmax(-1).numpy()  # (2, B, T)
        wrong.append((predicted != labels[rows]).any(0))
    return np.where(labels >= 0, np.concatenate(wrong), -1)


def flip_rates(flipped: np.ndarray, labels: np.ndarray) -> list[float]:
    """Return the share of each task's known labels (N, T) that are flipped."""
    changed = ((flipped != labels) & (labels >= 0)).sum(0)
    return (changed / np.maximum((labels >= 0).sum(0), 1)).tolist()


def is_degenerate(
    task: int, environments: dict[str, np.ndarray], labels: dict[str, np.ndarray]
) -> bool:
    """Return whether some class of a task has one environment only, in train or validation.

    A class with a single row does not count.
    """
    return any(
        (members := own[:, task] == value).sum() > 1
        and len(np.unique(environments[split][members, task])) < 2
        for split, own in labels.items()
        for value in np.unique(own[own[:, task] >= 0, task])
    )
