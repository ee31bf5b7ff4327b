"""The runs of a report: settings, selected epochs, and logits of a split."""

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from src.api import open_evaluator, open_run
from src.config.saved import effective, read_config
from src.config.schema import TABLE_OPTIONS
from src.data.groupings import Grouping, parse_groupings
from src.data.table import Table
from src.evaluation.logits import Logits, rows_identity
from src.evaluation.predict import RunEvaluator, saved_logits
from src.io import UserError, read_json, validation_problems
from src.objective.options import ACROSS, GRADIENT
from src.report.rows import CUT
from src.runs.folder import Run
from src.runs.head_info import HeadInfo, head_file

# What differs between runs of one setting: the seed, and files made from it.
OF_A_SEED = ("seed", "error_set", "run")
# Keys that a row shows in columns or settings of their own.
SHOWN_ELSEWHERE = {
    *("name", "method", "dataloader.sampler", "dataset.subsample", "dataset.subsample_type"),
    *("dataset.groupings", "dataset.task_weights", "dataset.loss_balanced_task_weighting"),
    *("objective.across", "objective.gradient"),
    *("optimizer.lr", "optimizer.weight_decay", "dataloader.batch_size"),
    *("train.total_epochs", "train.max_steps", "model.name", "model.pretrained"),
    *("dataset.target_resolution", "dataset.data_augmentation"),
}
# What may differ where a task alone is compared with the same task among others.
OF_SEVERAL_TASKS = ("groupings", "task_weights", "loss_balanced_task_weighting", "lbtw_alpha")
OF_SEVERAL_TASKS += ("across", "gradient", "mtl_join_type", "name")
OPTIONS_OF_SEVERAL_TASKS = tuple(f"objective.{name}." for name in (*ACROSS, *GRADIENT))
# Methods that are a sampler or a subset; exp=erm with a sampler counts as one of them.
PLANS = ("erm", "rwy", "rwg", "suby", "subg")


class _Section(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Model(_Section):
    name: str
    pretrained: bool


class _Optimizer(_Section):
    lr: float
    weight_decay: float


class _Train(_Section):
    total_epochs: int
    max_steps: int | None = None


class _Loader(_Section):
    batch_size: int
    sampler: str | None


class _Data(_Section):
    name: str
    groupings: list[str]
    subsample_type: str | None
    task_weights: list[float] | None
    loss_balanced_task_weighting: bool
    target_resolution: list[int]
    data_augmentation: bool


class RunConfig(_Section):
    """What the report reads of a saved configuration."""

    name: str
    seed: int
    method: str | None
    model: _Model
    optimizer: _Optimizer
    train: _Train
    dataloader: _Loader
    dataset: _Data


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
        read = read_config(run.config)
        try:
            self.config = RunConfig.model_validate(read)
        except ValidationError as error:
            reason = "; ".join(validation_problems(error)[:3])
            raise UserError(f"{run.config} cannot be used ({reason}); leave the run out") from error
        self.data = read["dataset"]
        try:
            self.groupings = parse_groupings(self.data["groupings"], columns=run.classes())
        except UserError as error:
            problems = [f"{run.config}: {problem}" for problem in error.problems]
            raise UserError(problems) from error
        self.leaves = effective(read)
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
        return json.dumps(_without(self.leaves, OF_A_SEED), sort_keys=True, default=str)

    @cached_property
    def comparable(self) -> dict[str, Any]:
        """Equal where a task alone measures the effect of the other tasks, and nothing else."""
        values = _without(self.leaves, OF_A_SEED + OF_SEVERAL_TASKS)
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
            "repeats": None if self.repeats is None else str(self.repeats),
        }


def _without(leaves: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in leaves.items() if key.rpartition(".")[2] not in names}


def method_of(config: RunConfig) -> str:
    """Name a run's method by what it does: exp=erm with a sampler is the method of that sampler."""
    if config.name not in PLANS or config.method is not None:
        return config.name
    parts = (config.dataset.subsample_type, config.dataloader.sampler)
    return "+".join(part for part in parts if part) or "erm"


def settings_of(config: RunConfig) -> dict[str, Any]:
    """Return the settings that every report names; `name_differences` adds others."""
    settings = {
        "lr": config.optimizer.lr,
        "weight_decay": config.optimizer.weight_decay,
        "batch_size": config.dataloader.batch_size,
        "epochs": config.train.total_epochs,
        "network": config.model.name,
        "start": "pretrained" if config.model.pretrained else "from scratch",
        "input": "x".join(map(str, config.dataset.target_resolution)),
        "augmentation": "yes" if config.dataset.data_augmentation else "no",
    }
    if config.train.max_steps is not None:
        settings[CUT] = config.train.max_steps
    return settings


def name_differences(runs: Sequence[ReportRun]) -> None:
    """Add to the settings of finished runs what else differs between runs of their method."""
    by_method: dict[str, list[ReportRun]] = {}
    for run in runs:
        if run.state == "done":
            by_method.setdefault(run.method, []).append(run)
    for same in by_method.values():
        kept = [_without(run.leaves, OF_A_SEED) for run in same]
        first = kept[0]
        differing = {
            key
            for values in kept
            if values != first
            for key in values.keys() | first.keys()
            if values.get(key) != first.get(key)
        }
        # Options of a weighting are a difference only between runs of that weighting.
        of_one = {
            key
            for key in differing
            if key.startswith(OPTIONS_OF_SEVERAL_TASKS)
            and len({str(values[key]) for values in kept if key in values}) == 1
        }
        keys = sorted(differing - SHOWN_ELSEWHERE - of_one)
        for run, values in zip(same, kept):
            run.settings |= {key: values.get(key) for key in keys}


def weighting_of(config: RunConfig) -> str:
    """Name how a run's tasks are weighted, by the names of --mtl_weighting or of the layers."""
    data, objective = config.dataset, (config.model_extra or {}).get("objective") or {}
    gradient = objective.get("gradient", "none")
    if gradient != "none":
        scaled = data.loss_balanced_task_weighting or set(data.task_weights or [1.0]) != {1.0}
        return f"{gradient}_scaled" if scaled else gradient
    if data.loss_balanced_task_weighting:
        return "dynamic"
    across = objective.get("across", "static")
    if across not in (None, "static", "lbtw"):
        return across
    # Weights by delta and by hand look alike, so pages and figures call both unequal.
    return (
        "static_delta" if any(weight != 1 for weight in data.task_weights or ()) else "static_equal"
    )


class SplitRows:
    """The images of one split: their groups, and the identity that logits must have."""

    def __init__(self, rows: Table):
        self.table = rows
        self.identity = rows_identity(rows.names, rows.codes)
        self._members: dict[Grouping, list[np.ndarray]] = {}

    def members(self, grouping: Grouping) -> list[np.ndarray]:
        """Return the rows (N_g,) of each group's images; cached, as runs share groupings."""
        if grouping not in self._members:
            ids = grouping.group_ids(self.table)
            self._members[grouping] = [
                np.flatnonzero(ids == group) for group in range(grouping.num_groups)
            ]
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

    def logits(self, run: ReportRun, rule: str, split: str) -> Logits:
        """Read saved logits; missing ones are made in one pass and saved."""
        if self.root is not None:  # perhaps other images with the same names and labels
            return self._evaluator(run).logits(rule, split)
        rows = self.rows(run, split)
        saved = saved_logits(run.result, split, run.epochs[rule], rows.identity, images=None)
        return self._evaluator(run).logits(rule, split) if saved is None else saved

    def _evaluator(self, run: ReportRun) -> RunEvaluator:
        return open_evaluator(run.result, self.root, self.device)


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
