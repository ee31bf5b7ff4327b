"""SSA (Nam et al. 2022, "Spread Spurious Attribute"): attributes of train from those of validation.

Train is cut in K parts. For each part a network learns the attributes from half of validation,
where they are known, and from the other parts, where it trusts its own confident predictions
(src/methods/ssa_fold.py). The other half of validation selects its epoch. It then predicts the
attributes of its part, and group DRO follows on (class, predicted attributes), selected by the true
groups of validation. No attribute of train is used.

One network predicts the attributes of all tasks. An attribute of several tasks is learnt once, and
its groups are those of the attribute with the classes of these tasks; of more than three tasks,
those with the smallest groups in validation.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from src.data.groupings import Grouping
from src.data.table import Table
from src.evaluation.logits import load_logits, predictions
from src.io import UserError
from src.methods.found_groups import FoundGroups, identify
from src.methods.options import SsaOptions
from src.methods.stages import Node, Stages
from src.objective.options import ObjectiveOptions
from src.sampling.draws import FOLD_STREAM

MOST_JOINED = 3  # tasks of one attribute; each doubles the number of groups


def graph(stages: Stages) -> Node:
    """Return SSA's graph: a network per part, its logits on train, pseudo groups, stage 2."""
    options: SsaOptions = stages.options
    attributes = attribute_groupings(stages.groupings, stages.dataset.split("val"))
    steps = min(options.steps, stages.config.train.max_steps or options.steps)
    folds = [
        stages.train(
            "stage_1",
            own_step=True,
            folder=f"stage_1_fold_{fold + 1}",
            dataset={
                "groupings": attributes,
                "task_weights": None,
                "loss_balanced_task_weighting": False,
            },
            objective=ObjectiveOptions(across="static").model_dump(),
            train={"total_epochs": math.ceil(steps / options.interval), "max_steps": steps},
            ssa={"fold": fold},
        )
        for fold in range(options.folds)
    ]
    folds = [replace(node, checkpoint="best-group") for node in folds]
    logits = tuple(stages.export(node, "train") for node in folds)
    return stages.train_on_found_groups(logits, lambda _: pseudo_groups(stages, folds))


def attribute_groupings(groupings: Sequence[Grouping], rows: Table) -> list[str]:
    """Return a grouping per attribute: `Male:Young+Smiling` for Young:Male and Smiling:Male.

    Args:
        rows: of validation.
    """
    tasks: dict[str, list[str]] = {}
    smallest = {}
    for grouping in groupings:
        groups = grouping.group_ids(rows)
        smallest[grouping.task] = np.bincount(groups[groups >= 0]).min(initial=len(rows))
        for attribute in grouping.attributes:
            tasks.setdefault(attribute, []).append(grouping.task)
    if not all(grouping.attributes for grouping in groupings):
        raise UserError("exp=ssa predicts attributes: write groupings as Task:Attr")
    for own in tasks.values():
        kept = sorted(own, key=smallest.get)[:MOST_JOINED]
        own[:] = [task for task in own if task in kept]
    return [f"{attribute}:{'+'.join(own)}" for attribute, own in tasks.items()]


def train_parts(num_examples: int, folds: int, seed: int) -> list[np.ndarray]:
    """Return the positions of each part of train."""
    rng = np.random.default_rng([seed, FOLD_STREAM])
    return np.array_split(rng.permutation(num_examples), folds)


def pseudo_groups(stages: Stages, folds: Sequence[Node]) -> FoundGroups:
    """Return the predicted attribute values of each train example, as environments.

    An environment is numbered as in the groups of the data set.
    """
    rows = stages.dataset.split("train")
    parts = train_parts(len(rows), len(folds), stages.seed)
    logits = [load_logits(node.run.logits("train", node.epoch())) for node in folds]
    columns = []
    for grouping in stages.groupings:
        code = np.zeros(len(rows), np.int64)
        for attribute, classes in zip(grouping.attributes, grouping.classes[1:]):
            predicted = np.empty(len(rows), np.int64)
            for part, own in zip(parts, logits):
                predicted[part] = predictions(own.of_task(attribute)[part])
            code = code * len(classes) + predicted
        columns.append(code)
    sizes = tuple(grouping.num_groups // grouping.num_classes for grouping in stages.groupings)
    data = {"train": identify(stages.dataset, "train")}
    return FoundGroups({"train": np.stack(columns, axis=1)}, sizes, data)
