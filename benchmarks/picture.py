"""The table in the terminal and as a picture."""

from pathlib import Path
from typing import Any


def show(report: dict[str, Any]) -> None:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=headline(report), title_justify="left")
    for name in ("what", "ratio", "ours", "theirs", "unit", "target", "met", "n"):
        table.add_column(name, justify="left" if name in ("what", "unit") else "right")
    for row in report["rows"]:
        compared = row["theirs"] is not None
        table.add_row(
            row["name"],
            f"{row['value']:.3g}" if compared else "",
            f"{row['ours']:,.4g}",
            f"{row['theirs']:,.4g}" if compared else "",
            row["unit"],
            target(row),
            {True: "yes", False: "NO", None: ""}[row["met"]],
            str(row["repeats"]),
        )
    Console(width=None if Console().is_terminal else 140).print(table)


def target(row: dict[str, Any]) -> str:
    if row["target"] is None:
        return ""
    sign = "<=" if row["at_most"] else ">="
    return f"{sign} {row['target']:,g}{'x' if row['theirs'] is not None else ''}"


def headline(report: dict[str, Any]) -> str:
    about = report["machine"]
    return f"{about.get('gpu', about['cpu'])}, {about['cores']} CPU cores, torch {about['torch']}"


def draw(report: dict[str, Any], path: Path) -> None:
    """Horizontal bars on a log axis: how many times over each target is met."""
    try:
        import matplotlib
    except ImportError:  # a bare GPU machine; the JSON holds everything
        print("no matplotlib: no picture", flush=True)
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in report["rows"] if row["target"] is not None][::-1]
    if not rows:
        return
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.42 * len(rows)), layout="constrained")
    scores = [row["score"] for row in rows]
    colours = ["#2a7f62" if row["met"] else "#c0392b" for row in rows]
    axis.barh([row["name"] for row in rows], [score - 1 for score in scores], left=1, color=colours)
    axis.set_xscale("log")
    axis.set_xlim(min(0.4, *scores) * 0.8, max(4, *scores) * 4)
    axis.axvline(1, color="black", lw=1)
    for place, row in enumerate(rows):
        side = "x" if row["theirs"] is not None else f" {row['unit']}"
        text = f" {row['value']:,.3g}{side}  (target {target(row)}) "
        axis.text(max(row["score"], 1), place, text, va="center", fontsize="small")
    axis.set_xlabel("times better than the target (right of the line: met)")
    axis.set_title(headline(report), loc="left", fontsize="medium")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
