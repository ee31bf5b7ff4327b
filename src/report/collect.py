"""Many runs as one table of results: seeds together, selection rules side by side.

Everything is arithmetic on saved logits and annotations; logits that are missing are made once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.data.groupings import Grouping
from src.evaluation.intervals import differences, over_seeds
from src.evaluation.logits import Logits
from src.evaluation.resampled import Right
from src.io import UserError
from src.report.published import reference
from src.report.rows import SAME_FOR_ONE_TASK, Row, alike, own_rule
from src.report.runs import ReportRun, Sources, SplitRows, by_setting


@dataclass(frozen=True)
class Answers:
    """What the networks of one setting, each at one epoch, make of one grouping.

    right: for each group (S, N_g), which predictions are right; data: the identity of the images;
    figures: of `bootstrap.over_seeds`. Rules that choose the same epochs share one of these, and
    their rows its figures: nobody writes into them.
    """

    right: Right
    data: str
    figures: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A row of the report, and the answers that it was made from."""

    row: Row
    answers: Answers


def build_report(
    folders: Sequence[Path],
    split: str = "test",
    rules: Sequence[str] | None = None,
    threshold: float = 0.0,
    root: str | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """The report on the runs in `folders`: the dict of report.json.

    Args:
        rules: selection rules, `last` or numbers of epochs; None takes all rules that the runs'
            validation has.
        threshold: a logit above it counts as class 1.
        root, device: where the data lie and logits are made, instead of each run's own.

    Raises:
        UserError: no run, no such rule, or a run whose files are damaged.
    """
    bar = partial(tqdm, leave=False, disable=None)  # none where the output is a file
    runs = [ReportRun(folder) for folder in bar(folders, "reading", unit="run")]
    if not runs:
        raise UserError("there is no run: give folders that hold runs, such as --log_dirs 'logs/*'")
    settings = by_setting(runs)
    _check_rules(rules, settings)
    sources, rows, comparisons = Sources(root, device), [], []
    alone: dict[tuple, list[Measured]] = {}
    # Tasks alone come first: the others are held against them.
    in_order = sorted(settings, key=lambda same: len(same[0].groupings) > 1)
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
    figures = dict(zip(right, over_seeds(list(right.values()))))
    answers = {
        (key, grouping): Answers(of, rows[0].identity, named(figures[key, grouping], grouping))
        for (key, grouping), of in right.items()
    }
    return [
        Measured(result_row(runs, rule, split, grouping, of), of)
        for rule, grouping in shown
        for of in [answers[epochs[rule], grouping]]
    ]


def right_by_group(
    logits: Sequence[Logits], grouping: Grouping, threshold: float, rows: SplitRows
) -> Right:
    """Which predictions of networks with these logits are right: for each group (S, N_g) bool."""
    positive = rows.table.column(grouping.task) == 1  # (N,)
    right = np.stack([(of.of_task(grouping.task) > threshold) == positive for of in logits])
    return [right.take(members, axis=1) for members in rows.members(grouping)]


def named(figures: dict[str, Any], grouping: Grouping) -> dict[str, Any]:
    """Figures of `bootstrap.over_seeds` with names of groups in the place of ids."""
    worst = figures["worst_group"]
    worst["groups"] = [grouping.group_names[group] for group in worst.pop("ids")]
    for name, group in zip(grouping.group_names, figures["groups"]):
        group["name"] = name
    return figures


def result_row(
    runs: Sequence[ReportRun], rule: str, split: str, grouping: Grouping, answers: Answers
) -> Row:
    """One row of the report."""
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
        "reference": reference(
            first.method,
            first.names,
            first.settings["network"],
            split,
            first.data["name"],
            rule,
            worst,
        ),
    }


def interval_kind(seeds: int) -> str:
    return "seeds and images" if seeds > 1 else "test-set variation only"


def compare(
    together: Sequence[Measured], alone: dict[tuple, list[Measured]]
) -> list[dict[str, Any]]:
    """Rows of a setting of several tasks against the same tasks alone: one method, network, input
    and rule, the same images. Rows without a match are left out.

    Args:
        alone: by `comparison_key`, the rows of networks of one task.
    """
    pairs = [(row, single) for row in together if (single := counterpart(row, alone)) is not None]
    # Rules that choose the same epochs share their answers, and the difference.
    unique = {
        (id(row.answers), id(single.answers)): (row.answers.right, single.answers.right)
        for row, single in pairs
    }
    gaps = dict(zip(unique, differences(list(unique.values()))))
    keys = ("split", "rule", "method", "weighting", "settings", "grouping", "groupings", "seeds")
    keys += ("runs",)
    return [
        {key: of.row[key] for key in keys}
        | {
            "alone": single.row["runs"],
            "interval": interval_kind(min(len(of.row["seeds"]), len(single.row["seeds"]))),
        }
        | gaps[id(of.answers), id(single.answers)]
        for of, single in pairs
    ]


def counterpart(together: Measured, alone: dict[tuple, list[Measured]]) -> Measured | None:
    """The row of the same task alone; of several settings the one of the same values, else the
    first."""
    own = own_rule(together.row)
    found = alone.get(comparison_key(together, SAME_FOR_ONE_TASK.get(own, own)), [])
    same = [single for single in found if single.row["settings"] == together.row["settings"]]
    return next(iter(same or found), None)


def comparison_key(measured: Measured, rule: str) -> tuple:
    """Equal where a task alone can stand beside the same task with others."""
    return rule, measured.answers.data, *alike(measured.row)
