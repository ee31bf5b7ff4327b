"""Finished runs with planted predictions, and the matrix made from them, without any training."""

from pathlib import Path

import numpy as np

from scripts import spurious_task
from src.config.compose import load_config
from src.config.saved import save_config
from src.data.celeba import ATTRIBUTES, load_annotations
from src.data.table import Table
from src.evaluation.logits import Logits, Source, rows_identity, save_logits
from src.io import write_json
from src.runs.folder import Run
from src.runs.selection import record_validation
from tests.data.small_celeba import official_attributes

# Each task is wrong on most examples in which it disagrees with its attribute.
LEANS_ON = {
    "Attractive": "Young",
    "Blond_Hair": "Male",
    "Heavy_Makeup": "Male",
    "Male": None,
    "Smiling": "High_Cheekbones",
    "Wearing_Hat": "Eyeglasses",
}
EVALUATED = {"checkpoint": {"name": "1", "epoch": "1", "hash": "abc"}, "split": "val"}


def write_labels(root: Path, num_val: int = 800, num_train: int = 200) -> None:
    """Write random attributes; Bald is never there, and Mustache three times in val."""
    count = num_val + num_train
    attributes = np.random.default_rng(0).integers(0, 2, (count, 40), dtype=np.uint8)
    attributes[:, ATTRIBUTES.index("Bald")] = 0
    attributes[:, ATTRIBUTES.index("Mustache")] = 0
    attributes[:3, ATTRIBUTES.index("Mustache")] = 1
    names = [f"{number + 1:06d}.jpg" for number in range(count)]
    root.mkdir(parents=True)
    (root / "list_attr_celeba.txt").write_text(official_attributes(names, attributes))
    splits = "".join(f"{name} {1 if row < num_val else 0}\n" for row, name in enumerate(names))
    (root / "list_eval_partition.txt").write_text(splits)


def planted_logits(rows: Table, task: str) -> np.ndarray:
    """Return logits (N,), 90 % right, but 20 % where the task disagrees with its attribute."""
    rng = np.random.default_rng(ATTRIBUTES.index(task))
    labels, chance = rows.column(task), np.full(len(rows), 0.9)
    if LEANS_ON.get(task) is not None:
        chance[labels != rows.column(LEANS_ON[task])] = 0.2
    right = rng.random(len(rows)) < chance
    return np.where(right == (labels == 1), 1.0, -1.0)


def make_run(path: Path, root: Path, tasks: list[str], state: str = "done") -> Run:
    """Write what a trained run leaves behind; neither network nor images are needed."""
    run, cache = Run(path), root.parent / "cache"
    overrides = [f"exp.dataset.root={root}", f"exp.dataset.cache_dir={cache}"]
    save_config(load_config([*overrides, f"exp.dataset.groupings=[{','.join(tasks)}]"]), run.config)
    rows = load_annotations(root, cache).of_split("val")
    values = np.stack([planted_logits(rows, task) for task in tasks], axis=1)
    source = Source("val", "1", "abc", rows_identity(rows.names, rows.codes))
    save_logits(run.logits("val", 1), Logits(values, tuple(tasks), (2,) * len(tasks), source))
    write_json(run.epoch_stats(1), EVALUATED)
    record_validation(run, 1, {"best-avg": 0.5})
    run.set_status(state=state)
    return run


def write_planted(folder: Path, root: Path | None = None, run: str = "x") -> None:
    """Write a finished matrix folder of six tasks; labels are drawn unless there is a `root`."""
    if root is None:
        root = folder / "labels" / "celeba"
        write_labels(root)
    for task in LEANS_ON:
        made = make_run(folder / "runs" / run / task, root, [task])
        spurious_task.main(["--log_dir", str(made.path), "--json_dir", str(folder)])
