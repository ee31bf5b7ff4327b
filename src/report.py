"""Many runs as one table of results: seeds together, selection rules side by side.

Everything is arithmetic on saved logits and annotations; logits that are missing are made once.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from src.bootstrap import difference, over_seeds
from src.config import effective, read_config_file
from src.data.groupings import COLUMN, Grouping, parse_groupings
from src.errors import UserError
from src.inference import RunEvaluator, open_run
from src.published import reference
from src.report_rows import SAME_FOR_ONE_TASK, own_rule
from src.runs import Run

# What differs between runs that are one setting: the seed, and files made from it.
OF_A_SEED = ("seed", "error_set")


class ReportRun:
    """A run as the report sees it: what it is, and what its network says about a split."""

    def __init__(self, folder: Path, root: str | None, device: str | None):
        self.folder, self.run, self._root, self._device = folder, Run(folder), root, device
        self.config = read_config_file(self.run.config)
        data = self.config["dataset"]
        self.groupings = parse_groupings(data["groupings"])
        self.names = [grouping.name for grouping in self.groupings]
        self.method, self.seed = self.config["name"], self.config["seed"]
        self.weighting = weighting_of(data)
        self.settings = {
            "lr": self.config["optimizer"]["lr"],
            "weight_decay": self.config["optimizer"]["weight_decay"],
            "batch_size": self.config["dataloader"]["batch_size"],
            "epochs": self.config["train"]["total_epochs"],
        }
        self.state = self.run.status()["state"]
        self.history: dict[str, Any] = {"epochs": {}, "selected": {}}
        self._evaluator: RunEvaluator | None = None  # made when logits are asked for
        self._logits: dict[tuple[int, str], Any] = {}
        if self.state == "done":
            self.result = open_run(folder)  # of JTT, its second stage
            self.history = self.result.history()

    @property
    def identity(self) -> str:
        """Equal for runs that differ only in their seed."""
        values = effective(self.config).items()
        kept = {key: value for key, value in values if key.split(".")[-1] not in OF_A_SEED}
        return json.dumps(kept, sort_keys=True, default=str)

    def describe(self) -> dict[str, Any]:
        """The run in report.json."""
        return {
            "run": str(self.folder),
            "method": self.method,
            "weighting": self.weighting,
            "tasks": [grouping.task for grouping in self.groupings],
            "groupings": self.names,
            "seed": self.seed,
            "settings": self.settings,
            "state": self.state,
            "step": self.run.status().get("step"),
            "epochs": len(self.history["epochs"]),
            "selected": self.history["selected"],
        }

    def right(
        self, rule: str, split: str, grouping: Grouping, threshold: float
    ) -> tuple[np.ndarray, np.ndarray, str]:
        """Whether each prediction is right (N,), the groups (N,), and the identity of the rows."""
        epoch = self.history["selected"][rule]
        if self._evaluator is None:
            self._evaluator = RunEvaluator(self.result, self._root, self._device)
        if (epoch, split) not in self._logits:
            self._logits[epoch, split] = self._evaluator.logits(rule, split)
        logits = self._logits[epoch, split]
        attributes = self._evaluator.rows(split).attributes
        positive = attributes[:, COLUMN[grouping.task]] == 1
        right = (logits.of_task(grouping.task) > threshold) == positive
        return right, grouping.group_ids(attributes), logits.data


def weighting_of(data: dict[str, Any]) -> str:
    """How a run's tasks are weighed, by the names that --mtl_weighting takes."""
    if data["loss_balanced_task_weighting"]:
        return "dynamic"
    weights = data["task_weights"] or []
    return "static_delta" if any(weight != 1 for weight in weights) else "static_equal"


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run folders at or below some folders, sorted; a JTT run counts once."""
    found = {config.parent for folder in folders for config in folder.rglob("config.yaml")}
    return sorted(folder for folder in found if folder.name not in ("stage_1", "stage_2"))


def build_report(
    folders: Sequence[Path],
    split: str = "test",
    rules: Sequence[str] | None = None,
    threshold: float = 0.0,
    root: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """The report on the runs in `folders`, see the README for its keys.

    Args:
        rules: selection rules; None takes all that the runs' validation has.
        threshold: a logit above it counts as class 1.
        root, device: where the data lie and logits are made, instead of each run's own.

    Raises:
        UserError: no run, or a run whose files are damaged.
    """
    runs = [ReportRun(folder, root, device) for folder in folders]
    if not runs:
        raise UserError("there is no run: give folders that hold runs, such as --log_dirs 'logs/*'")
    settings: dict[str, list[ReportRun]] = {}
    for run in runs:
        if run.state == "done":
            settings.setdefault(run.identity, []).append(run)
    rows, measured = [], []
    for group in settings.values():
        group.sort(key=lambda run: run.seed)
        known = [rule for rule in group[0].history["selected"] if rules is None or rule in rules]
        for rule in known:
            for grouping in group[0].groupings:
                row, right = result_row(group, rule, split, grouping, threshold)
                if own_rule(row) is not None:  # an epoch chosen for another task says nothing
                    rows.append(row)
                    measured.append(right)
    return {
        "runs": [run.describe() for run in runs],
        "rows": rows,
        "comparisons": compare(rows, measured),
    }


def result_row(
    runs: Sequence[ReportRun], rule: str, split: str, grouping: Grouping, threshold: float
) -> tuple[dict[str, Any], tuple[np.ndarray, np.ndarray, str]]:
    """One row of the report, and what it was made from: right (S, N), groups (N,), the data."""
    parts = [run.right(rule, split, grouping, threshold) for run in runs]
    if len({data for _, _, data in parts}) > 1:
        raise UserError(
            f"{runs[0].folder.parent}: the seeds were measured on different images; report on one "
            f"data set at a time"
        )
    right, groups = np.stack([part[0] for part in parts]), parts[0][1]
    figures = over_seeds(right, groups, grouping.num_groups)
    worst = figures["worst_group"]
    worst["groups"] = [grouping.group_names[group] for group in worst.pop("ids")]
    for name, group in zip(grouping.group_names, figures["groups"]):
        group["name"] = name
    first = runs[0]
    row = {
        "split": split,
        "rule": rule,
        "method": first.method,
        "weighting": first.weighting,
        "settings": first.settings,
        "groupings": first.names,
        "grouping": grouping.name,
        "seeds": [run.seed for run in runs],
        "runs": [str(run.folder) for run in runs],
        "epochs": [run.history["selected"][rule] for run in runs],
        **figures,
        "interval": "seeds and images" if len(runs) > 1 else "test-set variation only",
        "reference": reference(
            first.method,
            first.names,
            first.config["model"]["name"],
            split,
            first.config["dataset"]["name"],
            worst["mean"],
        ),
    }
    return row, (right, groups, parts[0][2])


def compare(
    rows: Sequence[dict[str, Any]], measured: Sequence[tuple[np.ndarray, np.ndarray, str]]
) -> list[dict[str, Any]]:
    """Each task trained with others against the same task alone: one method, one rule, the same
    images. Of several settings alone the one of the same values counts, else the first."""
    alone: dict[tuple, list[int]] = {}
    for place, row in enumerate(rows):
        if len(row["groupings"]) == 1:
            key = (row["method"], row["grouping"], row["rule"], measured[place][2])
            alone.setdefault(key, []).append(place)
    comparisons = []
    for row, (right, groups, data) in zip(rows, measured):
        if len(row["groupings"]) == 1:
            continue
        own = own_rule(row)
        rule = SAME_FOR_ONE_TASK.get(own, own)
        places = alone.get((row["method"], row["grouping"], rule, data), [])
        places = [p for p in places if rows[p]["settings"] == row["settings"]] or places
        if places:
            num_groups = len(row["groups"])
            gaps = difference(right, measured[places[0]][0], groups, num_groups)
            keys = ("split", "rule", "method", "weighting", "settings", "grouping", "groupings")
            both = min(len(row["seeds"]), len(rows[places[0]]["seeds"]))
            kind = "seeds and images" if both > 1 else "test-set variation only"
            about = {key: row[key] for key in keys}
            about |= {"seeds": row["seeds"], "alone": rows[places[0]]["runs"], "interval": kind}
            comparisons.append(about | gaps)
    return comparisons
