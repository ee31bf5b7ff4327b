"""A matrix folder made from planted predictions, without any training."""

from pathlib import Path

import numpy as np

from src.data.groupings import ATTRIBUTES, COLUMN
from src.evaluation.logits import rows_identity
from src.spurious.delta import count_pairs
from src.spurious.results import Labels, TaskResult, write_labels, write_task

# Each task is wrong on most examples in which it disagrees with its attribute.
LEANS_ON = {
    "Attractive": "Young",
    "Blond_Hair": "Male",
    "Heavy_Makeup": "Male",
    "Male": None,
    "Smiling": "High_Cheekbones",
    "Wearing_Hat": "Eyeglasses",
}


def planted_labels(count: int = 800, split: str = "val", root: str = "nowhere") -> Labels:
    """Random attributes; Bald is never there, and Mustache three times."""
    attributes = np.random.default_rng(0).integers(0, 2, (count, 40), dtype=np.uint8)
    attributes[:, COLUMN["Bald"]] = 0
    attributes[:, COLUMN["Mustache"]] = 0
    attributes[:3, COLUMN["Mustache"]] = 1
    names = np.array([f"{number + 1:06d}.jpg" for number in range(count)])
    joint = attributes.astype(np.int64).T @ attributes.astype(np.int64)
    return Labels(split, rows_identity(names, attributes), root, names, attributes, joint, count)


def planted_task(labels: Labels, task: str, run: str = "logs/x") -> TaskResult:
    """90 % right, but 20 % where the task disagrees with the attribute it leans on."""
    rng = np.random.default_rng(COLUMN[task])
    truth = labels.attributes[:, COLUMN[task]]
    chance = np.full(len(truth), 0.9)
    if LEANS_ON[task] is not None:
        chance[truth != labels.attributes[:, COLUMN[LEANS_ON[task]]]] = 0.2
    right = rng.random(len(truth)) < chance
    correct, total = count_pairs(right[:, None], truth[:, None], labels.attributes)
    checkpoint = {"name": "best-avg", "epoch": "3", "hash": "abc"}
    return TaskResult(task, run, checkpoint, labels.split, labels.data, correct[0], total[0], right)


def write_planted(folder: Path, split: str = "val", root: str = "nowhere", run: str = "logs/x"):
    """A finished matrix folder of six tasks; returns its labels."""
    labels = planted_labels(split=split, root=root)
    write_labels(folder, labels)
    for task in LEANS_ON:
        write_task(folder, planted_task(labels, task, run))
    assert set(LEANS_ON) < set(ATTRIBUTES)
    return labels
