"""A whole study as run folders, drawn: every family, three seeds, 1,000 runs.

python -m tests.report_study FOLDER [RUNS [IMAGES]]
"""

import json
import sys
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice
from pathlib import Path

import numpy as np

from scripts.experiments import FAMILIES, SEEDS, SINGLE_TASKS, Tasks
from src.config.compose import load_config
from src.config.saved import save_config
from src.data.celeba import load_annotations
from src.data.groupings import parse_groupings
from src.data.table import Table
from src.evaluation.logits import Logits, Source, rows_identity, save_logits
from src.evaluation.results import evaluate, evaluation_json
from src.io import write_json
from src.runs.folder import Run
from src.runs.selection import record_validation, scores
from src.training.validation import flat_metrics
from tests.data.small_celeba import write_annotations

EPOCHS, LINES = 3, 30  # of a run; of metrics.jsonl in an epoch
METHODS = {  # sampler, subset
    "erm": (None, None),
    "suby": (None, "suby"),
    "rwy": ("rwy", None),
    "subg": (None, "subg"),
    "rwg": ("rwg", None),
}
WEIGHTINGS = {
    "static_equal": lambda count: {},
    "dynamic": lambda count: {"loss_balanced_task_weighting": True},
    "static_delta": lambda count: {
        "task_weights": [*[0.5, 0.25, 0.125][: count - 1], 0.5 ** (count - 1)]
    },
}


def study() -> Iterator[tuple[str, Tasks, str, int]]:
    """Method, groupings, weighting and seed of each run; what is held against something first."""
    together = dict.fromkeys(tuple(run) for runs in FAMILIES.values() for run in runs)
    for method in METHODS:
        for tasks in (*SINGLE_TASKS, *together):
            for weighting in WEIGHTINGS if len(tasks) > 1 else ("static_equal",):
                for seed in SEEDS:
                    yield method, tasks, weighting, seed


def write_study(folder: Path, runs: int = 1000, images: int = 400) -> list[Path]:
    """Write `runs` finished runs below `folder`/logs, and their data set with `images` in each of
    its splits, of which CelebA's test split has 19,962; returns their folders."""
    root = folder / "data"
    write_annotations(root, [1] * images + [2] * images)
    places = [f"exp.dataset.root={root}", f"exp.dataset.cache_dir={root}/cache"]
    plain = load_config([*places, "exp.train.log_dir=anywhere", f"exp.train.total_epochs={EPOCHS}"])
    rows = load_annotations(root, root / "cache")
    splits = {split: rows.of_split(split) for split in ("val", "test")}
    written = []
    for number, (method, tasks, weighting, seed) in enumerate(islice(study(), runs)):
        config = deepcopy(plain)
        config.name, config.seed, config.dataset.groupings = method, seed, list(tasks)
        config.dataloader.sampler, config.dataset.subsample_type = METHODS[method]
        config.dataset.subsample = METHODS[method][1] is not None
        vars(config.dataset).update(WEIGHTINGS[weighting](len(tasks)))
        config.objective.across = "lbtw" if weighting == "dynamic" else "static"
        name = "_".join(tasks).replace(":", "-")
        run = Run(folder / "logs" / method / name / f"{weighting}-seed{seed}")
        save_config(config, run.config)
        run.set_status(state="done", step=EPOCHS * LINES * 50)
        write_results(run, tasks, splits, weighting == "dynamic", number)
        written.append(run.path)
    return written


def write_results(
    run: Run, tasks: Tasks, splits: dict[str, Table], dynamic: bool, number: int
) -> None:
    """What training and evaluation leave: logits, choices and metrics.jsonl."""
    rng = np.random.default_rng(number)
    groupings, lines = parse_groupings(tasks), []
    for epoch in range(1, EPOCHS + 1):
        for split, rows in splits.items():
            labels = np.stack([grouping.labels(rows) for grouping in groupings], axis=1)
            values = rng.normal(2.0 * labels - 1, 1.0).astype(np.float32)  # (N, T)
            identity = rows_identity(rows.names, rows.codes)
            source = Source(split, str(epoch), f"{number}-{epoch}", identity)
            names = tuple(grouping.task for grouping in groupings)
            logits = Logits(values, names, (2,) * len(names), source)
            save_logits(run.logits(split, epoch), logits)
            if split == "val":
                stats = evaluate(logits, groupings, rows)
                write_json(
                    run.epoch_stats(epoch), evaluation_json(run.path, logits, str(epoch), stats)
                )
                record_validation(run, epoch, scores(stats, by_group=True))
        for line in range(1, LINES + 1):
            step = 50 * (LINES * (epoch - 1) + line)
            weight = 1 - 0.1 * rng.random() if dynamic else 1.0
            weights = {f"train/{grouping.task}/weight": weight for grouping in groupings}
            lines.append({"step": step, "epoch": epoch, "train/loss": 1 / step, **weights})
        lines.append({"step": step, "epoch": epoch, **flat_metrics(stats)})
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    write_study(Path(sys.argv[1]), *map(int, sys.argv[2:]))
