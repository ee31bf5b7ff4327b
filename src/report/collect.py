"""Turn many runs into one table of results: a row per setting, selection rule and task.

Everything is arithmetic on saved logits and annotations; missing logits are made once.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.data.groupings import Grouping
from src.evaluation.intervals import over_seeds
from src.evaluation.logits import Logits, predictions
from src.evaluation.resampled import Right
from src.io import UserError
from src.report.compare import Answers, Measured, compare, comparison_key, interval_kind
from src.report.published import reference
from src.report.rows import Row, own_rule
from src.report.runs import ReportRun, Sources, SplitRows, by_setting
from src.report.settings import name_differences


def build_report(
    folders: Sequence[Path],
    split: str = "test",
    rules: Sequence[str] | None = None,
    threshold: float = 0.0,
    root: str | Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Measure the runs in `folders`; return the dict of report.json.

    Args:
        split: on val, heads that were fitted on validation examples have no row.
        rules: selection rules, `last` or numbers of epochs; None takes all rules that the runs'
            validation has.
        threshold: a logit above it counts as class 1.
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
    sources, rows, comparisons = Sources(root, device), [], []
    alone: dict[tuple, list[Measured]] = {}
    # Tasks alone come first: the others are compared with them.
    in_order = sorted(settings, key=lambda same: len(same[0].groupings) > 1)
    if split == "val":
        in_order = [same for same in in_order if not same[0].is_fitted_on_val]
    for same in bar(in_order, "measuring", unit="setting"):
        measured = measure(same, rules, split, threshold, sources)
        rows += [of.row for of in measured]
        if len(same[0].groupings) == 1:
            for single in measured:
                alone.setdefault(comparison_key(single, single.row["rule"]), []).append(single)
        else:
            comparisons += compare(measured, alone)
    about = {"threshold": threshold, "runs": [run.describe() for run in runs]}
    return about | {"rows": rows, "comparisons": comparisons}


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
) -> list[Measured]:
    """Return the rows of one setting, whose runs differ in their seed: a row per rule and task.

    A rule that goes by one of several tasks has a row for that task only.
    """
    wanted = runs[0].history["selected"] if rules is None else rules
    rows = [sources.rows(run, split) for run in runs]
    if len({of_run.identity for of_run in rows}) > 1:
        raise UserError(
            f"{runs[0].folder.parent}: the seeds were measured on different images; report on one "
            f"data set at a time"
        )
    epochs = {
        rule: tuple(run.epochs[rule] for run in runs)
        for rule in wanted
        if all(rule in run.epochs for run in runs)
    }
    logits: dict[tuple[Path, int], Logits] = {}
    right: dict[tuple, Right] = {}  # by epochs and grouping
    shown = [
        (rule, grouping)
        for rule in epochs
        for grouping in runs[0].groupings
        if own_rule({"rule": rule, "grouping": grouping.name}) is not None
    ]
    for rule, grouping in shown:
        chosen = [(run.folder, epoch) for run, epoch in zip(runs, epochs[rule])]
        for run, one in zip(runs, chosen):
            if one not in logits:
                logits[one] = sources.logits(run, rule, split)
        if (epochs[rule], grouping) not in right:
            found = [logits[one] for one in chosen]
            right[epochs[rule], grouping] = right_by_group(found, grouping, threshold, rows[0])
    answers = {
        (key, grouping): Answers(of, rows[0].identity, named(over_seeds(of), grouping))
        for (key, grouping), of in right.items()
    }
    return [
        Measured(result_row(runs, rule, split, grouping, of), of, runs[0].comparable)
        for rule, grouping in shown
        for of in [answers[epochs[rule], grouping]]
    ]


def right_by_group(
    logits: Sequence[Logits], grouping: Grouping, threshold: float, rows: SplitRows
) -> Right:
    """Return for each group which predictions of S networks are right, (S, N_g) bool."""
    labels = rows.table.column(grouping.task)  # (N,)
    right = np.stack([predictions(of.of_task(grouping.task), threshold) == labels for of in logits])
    return [right.take(members, axis=1) for members in rows.members(grouping)]


def named(figures: dict[str, Any], grouping: Grouping) -> dict[str, Any]:
    """Replace the ids of groups by names in figures of `intervals.over_seeds`."""
    worst = figures["worst_group"]
    worst["groups"] = [grouping.group_names[group] for group in worst.pop("ids")]
    for name, group in zip(grouping.group_names, figures["groups"]):
        group["name"] = name
    return figures


def result_row(
    runs: Sequence[ReportRun], rule: str, split: str, grouping: Grouping, answers: Answers
) -> Row:
    """Return one row of report.json."""
    first, worst = runs[0], answers.figures["worst_group"]["mean"]
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
        **answers.figures,
        "interval": interval_kind(len(runs)),
        "has_validation": all(run.has_validation for run in runs),
        "reference": reference(
            first.method, first.names, first.settings, split, first.data["name"], rule, worst
        ),
    }
