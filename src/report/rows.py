"""The rule switch of a report, and which settings of its rows differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from src.runs.folder import is_epoch

Row = dict[str, Any]  # of report.json

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
Families = Mapping[str, Sequence[Sequence[str]]]  # name to lists of groupings trained together


def positions(rule: str, grouping: str, is_alone: bool) -> list[str]:
    """Return the positions of the rule switch at which a row is shown.

    A network of one task also stands for the rules that only several tasks tell apart. A rule that
    goes by another of several tasks is shown nowhere.
    """
    task = grouping.partition(":")[0]
    for kind in ("best-avg", "best-group"):
        if rule == f"{kind}-{task}":
            return [f"{kind}-own"]
        if rule.startswith(f"{kind}-"):
            return []
    return [
        rule,
        *(other for other, same in SAME_FOR_ONE_TASK.items() if is_alone and same == rule),
    ]


def rule_positions(rows: Sequence[Row]) -> list[str]:
    """List the positions of the switch, numbers of epochs last."""

    def order(rule: str) -> tuple[int, int]:
        return RULES.index(rule) if rule in RULES else 99, int(rule) if is_epoch(rule) else 0

    return sorted({row["shown"][0] for row in rows}, key=order)


def in_family(row: Mapping[str, Any], runs: Sequence[Sequence[str]]) -> bool:
    return row["groupings"] in map(list, runs)


def partners(row: Row) -> list[str]:
    """List the other tasks of the network."""
    return [name for name in row["groupings"] if name != row["grouping"]]


def differing_settings(rows: Sequence[Row]) -> list[str]:
    """List the settings that differ between rows, in order of appearance."""
    # Few of many rows differ: each kind is looked at once.
    kinds = {json.dumps(row["settings"]): row["settings"] for row in rows}.values()
    names = dict.fromkeys(name for settings in kinds for name in settings)
    return [name for name in names if len({json.dumps(of.get(name)) for of in kinds}) > 1]
