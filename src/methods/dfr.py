"""DFR (Kirichenko et al. 2023, "Last Layer Re-Training is Sufficient for Robustness ...").

A last layer is fitted on the features of a finished ERM network, on balanced subsets of validation
(or of train): L1-regularised logistic regression, with the strength chosen on held-out groups, and
averaged over several balanced subsets. For several tasks each has its own head, subsets and
strength. As in their second code base, features are standardised by all of validation.
"""

import numpy as np
import torch
from torch import Tensor

from src.methods.heads import Head, HeadData, fit_each_task, standardisation
from src.methods.options import DfrOptions
from src.methods.stages import Node, Stages

STRENGTHS = (1.0, 0.7, 0.3, 0.1, 0.07, 0.03, 0.01)  # C, of which the first best one is chosen
DFR_STREAM = 20


def graph(stages: Stages) -> Node:
    """Return DFR's graph: an ERM network, its features, the head."""
    splits = sorted({"val", stages.options.fit})
    return stages.head(stages.train("stage_1"), fit, splits)


def fit(data: HeadData, options: DfrOptions) -> Head:
    """Fit one head per task."""
    rng = np.random.default_rng([data.seed, DFR_STREAM])
    every_row = np.arange(len(data.labels("val")))
    if options.fit == "train":
        tune = final = np.arange(len(data.labels("train")))
        score = every_row
    else:
        tune, score = data.halves()
        final = every_row if options.refit == "all" else tune
    mean, deviation = standardisation(data.features("val"))

    def fit_one(task: int) -> tuple[tuple[Tensor, Tensor], float]:
        classes = data.layout.num_classes[task]
        strength = choose_strength(data, task, options, tune, score, rng)
        models = []
        for _ in range(options.num_retrains):
            x, y = balanced_subset(data, task, options.fit, final, rng)
            x = ((x - mean) / deviation).numpy()
            models.append(regress(x, y, classes, strength, options, data.seed))
        return average(models, mean, deviation), strength

    used = final if options.fit == "val" else None
    return fit_each_task(data, fit_one, "C", used)


def choose_strength(
    data: HeadData,
    task: int,
    options: DfrOptions,
    tune: np.ndarray,
    score: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """Return the C whose fit on a balanced subset has the best worst group on `score` of val."""
    x, y = balanced_subset(data, task, options.fit, tune, rng)
    mean, deviation = standardisation(x)
    x = ((x - mean) / deviation).numpy()
    held_out = ((data.features("val")[score] - mean) / deviation).numpy()
    classes, accuracies = data.layout.num_classes[task], []
    for strength in STRENGTHS:
        weight, bias = regress(x, y, classes, strength, options, data.seed)
        logits = held_out @ weight.T + bias
        logits = logits[:, 0] if classes == 2 else logits
        accuracies.append(data.worst_group(logits, task, score))
    return STRENGTHS[int(np.argmax(accuracies))]


def balanced_subset(
    data: HeadData, task: int, split: str, rows: np.ndarray, rng: np.random.Generator
) -> tuple[Tensor, np.ndarray]:
    """Draw as many of `rows` from each group; return their features and labels."""
    subset = rows[balanced(data.groups(split)[rows, task], rng)]
    return data.features(split)[subset], data.labels(split)[subset, task]


def balanced(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many rows of each group (N,) as the smallest has; -1 (unknown) is left out."""
    present = np.unique(groups[groups >= 0])
    size = min((groups == group).sum() for group in present)
    drawn = [rng.permutation(np.flatnonzero(groups == group))[:size] for group in present]
    return np.concatenate(drawn)


def regress(
    x: np.ndarray, y: np.ndarray, classes: int, strength: float, options: DfrOptions, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit L1 logistic regression; return weights (1 or K, D) and biases (1 or K,).

    liblinear penalises the bias, too. More than two classes are fitted one against the rest.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to load

    weights, biases = [], []
    for target in [1] if classes == 2 else range(classes):
        model = LogisticRegression(
            l1_ratio=1, C=strength, solver="liblinear", random_state=seed, max_iter=options.max_iter
        )
        model.fit(x, y == target)
        weights.append(model.coef_[0])
        biases.append(model.intercept_[0])
    return np.array(weights), np.array(biases)


def average(
    models: list[tuple[np.ndarray, np.ndarray]], mean: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    """Average heads for standardised features, and fold the standardisation in."""
    weight = torch.from_numpy(np.mean([weight for weight, _ in models], axis=0)).float()
    bias = torch.from_numpy(np.mean([bias for _, bias in models], axis=0)).float()
    weight = weight / deviation
    return weight, bias - weight @ mean
