"""Many runs as one table of results: seeds together, selection rules side by side.

Everything is arithmetic on saved logits and annotations; logits that are missing are made once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.bootstrap import difference, over_seeds
from src.data.groupings import COLUMN, Grouping
from src.errors import UserError
from src.published import reference
from src.report_rows import SAME_FOR_ONE_TASK, own_rule
from src.report_runs import ReportRun, Sources, SplitRows, by_setting

Row = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A row of the report and what it was made from: which predictions are right (S, N)."""

    row: Row
    right: np.ndarray
    groups: np.ndarray  # (N,)
    data: str  # identity of the images


def build_report(
    folders: Sequence[Path],
    split: str = "test",
    rules: Sequence[str] | None = None,
    threshold: float = 0.0,
    root: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """The report on the runs in `folders`: `runs`, `rows` and `comparisons`, as in report.json.

    Args:
        rules: selection rules, `last` or numbers of epochs; None takes all rules that the runs'
            validation has.
        threshold: a logit above it counts as class 1.
        root, device: where the data lie and logits are made, instead of each run's own.

    Raises:
        UserError: no run, no such rule, or a run whose files are damaged.
    """
    runs = [ReportRun(folder) for folder in folders]
    if not runs:
        raise UserError("there is no run: give folders that hold runs, such as --log_dirs 'logs/*'")
    settings = by_setting(runs)
    _check_rules(rules, settings)
    sources, rows, comparisons = Sources(root, device), [], []
    alone: dict[tuple, list[Measured]] = {}
    # Tasks alone come first: the others are held against them.
    for same in sorted(settings, key=lambda same: len(same[0].groupings) > 1):
        for measured in measure(same, rules, split, threshold, sources):
            rows.append(measured.row)
            if len(same[0].groupings) == 1:
                alone.setdefault(_key(measured, measured.row["rule"]), []).append(measured)
            else:
                comparisons += compare(measured, alone)
    return {"runs": [run.describe() for run in runs], "rows": rows, "comparisons": comparisons}


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
    threshold: float,
    sources: Sources,
) -> Iterator[Measured]:
    """The rows of one setting, whose runs differ in their seed: for each rule each task.

    A rule that goes by one task of several has a row of that task only.
    """
    wanted = runs[0].history["selected"] if rules is None else rules
    rows = [sources.rows(run, split) for run in runs]
    if len({of_run.identity for of_run in rows}) > 1:
        raise UserError(
            f"{runs[0].folder.parent}: the seeds were measured on different images; report on one "
            f"data set at a time"
        )
    logits: dict[tuple[Path, int], Any] = {}
    for rule in wanted:
        if not all(rule in run.epochs for run in runs):
            continue
        for run in runs:
            if (run.folder, run.epochs[rule]) not in logits:
                logits[run.folder, run.epochs[rule]] = sources.logits(run, rule, split)
        for grouping in runs[0].groupings:
            if own_rule({"rule": rule, "grouping": grouping.name}) is not None:
                positive = rows[0].attributes[:, COLUMN[grouping.task]] == 1
                values = [logits[run.folder, run.epochs[rule]] for run in runs]
                right = [(found.of_task(grouping.task) > threshold) == positive for found in values]
                yield result_row(runs, rule, split, grouping, np.stack(right), rows[0])


def result_row(
    runs: Sequence[ReportRun],
    rule: str,
    split: str,
    grouping: Grouping,
    right: np.ndarray,
    rows: SplitRows,
) -> Measured:
    """One row of the report, from which predictions of each run are right (S, N)."""
    groups = rows.groups(grouping)
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
        "epochs": [run.epochs[rule] for run in runs],
        **figures,
        "interval": interval_kind(len(runs)),
        "reference": reference(
            first.method, first.names, first.network, split, first.data["name"], worst["mean"]
        ),
    }
    return Measured(row, right, groups, rows.identity)


def interval_kind(seeds: int) -> str:
    return "seeds and images" if seeds > 1 else "test-set variation only"


def compare(together: Measured, alone: dict[tuple, list[Measured]]) -> list[dict[str, Any]]:
    """A task trained with others against the same task alone: one method, one rule, the same
    images. Of several settings alone the one of the same values counts, else the first; none
    gives an empty list.

    Args:
        alone: by `_key`, the rows of networks of one task.
    """
    row, own = together.row, own_rule(together.row)
    found = alone.get(_key(together, SAME_FOR_ONE_TASK.get(own, own)), [])
    found = [single for single in found if single.row["settings"] == row["settings"]] or found
    if not found:
        return []
    single = found[0]
    gaps = difference(together.right, single.right, together.groups, len(row["groups"]))
    keys = ("split", "rule", "method", "weighting", "settings", "grouping", "groupings", "seeds")
    kind = interval_kind(min(len(row["seeds"]), len(single.row["seeds"])))
    about = {"alone": single.row["runs"], "interval": kind}
    return [{key: row[key] for key in keys} | about | gaps]


def _key(measured: Measured, rule: str) -> tuple[str, str, str, str]:
    row = measured.row
    return row["method"], row["grouping"], rule, measured.data
