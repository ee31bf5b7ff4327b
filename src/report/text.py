"""Write rows of a report as text: terminal, CSV and LaTeX. People see percent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from src.evaluation.table import interval, percent
from src.report.rows import Row, differing_settings

SHORT = {"weight_decay": "wd", "batch_size": "batch"}


def rule_text(row: Row) -> str:
    """Return the rule that selected the epochs; marked if validation held nothing out."""
    return row["rule"] + ("" if row.get("has_validation", True) else " (nothing held out)")


# Columns that name a row; settings come after them where they differ.
ABOUT: dict[str, Callable[[Row], Any]] = {
    "rule": rule_text,
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


def partners(row: Row) -> list[str]:
    """List the other tasks of the network."""
    return [name for name in row["groupings"] if name != row["grouping"]]


def settings_text(row: Row, names: Sequence[str]) -> str:
    """Format some of a row's settings: `lr 0.0001, wd 0.1`."""
    shown = (name for name in names if name in row["settings"])
    return ", ".join(f"{short_name(name)} {row['settings'][name]}" for name in shown)


def short_name(key: str) -> str:
    """Return a setting's name without its section: `momentum` of `optimizer.momentum`."""
    name = key if key.startswith("stage_") else key.rpartition(".")[2]
    return SHORT.get(name, name)


def result_table(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return lines of cells, heads first; settings are named where they differ."""
    return _table(rows, FIGURES)


def comparison_table(comparisons: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return lines of cells, heads first: several tasks minus one, in points."""
    gaps = {
        "seeds": lambda row: row["average"]["n"],
        "average": lambda row: gap(row["average"]),
        "worst group": lambda row: gap(row["worst_group"]),
    }
    if not all(row["matched"] for row in comparisons):
        gaps["together / alone"] = lambda row: differs_text(row["differs"])
    return _table(comparisons, gaps)


def probe_table(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
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


def differs_text(differs: Mapping[str, Sequence[Any]]) -> str:
    """Format settings that differ: `wd 0.01 / 0.0001, batch 32 / 128`."""
    return ", ".join(
        f"{short_name(key)} {ours} / {other}" for key, (ours, other) in differs.items()
    )


def _table(rows: Sequence[Row], figures: Mapping[str, Callable]) -> list[tuple[str, ...]]:
    names = differing_settings(rows)
    settings = {"settings": lambda row: settings_text(row, names)} if names else {}
    columns = ABOUT | settings | figures
    return [tuple(columns), *(tuple(str(get(row)) for get in columns.values()) for row in rows)]


def gap(figures: Mapping[str, float]) -> str:
    """Format a difference in points: `+1.2 (-0.5 to +2.9)`."""
    centre, low, high = (100 * figures[key] for key in ("difference", "low", "high"))
    return f"{centre:+.1f} ({low:+.1f} to {high:+.1f})"


def published(found: Mapping[str, Any] | None) -> str:
    """Format a published result: `46.9 ± 2.8: within 2 std (+3.1)`, the difference in points."""
    if found is None:
        return "-"
    std = "" if found["std"] is None else f" ± {percent(found['std'])}"
    difference = f"{100 * found['difference']:+.1f}"
    return f"{percent(found['worst_group'])}{std}: {found['verdict']} ({difference})"


def csv_text(rows: Sequence[Row]) -> str:
    """Return a CSV of fractions in full, for other programs; a column for each setting."""
    settings = dict.fromkeys(name for row in rows for name in row["settings"])
    columns = {name: [row[name] for row in rows] for name in ("split", "rule", "grouping")}
    columns |= {name: [row[name] for row in rows] for name in ("method", "weighting")}
    columns["trained_with"] = [words(partners(row)) for row in rows]
    columns |= {name: [row["settings"].get(name) for row in rows] for name in settings}
    columns["seeds"] = [words(row["seeds"]) for row in rows]
    columns["held_out_validation"] = [row["has_validation"] for row in rows]
    columns["chosen_epochs"] = [words(row["epochs"]) for row in rows]
    for measure in ("average", "worst_group"):
        for key in ("mean", "std", "low", "high"):
            columns[f"{measure}_{key}"] = [row[measure][key] for row in rows]
    columns["worst_groups"] = [", ".join(row["worst_group"]["groups"]) for row in rows]
    columns["worst_group_images"] = [words(row["worst_group"]["totals"]) for row in rows]
    columns["interval"] = [row["interval"] for row in rows]
    for name, key in (("published_worst_group", "worst_group"), ("published_std", "std")):
        columns[name] = [(row["reference"] or {}).get(key) for row in rows]
    columns["verdict"] = [(row["reference"] or {}).get("verdict") for row in rows]
    table = pd.DataFrame(
        {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    )
    return table.to_csv(index=False)


def words(values: Sequence[Any]) -> str:
    """Join values by spaces."""
    return " ".join(map(str, values))


def latex_text(rows: Sequence[Row]) -> str:
    """Return a table for booktabs: mean and std over seeds, in percent."""
    names = differing_settings(rows)
    columns = {
        "Task": lambda row: row["grouping"],
        "Trained with": lambda row: ", ".join(partners(row)) or "alone",
        "Method": lambda row: row["method"],
        "Weighting": ABOUT["weighting"],
        **({"Settings": lambda row: settings_text(row, names)} if names else {}),
        "Epoch by": rule_text,
        "Seeds": lambda row: len(row["seeds"]),
    }
    heads = [*columns, r"Average, \%", r"Worst group, \%", r"95\,\% interval (worst group)"]
    body = [
        [
            *(latex(get(row)) for get in columns.values()),
            spread(row["average"]),
            spread(row["worst_group"]),
            interval(row["worst_group"]).replace("-", "--"),
        ]
        for row in rows
    ]
    kinds = " or ".join(sorted({row["interval"] for row in rows}))
    splits = ", ".join(sorted({row["split"] for row in rows}))
    comment = f"{splits} split; mean and std over seeds; intervals: {kinds}"
    return booktabs(heads, body, comment, len(columns))


def latex_table(table: pd.DataFrame, comment: str) -> str:
    """Return a table of text for booktabs."""
    lines = table.itertuples(index=False)
    body = [[latex(value).replace("-", "--") for value in line] for line in lines]
    return booktabs([latex(name) for name in table], body, comment, len(table.columns))


def booktabs(
    heads: Sequence[str], body: Sequence[Sequence[str]], comment: str, num_text: int
) -> str:
    """Return a LaTeX table; the columns after the first `num_text` are aligned to the right."""
    alignment = "l" * num_text + "r" * (len(heads) - num_text)
    lines = [
        r"% \usepackage{booktabs}",
        f"% {comment}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *(" & ".join(line) + r" \\" for line in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join([*lines, ""])


def spread(figures: Mapping[str, Any]) -> str:
    std = "" if figures["std"] is None else rf" $\pm$ {percent(figures['std'])}"
    return percent(figures["mean"]) + std


def latex(value: Any) -> str:
    """Escape text for LaTeX."""
    return "".join(f"\\{c}" if c in "_&%#$" else c for c in str(value))
