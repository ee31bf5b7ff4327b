"""Which rows of a report belong together: by rule, alone and together, by family of tasks.

A report is the dict of report.json; its page and its figures both start here.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from src.runs.folder import is_epoch

Row = dict[str, Any]

CUT = "max_steps"  # the setting of runs that were cut short

# Rules in the order of a switch. `-own`: each task at the epoch that is best for itself.
RULES = ("best-avg", "best-group", "best-class", "best-worst", "best-avg-own", "best-group-own")
RULES += ("last",)
# With one task these choose the same epoch as the rule on the right.
SAME_FOR_ONE_TASK = {
    "best-worst": "best-group",
    "best-avg-own": "best-avg",
    "best-group-own": "best-group",
}
# Families that are held against each other.
CONTRASTS = (("disjoint", "nondisjoint"), ("similar", "disjoint"), ("strong", "weak"))
CONTRAST_NOTES = {("similar", "disjoint"): "no family is called dissimilar: disjoint stands in"}
ABLATIONS = ("ablate_disjoint", "ablate_nondisjoint")
Families = Mapping[str, Sequence[Sequence[str]]]  # name to lists of groupings trained together


@dataclass(frozen=True)
class Pairing:
    """A row, the rows of the same task and method trained alone, and the paired difference."""

    row: Row
    alone: tuple[Row, ...]
    difference: dict[str, Any] | None


def task_key(row: Row) -> tuple:
    """Return what a task alone and the same task among others must share to be shown together:
    method, task, network, input, and the step at which both were cut short."""
    names = ("network", "start", "input", "augmentation", CUT)
    return row["method"], row["grouping"], *(row["settings"].get(name) for name in names)


def own_rule(row: Row) -> str | None:
    """Return the switch position of a row's rule; None if the rule is that of another task."""
    rule, task = row["rule"], row["grouping"].partition(":")[0]
    for kind in ("best-avg", "best-group"):
        if rule == f"{kind}-{task}":
            return f"{kind}-own"
        if rule.startswith(f"{kind}-"):
            return None
    return rule


def positions(rows: Sequence[Row]) -> list[list[str]]:
    """Return for each row the positions of the rule switch at which it is shown.

    A network of one task also stands for the rules that only several tasks tell apart.
    """
    explicit = {(_identity(row), own_rule(row)) for row in rows}
    shown = []
    for row in rows:
        own = own_rule(row)
        places = [] if own is None else [own]
        if len(row["groupings"]) == 1:
            places += [
                rule
                for rule, same in SAME_FOR_ONE_TASK.items()
                if same == own and (_identity(row), rule) not in explicit
            ]
        shown.append(places)
    return shown


def rule_positions(rows: Sequence[Row]) -> list[str]:
    """List the positions of the switch, numbers of epochs last."""
    found = {rule for row in rows if (rule := own_rule(row)) is not None}
    numbers = sorted((rule for rule in found if is_epoch(rule)), key=int)
    others = sorted(found.difference(RULES, numbers))
    return [*(rule for rule in RULES if rule in found), *others, *numbers]


def pairings(
    report: Mapping[str, Any], split: str, position: str
) -> tuple[list[Pairing], list[Row]]:
    """Return the rows of several tasks, each with its task alone, and the rows of one task.

    Args:
        position: of the rule switch; see `RULES`.
    """
    rows = [
        row
        for row, places in zip(report["rows"], positions(report["rows"]))
        if row["split"] == split and position in places
    ]
    singles = [row for row in rows if len(row["groupings"]) == 1]
    alone: dict[tuple, list[Row]] = {}
    for row in singles:
        alone.setdefault(task_key(row), []).append(row)
    known = differences(report["comparisons"])
    pairs = [
        Pairing(
            row,
            tuple(alone.get(task_key(row), ())),
            known.get(place(row)),
        )
        for row in rows
        if len(row["groupings"]) > 1
    ]
    return pairs, singles


def differences(comparisons: Sequence[dict[str, Any]]) -> dict[tuple, dict[str, Any]]:
    """Return the comparisons by the `place` of the row of several tasks."""
    return {place(found): found for found in comparisons}


def place(row: Mapping[str, Any]) -> tuple:
    """Return what identifies a row: split, rule, task and networks."""
    return row["split"], row["rule"], row["grouping"], tuple(row["runs"])


def in_family(row: Row, runs: Sequence[Sequence[str]]) -> bool:
    return list(row["groupings"]) in [list(groupings) for groupings in runs]


def differing_settings(rows: Sequence[Row]) -> list[str]:
    """List the settings that differ between rows, in order of appearance."""
    # Few of many rows differ: each kind is looked at once.
    kinds = {json.dumps(row["settings"]): row["settings"] for row in rows}.values()
    names = dict.fromkeys(name for settings in kinds for name in settings)
    return [
        name
        for name in names
        if len({json.dumps(settings.get(name), sort_keys=True) for settings in kinds}) > 1
    ]


def _identity(row: Row) -> str:
    keys = ("split", "method", "weighting", "settings", "groupings", "grouping", "runs")
    return json.dumps([row[key] for key in keys], sort_keys=True)
