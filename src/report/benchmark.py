"""Measure a benchmark: choose settings on validation, compare the retrained runs on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from src.config.saved import read_config
from src.evaluation.intervals import paired_difference
from src.evaluation.results import read_evaluation, task_figures
from src.io import UserError, read_json
from src.report.collect import Measured, measure
from src.report.methods import METHODS
from src.report.ranking import draw_worst_groups, ranks
from src.report.runs import ReportRun, Sources
from src.runs.folder import Run
from src.runs.head_info import HeadInfo, head_file
from src.training.metrics_log import read_metrics

BASELINE = "erm"


@dataclass(frozen=True)
class MethodRuns:
    """The finished runs of one method.

    Attributes:
        search: folder of each setting that was drawn, by its number.
        values: configuration keys of each setting.
        chosen: the setting that each rule chooses on validation.
        retrained: folders of the fresh seeds of chosen settings.
    """

    method: str
    search: Mapping[int, Path]
    values: Mapping[int, dict[str, Any]]
    chosen: Mapping[str, int]
    retrained: Mapping[int, Sequence[Path]]


def open_run(folder: Path) -> ReportRun:
    """Open a run; its rules get best-class: the kept epoch whose worst class is best.

    Raises:
        UserError: it has no group labels, or a head was fitted on all of validation.
    """
    run = ReportRun(folder)
    if "best-group" not in run.epochs or not run.has_validation:
        raise UserError(f"{folder}: validation has no worst group, by which settings are chosen")
    epochs = run.history["epochs"]
    for epoch in run.result.saved_epochs():
        epochs[epoch]["best-class"] = worst_class(run, epoch)
    kept = [epoch for epoch in epochs if "best-class" in epochs[epoch]]
    run.history["selected"]["best-class"] = max(kept, key=lambda e: epochs[e]["best-class"])
    return run


def worst_class(run: ReportRun, epoch: int) -> float:
    """Return the accuracy of the worst class on validation after an epoch."""
    grouping = run.groupings[0]
    figures = task_figures(read_evaluation(run.result.epoch_stats(epoch)))[grouping.name]
    shape = (grouping.num_classes, -1)  # groups are ordered by class
    correct = np.reshape([group["correct"] for group in figures["groups"]], shape).sum(axis=1)
    total = np.reshape([group["total"] for group in figures["groups"]], shape).sum(axis=1)
    return float((correct[total > 0] / total[total > 0]).min())


def choose(folders: Mapping[int, Path], rules: Sequence[str]) -> dict[str, int]:
    """Return the setting that each rule chooses; of equal ones the first.

    A rule also chooses the epoch of each run. `last` compares the worst groups after last epochs.
    """
    runs = {setting: open_run(folder) for setting, folder in folders.items()}

    def score(setting: int, rule: str) -> float:
        run = runs[setting]
        epoch = run.history["epochs"][run.epochs[rule]]
        return epoch["best-group" if rule == "last" else rule]

    return {rule: max(runs, key=lambda setting: score(setting, rule)) for rule in rules}


def measure_benchmark(
    methods: Sequence[MethodRuns],
    split: str = "test",
    rule: str = "best-group",
    root: Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Return the dict of benchmark.json, methods from the best to the worst.

    Args:
        rule: chose the settings and epochs that are compared.
        root, device: folder of the data and device for missing logits.

    Raises:
        UserError: ERM is not finished, or methods were measured on different images.
    """
    sources = Sources(root, device)
    final = {
        runs.method: measured(runs.retrained[runs.chosen[rule]], rule, split, sources)
        for runs in methods
        if runs.retrained.get(runs.chosen[rule])
    }
    if BASELINE not in final:
        raise UserError(f"the retrained runs of {BASELINE} are not done; every method is compared")
    if len({of.data for of in final.values()}) > 1:
        raise UserError("the methods were measured on different images; delete the older runs")
    worst = {name: of.row["worst_group"]["mean"] for name, of in final.items()}
    names = sorted(final, key=worst.__getitem__, reverse=True)
    rights = [final[name].right for name in names]
    place = dict(zip(names, ranks(draw_worst_groups(rights))))
    by_name = {runs.method: runs for runs in methods}
    entries = [
        describe(by_name[name], final[name], rule, split, sources)
        | {"rank": place[name]}
        | {
            key: None if name == other else paired_difference(final[name].right, final[other].right)
            for key, other in (("minus_erm", BASELINE), ("minus_best", names[0]))
        }
        for name in names
    ]
    cost = next(entry["cost"] for entry in entries if entry["method"] == BASELINE)
    for entry in entries:
        entry["relative_cost"] = {
            key: entry["cost"][key] / cost[key] if entry["cost"][key] and cost[key] else None
            for key in cost
        }
    front = pareto([(e["average"]["mean"], e["worst_group"]["mean"]) for e in entries])
    for entry, is_on_front in zip(entries, front):
        entry["pareto"] = is_on_front
    row = final[BASELINE].row
    about = {key: row[key] for key in ("grouping", "split", "rule")}
    about["sizes"] = {group["name"]: group["total"] for group in row["groups"]}
    return {"about": about, "methods": entries}


