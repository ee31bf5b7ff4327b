"""The cross of methods and task weightings: one row per network of several tasks."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from src.pages import write_page
from src.report.rows import Row

ABOUT = (
    "Percent, mean over seeds; 95 % intervals in brackets. The interval of a mean over tasks is "
    "the mean of the tasks' intervals: wide enough, however much the tasks depend on each other. "
    "delta-m: mean over tasks of (together - alone) / alone, in percent, against networks of one "
    "task with the same settings. Below: tasks whose worst group is lower than alone; in brackets, "
    "with an interval below 0. "
)


def cross_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Return a line per networks of several tasks and selection rule, figures as fractions.

    A rule that chooses an epoch for each task by itself (`best-group-own`) is one line, too.
    """
    lines: dict[tuple, list[Row]] = {}
    for row in report["rows"]:
        if len(row["groupings"]) > 1:
            lines.setdefault((row["shown"][0], tuple(row["runs"])), []).append(row)
    return pd.DataFrame(
        [
            network_line(rule, rows)
            for (rule, _), rows in lines.items()
            if len(rows) == len(rows[0]["groupings"])
        ]
    )


def network_line(rule: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the line of one setting, from the rows of its tasks."""
    worst = min(rows, key=lambda row: row["worst_group"]["mean"])
    groups = worst["worst_group"]["groups"]  # of each seed
    matched = [row for row in rows if row["difference"] and row["difference"]["matched"]]
    gaps = [row["difference"]["worst_group"] for row in matched]
    line = {
        "rule": rule,
        "method": rows[0]["method"],
        "weighting": rows[0]["weighting"],
        "tasks": ", ".join(rows[0]["groupings"]),
        "seeds": len(rows[0]["seeds"]),
    }
    for name in ("average", "worst_group"):
        for key in ("mean", "low", "high"):
            line[f"{name}_{key}"] = fmean(row[name][key] for row in rows)
    for key in ("mean", "low", "high"):
        line[f"minimum_{key}"] = min(row["worst_group"][key] for row in rows)
    line["worst_cell"] = f"{worst['grouping']}, {max(set(groups), key=groups.count)}"
    for name in ("average", "worst_group"):
        for key, figure in (("mean", "difference"), ("low", "low"), ("high", "high")):
            shares = [relative(row, name, figure) for row in matched]
            line[f"delta_m_{name}_{key}"] = fmean(shares) if len(matched) == len(rows) else None
    line["compared"] = len(gaps)
    line["below"] = sum(gap["difference"] < 0 for gap in gaps)
    line["surely_below"] = sum(gap["high"] < 0 for gap in gaps)
    return line


def relative(row: Row, name: str, figure: str) -> float:
    """Return a figure of (together - alone) / alone; NaN if the accuracy alone is 0."""
    gap = row["difference"][name]
    alone = row[name]["mean"] - gap["difference"]
    return gap[figure] / alone if alone > 0 else float("nan")


def write_cross_page(path: Path, table: pd.DataFrame, link: str) -> None:
    """Write a page with a table per tasks and selection rule."""
    body = f'<h1>Methods and task weightings</h1><p>{ABOUT}<a href="{link}">All runs</a></p>'
    for (tasks, rule), lines in table.groupby(["tasks", "rule"], sort=False):
        body += f"<h2>{escape(tasks)}</h2><p>Epochs selected by {escape(rule)}.</p>"
        body += shown(lines).to_html(index=False, border=0)
    write_page(path, "Methods and task weightings", ["document"], body=body)


def shown(lines: pd.DataFrame) -> pd.DataFrame:
    """Return a table for people: percent with intervals."""

    def column(name: str) -> list[str]:
        figures = zip(*(lines[f"{name}_{key}"] for key in ("mean", "low", "high")))
        return [
            "-" if pd.isna(mean) else f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            for mean, low, high in figures
        ]

    below = zip(lines["below"], lines["surely_below"], lines["compared"])
    return pd.DataFrame(
        {
            "method": lines["method"],
            "weighting": lines["weighting"],
            "seeds": lines["seeds"],
            "average": column("average"),
            "worst group, mean": column("worst_group"),
            "worst group, minimum": column("minimum"),
            "worst cell": lines["worst_cell"],
            "delta-m average": column("delta_m_average"),
            "delta-m worst group": column("delta_m_worst_group"),
            "below": [f"{some} ({sure}) of {all}" if all else "-" for some, sure, all in below],
        }
    )
