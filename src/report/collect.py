"""Turn many runs into one table of results: a row per setting, selection rule and task.

Everything is arithmetic on saved logits and annotations; missing logits are made once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.data.groupings import Grouping
from src.evaluation.intervals import over_seeds, paired_difference
from src.evaluation.logits import Logits, predictions
from src.evaluation.resampled import Right
from src.io import UserError
from src.report.published import reference
from src.report.rows import CUT, Row, positions
from src.report.runs import ReportRun, Sources, SplitRows, by_setting
from src.report.settings import name_differences


@dataclass(frozen=True)
class Measured:
    """A row of the report, and what a comparison of networks needs.

    Attributes:
        right: for each group (S, N_g), which predictions are right.
        data: identity of the images.
        comparable: settings that must be equal.
    """

    row: Row
    right: Right
    data: str
    comparable: dict[str, Any]

    def key(self, position: str) -> tuple:
        """Return what a task alone and the same task among others must share to be compared:
        images, method, task, network, input, and the step at which both were cut short."""
        names = ("network", "start", "input", "augmentation", CUT)
        settings = (self.row["settings"].get(name) for name in names)
        return position, self.data, self.row["method"], self.row["grouping"], *settings


def build_report(
    folders: Sequence[Path],
    split: str = "test",
    rules: Sequence[str] | None = None,
    root: str | Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Measure the runs in `folders`; return the dict of report.json.

    Args:
        split: on val, heads that were fitted on validation examples have no row.
        rules: selection rules, `last` or numbers of epochs; None takes all rules that the runs'
            validation has.
        root, device: folder of the data, and device for missing logits, instead of each run's own.

    Raises:
        UserError: no run, no such rule, or a run whose files are damaged.
    """
    bar = partial(tqdm, leave=False, disable=None)  # none where the output is a file
    runs = [ReportRun(folder) for folder in bar(folders, "reading", unit="run")]
    if not runs:
        raise UserError("there is no run: give folders that hold runs, such as --log_dirs 'logs/*'")
    settings = by_setting(runs)
    name_differences(runs)
    _check_rules(rules, settings)
    if split == "val":
        settings = [same for same in settings if not same[0].is_fitted_on_val]
    sources, rows = Sources(root, device), []
    alone: dict[tuple, list[Measured]] = {}
    # Tasks alone come first: the others are compared with them.
    in_order = sorted(settings, key=lambda same: len(same[0].groupings) > 1)
    for same in bar(in_order, "measuring", unit="setting"):
        for of in measure(same, rules, split, sources):
            rows.append(of.row)
            if len(of.row["groupings"]) == 1:
                for position in of.row["shown"]:
                    alone.setdefault(of.key(position), []).append(of)
            else:
                of.row["difference"] = compare(of, alone.get(of.key(of.row["shown"][0]), []))
    return {"runs": [run.describe() for run in runs], "rows": rows}


def _check_rules(rules: Sequence[str] | None, settings: Sequence[Sequence[ReportRun]]) -> None:
    known = dict.fromkeys(rule for same in settings for rule in same[0].epochs)
    unknown = [rule for rule in rules or () if rule not in known]
    if unknown and settings:
        named = [rule for rule in known if not rule.isdigit()]
        raise UserError(
            f"--rules {' '.join(unknown)}: no finished run has that; use {', '.join(named)}, or "
            f"the number of an epoch"
        )


