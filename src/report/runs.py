"""The runs of a report: what each one is, and what its network says about a split."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.api import open_evaluator, open_run
from src.config.saved import effective, read_config
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.logits import Logits, rows_identity
from src.evaluation.predict import RunEvaluator, saved_logits
from src.io import UserError
from src.json_shapes import Number, Or, misfit
from src.runs.folder import Run

# What differs between runs that are one setting: the seed, and files made from it.
OF_A_SEED = ("seed", "error_set")
# What is read here of a run's configuration.
CONFIG = {
    "name": str,
    "seed": int,
    "model": {"name": str, "pretrained": bool},
    "optimizer": {"lr": Number, "weight_decay": Number},
    "train": {"total_epochs": int},
    "dataloader": {"batch_size": int, "sampler": Or(str, None)},
    "dataset": {
        "name": str,
        "groupings": [str],
        "subsample_type": Or(str, None),
        "task_weights": Or([Number], None),
        "loss_balanced_task_weighting": bool,
        "target_resolution": [int],
        "data_augmentation": bool,
    },
}
# Methods of configs/exp/; a run of any other name is a method of one's own.
METHODS = ("erm", "rwy", "rwg", "suby", "subg", "jtt")


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """The run folders at or below some folders, sorted; a JTT run counts once."""
    found = {config.parent for folder in folders for config in folder.rglob("config.yaml")}
    return sorted(folder for folder in found if folder.name not in ("stage_1", "stage_2"))


class ReportRun:
    """A run as the report sees it; of JTT, the network of its second stage.

    Raises:
        UserError: its files are damaged.
    """

    def __init__(self, folder: Path):
        self.folder, run = folder, Run(folder)
        self.config = read_config(run.config)
        found = misfit(self.config, CONFIG)
        if found:
            raise UserError(
                f"{run.config} is no run's configuration ({found}): the folder is no sound run; "
                f"leave it out"
            )
        self.data = self.config["dataset"]
        try:
            self.groupings = parse_groupings(self.data["groupings"])
        except UserError as error:
            found = [f"{run.config}: {problem}" for problem in error.problems]
            raise UserError(found) from error
        self.method, self.seed = method_of(self.config), self.config["seed"]
        self.weighting, self.settings = weighting_of(self.data), settings_of(self.config)
        self.names = [grouping.name for grouping in self.groupings]
        self.tasks = tuple(grouping.task for grouping in self.groupings)
        status = run.status()
        self.state, self.step = status["state"], status.get("step")
        self.history: dict[str, Any] = {"epochs": {}, "selected": {}}
        self.repeats: Path | None = None  # a run of the same configuration and seed, which counts
        if self.state == "done":
            self.result = open_run(folder)
            self.history = self.result.history()

    @cached_property
    def identity(self) -> str:
        """Equal for runs that differ only in their seed."""
        values = effective(self.config).items()
        kept = {key: value for key, value in values if key.split(".")[-1] not in OF_A_SEED}
        return json.dumps(kept, sort_keys=True, default=str)

    @property
    def epochs(self) -> dict[str, int]:
        """The epoch that each rule chooses; `last` and the numbers of epochs are rules, too."""
        numbers = sorted(self.history["epochs"])
        last = {"last": numbers[-1]} if numbers else {}
        return self.history["selected"] | last | {str(epoch): epoch for epoch in numbers}

    def describe(self) -> dict[str, Any]:
        """The run in report.json."""
        return {
            "run": str(self.folder),
            "method": self.method,
            "weighting": self.weighting,
            "tasks": list(self.tasks),
            "groupings": self.names,
            "seed": self.seed,
            "settings": self.settings,
            "state": self.state,
            "step": self.step,
            "epochs": len(self.history["epochs"]),
            "selected": self.history["selected"],
            "repeats": None if self.repeats is None else str(self.repeats),
        }


def method_of(config: dict[str, Any]) -> str:
    """A run's method, by what it does: exp=erm with a sampler is the method of that sampler."""
    if config["name"] not in METHODS:
        return config["name"]
    parts = (config["method"], config["dataset"]["subsample_type"], config["dataloader"]["sampler"])
    return "+".join(part for part in parts if part) or "erm"


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """What a report says of a run's configuration; rows of one method differ in these."""
    data, model = config["dataset"], config["model"]
    return {
        "lr": config["optimizer"]["lr"],
        "weight_decay": config["optimizer"]["weight_decay"],
        "batch_size": config["dataloader"]["batch_size"],
        "epochs": config["train"]["total_epochs"],
        "network": model["name"],
        "start": "pretrained" if model["pretrained"] else "from scratch",
        "input": "x".join(map(str, data["target_resolution"])),
        "augmentation": "yes" if data["data_augmentation"] else "no",
    }


def weighting_of(data: dict[str, Any]) -> str:
    """How a run's tasks are weighed, by the names that --mtl_weighting takes."""
    if data["loss_balanced_task_weighting"]:
        return "dynamic"
    weights = data["task_weights"] or []
    # By delta or by hand: the numbers do not tell, so pages and figures call them unequal.
    return "static_delta" if any(weight != 1 for weight in weights) else "static_equal"


class SplitRows:
    """The images of one split: their groups, and an identity that logits are checked against."""

    def __init__(self, rows: Table):
        self.table = rows
        self.identity = rows_identity(rows.names, rows.codes)
        self._members: dict[Grouping, list[np.ndarray]] = {}

    def members(self, grouping: Grouping) -> list[np.ndarray]:
        """For each group the rows (N_g,) of its images; found once, as runs share groupings."""
        if grouping not in self._members:
            ids = grouping.group_ids(self.table)
            self._members[grouping] = [
                np.flatnonzero(ids == group) for group in range(grouping.num_groups)
            ]
        return self._members[grouping]


class Sources:
    """Where annotations and logits come from. Runs on the same data share its annotations.

    Args:
        root, device: where the data lie and logits are made, instead of each run's own.
    """

    def __init__(self, root: str | None = None, device: str | None = None):
        self.root, self.device = root, device
        self._rows: dict[str, SplitRows] = {}

    def rows(self, run: ReportRun, split: str) -> SplitRows:
        about = [run.data.get(key) for key in ("name", "root", "cache_dir", "synthetic")]
        key = json.dumps([split, *about], default=str)
        if key not in self._rows:
            self._rows[key] = SplitRows(self._evaluator(run).rows(split))
        return self._rows[key]

    def logits(self, run: ReportRun, rule: str, split: str) -> Logits:
        """Those on disk; missing ones are made in one pass and saved."""
        rows = self.rows(run, split)
        saved = saved_logits(run.result, split, run.epochs[rule], rows.identity, images=None)
        return self._evaluator(run).logits(rule, split) if saved is None else saved

    def _evaluator(self, run: ReportRun) -> RunEvaluator:
        return open_evaluator(run.result, self.root, self.device)


def by_setting(runs: Sequence[ReportRun]) -> list[list[ReportRun]]:
    """The finished runs, those that differ only in their seed together, by seed.

    Of two runs with the same seed the second is no second measurement: it is marked in `repeats`
    and left out. The study's families share pairs, so this happens.
    """
    settings: dict[str, dict[int, ReportRun]] = {}
    for run in runs:
        if run.state == "done":
            first = settings.setdefault(run.identity, {}).setdefault(run.seed, run)
            run.repeats = None if first is run else first.folder
    return [[same[seed] for seed in sorted(same)] for same in settings.values()]
