"""The runs of a report: settings, selected epochs, and logits of a split."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from src.api import open_run
from src.config.compose import load_saved_config
from src.config.dataset import TABLE_OPTIONS
from src.config.saved import effective, read_config
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.evaluator import RunEvaluator
from src.evaluation.logits import Logits, load_logits, rows_identity
from src.evaluation.results import load_if_same
from src.io import UserError, read_json
from src.report.settings import (
    OF_A_SEED,
    OF_SEVERAL_TASKS,
    OPTIONS_OF_SEVERAL_TASKS,
    method_of,
    settings_of,
    weighting_of,
    without,
)
from src.runs.folder import Run
from src.runs.head_info import HeadInfo, head_file
from src.runs.probes import read_probes


def find_runs(folders: Iterable[Path]) -> list[Path]:
    """Find the run folders at or below some folders, sorted; a staged run counts once."""
    found = {config.parent for folder in folders for config in folder.rglob("config.yaml")}
    return sorted(folder for folder in found if not folder.name.startswith("stage_"))


class ReportRun:
    """A run as the report sees it; of a staged run, the network of the last stage.

    Attributes:
        leaves: all values that decide its result, by dotted key.
        repeats: an earlier run of the same configuration and seed, which counts instead.

    Raises:
        UserError: its files are damaged.
    """

    def __init__(self, folder: Path):
        self.folder, run = folder, Run(folder)
        read, self.config = read_config(run.config), load_saved_config(run.config)
        self.data = read["dataset"]
        try:
            self.groupings = parse_groupings(self.data["groupings"], columns=run.classes())
        except UserError as error:
            problems = [f"{run.config}: {problem}" for problem in error.problems]
            raise UserError(problems) from error
        self.leaves = effective(self.config)  # with the defaults of keys that came later
        self.method, self.seed = method_of(self.config), self.config.seed
        self.weighting, self.settings = weighting_of(self.config), settings_of(self.config)
        self.names = [grouping.name for grouping in self.groupings]
        self.tasks = tuple(grouping.task for grouping in self.groupings)
        status = run.status()
        self.state, self.step = status["state"], status.get("step")
        self.history: dict[str, Any] = {"epochs": {}, "selected": {}}
        self.repeats: Path | None = None
        if self.state == "done":
            self.result = open_run(folder)
            self.history = self.result.history()

    @cached_property
    def identity(self) -> str:
        """Equal for runs that differ only in their seed."""
        return json.dumps(without(self.leaves, OF_A_SEED), sort_keys=True, default=str)

    @cached_property
    def comparable(self) -> dict[str, Any]:
        """Equal where a task alone measures the effect of the other tasks, and nothing else."""
        values = without(self.leaves, OF_A_SEED + OF_SEVERAL_TASKS)
        return {
            key: value
            for key, value in values.items()
            if not key.startswith(OPTIONS_OF_SEVERAL_TASKS)
        }

    @property
    def epochs(self) -> dict[str, int]:
        """The epoch that each rule selects; `last` and the numbers of epochs are rules, too."""
        numbers = sorted(self.history["epochs"])
        last = {"last": numbers[-1]} if numbers else {}
        return self.history["selected"] | last | {str(epoch): epoch for epoch in numbers}

    @property
    def has_validation(self) -> bool:
        """Whether validation kept examples that its last fit did not use; see HeadInfo."""
        values = [value for epoch in self.history["epochs"].values() for value in epoch.values()]
        return not values or any(value is not None for value in values)

    @cached_property
    def is_fitted_on_val(self) -> bool:
        """Whether it is a head fitted on validation, whose accuracy there measures nothing."""
        path = head_file(self.result)
        return path.exists() and bool(read_json(path, HeadInfo).fit_rows)

    def probes(self) -> list[dict[str, Any]]:
        """Return what `scripts.probe_features` found out about the run, a dict per grouping."""
        return [
            {"epoch": file.epoch, "fit": file.fit, "measured": file.measured} | found.model_dump()
            for file in (read_probes(self.result) if self.state == "done" else [])
            for found in file.probes
        ]

    def describe(self) -> dict[str, Any]:
        """Return the run as it stands in report.json."""
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
            "has_validation": self.has_validation,
            "probes": self.probes(),
            "repeats": None if self.repeats is None else str(self.repeats),
        }


class SplitRows:
    """The images of one split: their groups, and the identity that logits must have."""

    def __init__(self, rows: Table):
        self.table = rows
        self.identity = rows_identity(rows.names, rows.codes)
        self._members: dict[Grouping, list[np.ndarray]] = {}

    def members(self, grouping: Grouping) -> list[np.ndarray]:
        """Return the rows (N_g,) of each group's images; cached, as runs share groupings."""
        if grouping not in self._members:
            rows, groups = grouping.members(self.table)
            self._members[grouping] = [rows[groups == g] for g in range(grouping.num_groups)]
        return self._members[grouping]


class Sources:
    """Opens annotations and logits; runs on the same data share its annotations.

    Args:
        root, device: where the data lie and logits are made, instead of each run's own.
    """

    def __init__(self, root: str | Path | None = None, device: str | None = None):
        self.root, self.device = root, device
        self._rows: dict[str, SplitRows] = {}

    def rows(self, run: ReportRun, split: str) -> SplitRows:
        options = ("name", "root", "cache_dir", "synthetic", *sorted(TABLE_OPTIONS))
        about = [run.data.get(key) for key in options]
        key = json.dumps([split, *about], default=str)
        if key not in self._rows:
            self._rows[key] = SplitRows(self._evaluator(run).rows(split))
        return self._rows[key]

    def logits(self, run: ReportRun, epoch: int, split: str) -> Logits:
        """Read saved logits; missing ones are made in one pass and saved."""
        saved = None
        if self.root is None:  # else perhaps other images with the same names and labels
            about = run.result.logits(split, epoch), run.result, epoch
            saved = load_if_same(load_logits, *about, self.rows(run, split).identity)
        return self._evaluator(run).logits(str(epoch), split) if saved is None else saved

    def _evaluator(self, run: ReportRun) -> RunEvaluator:
        return RunEvaluator(run.result, self.root, self.device)


def by_setting(runs: Sequence[ReportRun]) -> list[list[ReportRun]]:
    """Group the finished runs that differ only in their seed; each group is sorted by seed.

    A second run with the same seed is no second measurement: it is marked in `repeats` and left
    out. Families of experiments share pairs, so this happens.
    """
    settings: dict[str, dict[int, ReportRun]] = {}
    for run in runs:
        if run.state == "done":
            first = settings.setdefault(run.identity, {}).setdefault(run.seed, run)
            run.repeats = None if first is run else first.folder
    return [[same[seed] for seed in sorted(same)] for same in settings.values()]