def measure(
    runs: Sequence[ReportRun],
    rules: Sequence[str] | None,
    split: str,
    sources: Sources,
) -> list[Measured]:
    """Return the rows of one setting, whose runs differ in their seed: a row per rule and task.

    A rule that goes by one of several tasks has a row for that task only.
    """
    rows = [sources.rows(run, split) for run in runs]
    if len({of_run.identity for of_run in rows}) > 1:
        raise UserError(
            f"{runs[0].folder.parent}: the seeds were measured on different images; report on one "
            f"data set at a time"
        )

    @cache  # runs and rules often choose the same epochs
    def logits(at: int, epoch: int) -> Logits:
        return sources.logits(runs[at], epoch, split)

    @cache
    def answers(epochs: tuple[int, ...], grouping: Grouping) -> tuple[Right, dict[str, Any]]:
        of_seeds = [logits(at, epoch) for at, epoch in enumerate(epochs)]
        right = right_by_group(of_seeds, grouping, rows[0])
        return right, named(over_seeds(right), grouping)

    measured = []
    for rule in runs[0].history["selected"] if rules is None else rules:
        if not all(rule in run.epochs for run in runs):
            continue
        epochs = tuple(run.epochs[rule] for run in runs)
        for grouping in runs[0].groupings:
            if shown := positions(rule, grouping.name, len(runs[0].groupings) == 1):
                right, figures = answers(epochs, grouping)
                row = result_row(runs, rule, split, grouping, figures) | {"shown": shown}
                measured.append(Measured(row, right, rows[0].identity, runs[0].comparable))
    return measured


def right_by_group(logits: Sequence[Logits], grouping: Grouping, rows: SplitRows) -> Right:
    """Return for each group which predictions of S networks are right, (S, N_g) bool."""
    labels = rows.table.column(grouping.task)  # (N,)
    right = np.stack([predictions(of.of_task(grouping.task)) == labels for of in logits])
    return [right.take(members, axis=1) for members in rows.members(grouping)]


def named(figures: dict[str, Any], grouping: Grouping) -> dict[str, Any]:
    """Replace the ids of groups by names in figures of `intervals.over_seeds`."""
    worst = figures["worst_group"]
    worst["groups"] = [grouping.group_names[group] for group in worst.pop("ids")]
    for name, group in zip(grouping.group_names, figures["groups"]):
        group["name"] = name
    return figures


def result_row(
    runs: Sequence[ReportRun], rule: str, split: str, grouping: Grouping, figures: dict[str, Any]
) -> Row:
    """Return one row of report.json."""
    first = runs[0]
    return {
        "split": split,
        "rule": rule,
        "method": first.method,
        "weighting": first.weighting,
        "settings": first.settings,
        "groupings": first.names,
        "grouping": grouping.name,
        "seeds": [run.seed for run in runs],
        "runs": [str(run.folder) for run in runs],
        "epochs": [run.epochs[rule] for run in runs],
        **figures,
        "interval": interval_kind(len(runs)),
        "has_validation": all(run.has_validation for run in runs),
        "reference": reference(
            *(first.method, first.names, first.settings, split, first.data["name"], rule),
            figures["worst_group"]["mean"],
        ),
        "difference": None,
    }


def interval_kind(seeds: int) -> str:
    return "seeds and images" if seeds > 1 else "test-set variation only"


def compare(together: Measured, alone: Sequence[Measured]) -> dict[str, Any] | None:
    """Compare a task of several with the same task alone; None if no network has it alone.

    Of several settings alone, the one that differs least is taken, then the one with most seeds.
    `matched` is true if only the other tasks differ; else `differs` maps each setting that differs
    to its values [together, alone]. `candidates` counts the settings that differ as little.
    """
    if not alone:
        return None
    differs = [differing(together.comparable, of.comparable) for of in alone]
    fewest = min(map(len, differs))
    nearest = [at for at, found in enumerate(differs) if len(found) == fewest]
    best = max(nearest, key=lambda at: len(alone[at].row["seeds"]))
    seeds = [len(of.row["seeds"]) for of in (together, alone[best])]
    return {
        "alone": alone[best].row["runs"],
        "interval": interval_kind(min(seeds)),
        "matched": fewest == 0,
        "differs": differs[best],
        "candidates": len(nearest),
    } | paired_difference(together.right, alone[best].right)


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the settings that differ, with both values."""
    return {
        key: [ours.get(key), theirs.get(key)]
        for key in sorted(ours.keys() | theirs.keys())
        if ours.get(key) != theirs.get(key)
    }
