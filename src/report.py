"""Many runs as one table of results: seeds together, selection rules side by side.

Everything is arithmetic on saved logits and annotations; logits that are missing are made once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.bootstrap import difference, over_seeds
from src.data.groupings import COLUMN, Grouping
from src.errors import UserError
from src.evaluation import Logits
from src.published import reference
from src.report_rows import SAME_FOR_ONE_TASK, Row, alike, own_rule
from src.report_runs import ReportRun, Sources, SplitRows, by_setting


@dataclass(frozen=True)
class Answers:
    """What the networks of one setting, each at one epoch, make of one grouping.

    right: (S, N) which predictions are right; groups: (N,); data: the identity of the images;
    figures: of `bootstrap.over_seeds`. Rules that choose the same epochs share one of these, and
    their rows its figures: nobody writes into them.
    """

    right: np.ndarray
    groups: np.ndarray
    data: str
    figures: dict[str, Any]
    _gaps: dict[int, dict[str, Any]] = field(default_factory=dict)

    def against(self, other: "Answers") -> dict[str, Any]:
        """Their paired difference, see `bootstrap.difference`."""
        if id(other) not in self._gaps:
            num_groups = len(self.figures["groups"])
            self._gaps[id(other)] = difference(self.right, other.right, self.groups, num_groups)
        return self._gaps[id(other)]


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
        for measured in measure(same, rules, split, threshold, sources):
            rows.append(measured.row)
            if len(same[0].groupings) == 1:
                alone.setdefault(comparison_key(measured, measured.row["rule"]), []).append(
                    measured
                )
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
    logits: dict[tuple[Path, int], Logits] = {}
    known: dict[tuple, Answers] = {}
    for rule in wanted:
        if not all(rule in run.epochs for run in runs):
            continue
        epochs = tuple(run.epochs[rule] for run in runs)
        for run, epoch in zip(runs, epochs):
            if (run.folder, epoch) not in logits:
                logits[run.folder, epoch] = sources.logits(run, rule, split)
        for grouping in runs[0].groupings:
            if own_rule({"rule": rule, "grouping": grouping.name}) is not None:
                if (epochs, grouping) not in known:
                    found = [logits[run.folder, epoch] for run, epoch in zip(runs, epochs)]
                    known[epochs, grouping] = answer(found, grouping, threshold, rows[0])
                answers = known[epochs, grouping]
                yield Measured(result_row(runs, rule, split, grouping, answers), answers)


def answer(
    logits: Sequence[Logits], grouping: Grouping, threshold: float, rows: SplitRows
) -> Answers:
    """The answers of networks with these logits, and their figures with names of groups."""
    positive = rows.attributes[:, COLUMN[grouping.task]] == 1  # (N,)
    right = np.stack([(of.of_task(grouping.task) > threshold) == positive for of in logits])
    groups = rows.groups(grouping)
    figures = over_seeds(right, groups, grouping.num_groups)
    worst = figures["worst_group"]
    worst["groups"] = [grouping.group_names[group] for group in worst.pop("ids")]
    for name, group in zip(grouping.group_names, figures["groups"]):
        group["name"] = name
    return Answers(right, groups, rows.identity, figures)


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


def compare(together: Measured, alone: dict[tuple, list[Measured]]) -> list[dict[str, Any]]:
    """A task trained with others against the same task alone: one method, network, input and
    rule, the same images. Of several settings alone the one of the same values counts, else the
    first; none gives an empty list.

    Args:
        alone: by `comparison_key`, the rows of networks of one task.
    """
    row, own = together.row, own_rule(together.row)
    found = alone.get(comparison_key(together, SAME_FOR_ONE_TASK.get(own, own)), [])
    found = [single for single in found if single.row["settings"] == row["settings"]] or found
    if not found:
        return []
    single = found[0]
    gaps = together.answers.against(single.answers)
    keys = ("split", "rule", "method", "weighting", "settings", "grouping", "groupings", "seeds")
    keys += ("runs",)
    kind = interval_kind(min(len(row["seeds"]), len(single.row["seeds"])))
    about = {"alone": single.row["runs"], "interval": kind}
    return [{key: row[key] for key in keys} | about | gaps]


def comparison_key(measured: Measured, rule: str) -> tuple:
    """Equal where a task alone can stand beside the same task with others."""
    return rule, measured.answers.data, *alike(measured.row)
