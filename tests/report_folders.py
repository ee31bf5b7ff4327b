"""Finished runs by hand: a data set without pictures, and logits that say how many are right.

What a report reads is made by the same code as in training: configuration, logits, validation.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from src.config.compose import load_config, stage_config
from src.config.saved import save_config
from src.config.schema import Config
from src.data.celeba import load_annotations
from src.data.groupings import COLUMN, parse_groupings
from src.evaluation.logits import Logits, Source, rows_identity, save_logits
from src.evaluation.results import evaluate, evaluation_json
from src.io import write_json
from src.runs.folder import Run
from src.runs.selection import record_validation, scores
from tests.data.small_celeba import official_attributes

# Of each split: how many images have exactly these attributes.
Sizes = Mapping[str, Mapping[tuple[str, ...], int]]
# Of each split, after each epoch: grouping to how many of each of its groups are right.
Right = Mapping[str, Sequence[Mapping[str, Sequence[int]]]]


def four_groups(task: str, attribute: str, count: int = 10) -> dict[tuple[str, ...], int]:
    """The same number of images in each group of `task:attribute`."""
    return dict.fromkeys([(), (attribute,), (task,), (task, attribute)], count)


def write_data(root: Path, sizes: Sizes) -> Path:
    """The two annotation files of a data set; there are no images."""
    rows, partition = [], []
    for place, split in enumerate(("train", "val", "test")):
        for names, count in sizes.get(split, {}).items():
            row = np.zeros(40, np.uint8)
            row[[COLUMN[name] for name in names]] = 1
            rows += [row] * count
            partition += [place] * count
    images = [f"{number:06d}.jpg" for number in range(len(rows))]
    root.mkdir(parents=True)
    (root / "list_attr_celeba.txt").write_text(official_attributes(images, np.array(rows)))
    lines = "".join(f"{image} {place}\n" for image, place in zip(images, partition))
    (root / "list_eval_partition.txt").write_text(lines)
    return root


@cache
def _composed(*overrides: str) -> Config:
    return load_config(list(overrides))


def write_run(
    folder: Path, root: Path, groupings: Sequence[str], right: Right, *overrides: str, seed: int = 0
) -> Path:
    """A run that is done, with as many epochs as `right` has; returns its folder.

    Of each group the first images are right. A JTT run (exp=jtt) gets both stages' folders.
    """
    named = f"exp.dataset.groupings=[{','.join(groupings)}]"
    places = f"exp.dataset.root={root}", f"exp.dataset.cache_dir={root}/cache"
    config = _composed(*overrides, *places, named)
    config.seed = seed
    save_config(config, folder / "config.yaml")
    run = Run(folder)
    run.set_status(state="done", step=100)
    if config.method == "jtt":
        run = Run(folder / "stage_2")
        save_config(stage_config(config, "stage_2"), run.config)
    rows = load_annotations(root, config.dataset.cache_dir)
    for split, epochs in right.items():
        for epoch, counts in enumerate(epochs, start=1):
            write_logits(run, rows.of_split(split), split, epoch, counts)
    return folder


def write_logits(run: Run, rows, split: str, epoch: int, counts: Mapping[str, Sequence[int]]):
    """Logits of an epoch; those of val also choose, as they do after an epoch of training."""
    groupings = parse_groupings(counts)
    values = np.empty((len(rows), len(groupings)), np.float32)  # (N, T)
    for place, grouping in enumerate(groupings):
        labels, groups = grouping.labels(rows), grouping.group_ids(rows)
        number = np.empty(len(rows), int)  # of each image within its group
        for group in range(grouping.num_groups):
            members = np.flatnonzero(groups == group)
            number[members] = np.arange(len(members))
        is_right = number < np.asarray(counts[grouping.name])[groups]
        values[:, place] = np.where(is_right == (labels == 1), 1, -1)
    identity = rows_identity(rows.names, rows.codes)
    tasks = tuple(grouping.task for grouping in groupings)
    source = Source(split, str(epoch), f"weights of epoch {epoch}", identity)
    logits = Logits(values, tasks, (2,) * len(tasks), source)
    save_logits(run.logits(split, epoch), logits)
    if split == "val":
        stats = evaluate(logits, groupings, rows)
        write_json(run.epoch_stats(epoch), evaluation_json(run.path, logits, str(epoch), stats))
        record_validation(run, epoch, scores(stats, by_group=True))
        run.ckpts.mkdir(exist_ok=True)
        run.checkpoint(epoch).touch()
