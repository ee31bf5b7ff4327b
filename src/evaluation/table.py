"""Results as tables in the terminal; people see percent."""

from typing import Any

from rich.console import Console
from rich.table import Table

from src.evaluation.results import task_figures


def percent(value: float | None, digits: int = 1) -> str:
    """A fraction as percent; `-` where there is none."""
    return "-" if value is None else f"{100 * value:.{digits}f}"


def interval(figures: dict[str, Any] | None) -> str:
    """`87.1-93.4`, the limits of `low` and `high`; `-` where there are none."""
    if figures is None or figures["low"] is None:
        return "-"
    return f"{percent(figures['low'])}-{percent(figures['high'])}"


def print_evaluation(report: dict[str, Any], console: Console | None = None) -> None:
    """One table per grouping: accuracy, 95 % interval and n per group, the worst group marked."""
    console = console or Console()
    checkpoint = report["checkpoint"]
    console.print(
        f"{report['run']}: {report['split']} split, checkpoint {checkpoint['name']} "
        f"(epoch {checkpoint['epoch']})",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for name, figures in task_figures(report).items():
        worst = figures["worst_group"]
        table = Table(title=name, title_justify="left", title_style="bold")
        table.add_column("group")
        for column in ("n", "accuracy %", "95 % interval"):
            table.add_column(column, justify="right")
        table.add_column("")
        for group in figures["groups"]:
            is_worst = worst is not None and group["id"] == worst["id"]
            table.add_row(
                f"g{group['id']}  {group['name']}",
                f"{group['total']:,}",
                percent(group["acc"]),
                interval(group),
                "worst" if is_worst else "",
                style="bold red" if is_worst else None,
            )
        table.add_section()
        total = sum(group["total"] for group in figures["groups"])
        table.add_row("average", f"{total:,}", percent(figures["avg_acc"]), "", "")
        table.add_row("worst group", "", percent(worst and worst["acc"]), interval(worst), "")
        console.print(table)
