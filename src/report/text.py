"""Write rows of a report as text: terminal, CSV and LaTeX. People see percent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from src.evaluation.table import interval, percent
from src.report.rows import Row, differing_settings, partners

Table = list[tuple[str, ...]]  # lines of cells, heads first
SHORT = {"weight_decay": "wd", "batch_size": "batch"}
# Columns that name a row; settings come after them where they differ.
ABOUT: dict[str, Callable[[Row], Any]] = {
    "rule": lambda row: row["rule"] + ("" if row["has_validation"] else " (nothing held out)"),
    "task": lambda row: row["grouping"],
    "trained with": lambda row: ", ".join(partners(row)) or "alone",
    "method": lambda row: row["method"],
    "weighting": lambda row: row["weighting"] if len(row["groupings"]) > 1 else "-",
}
FIGURES: dict[str, Callable[[Row], Any]] = {
    "seeds": lambda row: len(row["seeds"]),
    "average %": lambda row: percent(row["average"]["mean"]),
    "std": lambda row: percent(row["average"]["std"]),
    "95 % interval": lambda row: interval(row["average"]),
    "worst group %": lambda row: percent(row["worst_group"]["mean"]),
    "std ": lambda row: percent(row["worst_group"]["std"]),
    "95 % interval ": lambda row: interval(row["worst_group"]),
    "which": lambda row: ", ".join(dict.fromkeys(row["worst_group"]["groups"])),
    "images": lambda row: min(row["worst_group"]["totals"]),
    "published": lambda row: published(row["reference"]),
}
PAPER: dict[str, Callable[[Row], Any]] = {
    "seeds": lambda row: len(row["seeds"]),
    "average %": lambda row: spread(row["average"]),
    "worst group %": lambda row: spread(row["worst_group"]),
    "95 % interval": lambda row: interval(row["worst_group"]),
}
DIFFERENCES: dict[str, Callable[[Row], Any]] = {
    "seeds": lambda row: row["difference"]["average"]["n"],
    "average": lambda row: gap(row["difference"]["average"]),
    "worst group": lambda row: gap(row["difference"]["worst_group"]),
    "together / alone": lambda row: ", ".join(
        f"{short_name(key)} {ours} / {other}"
        for key, (ours, other) in row["difference"]["differs"].items()
    ),
}


def short_name(key: str) -> str:
    """Return a setting's name without its section: `momentum` of `optimizer.momentum`."""
    name = key if key.startswith("stage_") else key.rpartition(".")[2]
    return SHORT.get(name, name)


def result_table(rows: Sequence[Row], figures: Mapping[str, Callable] = FIGURES) -> Table:
    """Return a line per row; settings are named where they differ.

    Args:
        figures: columns after those that name a row: FIGURES, PAPER, or DIFFERENCES.
    """
    names = differing_settings(rows)

    def settings(row: Row) -> str:
        shown = [name for name in names if name in row["settings"]]
        return ", ".join(f"{short_name(name)} {row['settings'][name]}" for name in shown)

    columns = ABOUT | ({"settings": settings} if names else {}) | figures
    if figures is DIFFERENCES and all(row["difference"]["matched"] for row in rows):
        del columns["together / alone"]
    lines = [tuple(str(get(row)) for get in columns.values()) for row in rows]
    return [tuple(columns), *lines]


def probe_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Return lines of cells, heads first: what `scripts.probe_features` found out about runs."""
    head = ("run", "task", "epoch", "linear probes %", "own worst group %", "balanced %", "finding")
    return [head] + [
        (
            run["run"],
            of["grouping"],
            str(of["epoch"]),
            ", ".join(f"{name} {percent(value)}" for name, value in of["accuracies"].items()),
            f"{percent(of['own']['worst'])} ({of['own']['worst_group']})",
            percent(of["balanced"]["worst"]),
            of["verdict"].partition(":")[0],
        )
        for run in runs
        for of in run["probes"]
    ]


def spread(figures: Mapping[str, float]) -> str:
    """Format mean and standard deviation over seeds: `46.9 ± 2.8`."""
    std = "" if figures["std"] is None else f" ± {percent(figures['std'])}"
    return percent(figures["mean"]) + std


def gap(figures: Mapping[str, float]) -> str:
    """Format a difference in points: `+1.2 (-0.5 to +2.9)`."""
    centre, low, high = (100 * figures[key] for key in ("difference", "low", "high"))
    return f"{centre:+.1f} ({low:+.1f} to {high:+.1f})"


def published(found: Mapping[str, Any] | None) -> str:
    """Format a published result: `46.9 ± 2.8: within 2 std (+3.1)`, the difference in points."""
    if found is None:
        return "-"
    shown = spread({"mean": found["worst_group"], "std": found["std"]})
    return f"{shown}: {found['verdict']} ({100 * found['difference']:+.1f})"


def csv_text(rows: Sequence[Row]) -> str:
    """Return a CSV of fractions in full, for other programs; a column for each setting."""
    names = dict.fromkeys(name for row in rows for name in row["settings"])
    lines = []
    for row in rows:
        found, worst = row["reference"] or {}, row["worst_group"]
        lines.append(
            {name: row[name] for name in ("split", "rule", "grouping", "method", "weighting")}
            | {"trained_with": _words(partners(row))}
            | {name: row["settings"].get(name) for name in names}
            | {"seeds": _words(row["seeds"]), "held_out_validation": row["has_validation"]}
            | {"chosen_epochs": _words(row["epochs"])}
            | {
                f"{measure}_{key}": row[measure][key]
                for measure in ("average", "worst_group")
                for key in ("mean", "std", "low", "high")
            }
            | {"worst_groups": ", ".join(worst["groups"])}
            | {"worst_group_images": _words(worst["totals"]), "interval": row["interval"]}
            | {"published_worst_group": found.get("worst_group"), "published_std": found.get("std")}
            | {"verdict": found.get("verdict")}
        )
    return pd.DataFrame(lines, dtype=object).to_csv(index=False)


def _words(values: Sequence[Any]) -> str:
    return " ".join(map(str, values))


def latex_text(table: Table, comment: str) -> str:
    """Return a table for booktabs."""
    lines = pd.DataFrame(table[1:], columns=table[0])
    lines = lines.replace(r"(?<=\d)-(?=\d)", "--", regex=True)
    return f"% \\usepackage{{booktabs}}\n% {comment}\n" + lines.to_latex(index=False, escape=True)