def measured(folders: Sequence[Path], rule: str, split: str, sources: Sources) -> Measured:
    """Measure the runs of one setting."""
    (found,) = measure([open_run(folder) for folder in folders], [rule], split, sources)
    return found


def describe(
    runs: MethodRuns, final: Measured, rule: str, split: str, sources: Sources
) -> dict[str, Any]:
    """Return the entry of a method in benchmark.json, without what compares it with others."""

    def short(folders: Sequence[Path], by: str, setting: int) -> dict[str, Any]:
        row = measured(folders, by, split, sources).row
        means = {name: row[name]["mean"] for name in ("average", "worst_group")}
        return means | {"seeds": len(row["seeds"]), "setting": setting}

    copied = ("seeds", "epochs", "average", "worst_group", "groups", "reference")
    return {
        "method": runs.method,
        "needs": METHODS[runs.method].labels,
        "setting": runs.chosen[rule],
        "values": runs.values[runs.chosen[rule]],
        **{key: final.row[key] for key in copied},
        "rules": {
            by: short(runs.retrained.get(setting) or [runs.search[setting]], by, setting)
            for by, setting in runs.chosen.items()
        },
        "search": [
            {"values": runs.values[setting], **short([folder], rule, setting)}
            for setting, folder in sorted(runs.search.items())
        ],
        "cost": cost_of([Path(folder) for folder in final.row["runs"]]),
    }


def cost_of(folders: Sequence[Path]) -> dict[str, float | None]:
    """Return images seen and seconds of training, means over runs; None if too little was logged.

    All networks of a run count, also the finished one that a head was fitted on. Validation,
    restarts and the fit of heads do not count.
    """
    costs = []  # (2,) of each run
    for folder in folders:
        parts = [training_cost(Run(log.parent)) for log in folder.rglob("metrics.jsonl")]
        head = head_file(Run(folder / "stage_2"))
        if head.exists():
            base = Path(read_json(head, HeadInfo).base)
            if folder.resolve() not in base.parents:
                parts.append(training_cost(Run(base)))
        costs.append(np.sum(parts or [[0, np.nan]], axis=0))
    mean = dict(zip(("images", "seconds"), np.mean(costs, axis=0).tolist()))
    return {key: None if np.isnan(value) else value for key, value in mean.items()}


def training_cost(run: Run) -> tuple[float, float]:
    """Return images seen and seconds of training of one network.

    Seconds are the median time of a step, times the steps, so that a restart changes nothing. They
    are NaN where too little was logged.
    """
    lines = [line for line in read_metrics(run) if "train/loss" in line]
    steps = lines[-1]["step"] if lines else 0
    paces, sizes = [], []
    for before, line in pairwise(lines):
        count = line["step"] - before["step"]
        seconds = line["time/now"] - before["time/now"]
        if count > 0 and line["epoch"] == before["epoch"]:  # no validation in between
            paces.append(seconds / count)
            sizes.append(line["time/images_per_second"] * seconds / count)
    if not paces:
        return steps * read_config(run.config)["dataloader"]["batch_size"], np.nan
    return steps * median(sizes), steps * median(paces)


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which points no other one exceeds in both coordinates."""
    return [not any(x >= a and y >= b and (x, y) != (a, b) for x, y in points) for a, b in points]
