"""Figures of a report over training: worst groups by epoch and task weights by step.

A panel is a setting; a task has a colour, and each seed a line of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from src.evaluation.plots import FAINT, INK
from src.report.curves import run_curves
from src.report.plots_marks import WEIGHTINGS, colour_cycle, readable
from src.report.rows import in_family
from src.runs.folder import Run

MOST_PANELS = 12  # every run's curves are on the page
_WIDTH, _HEIGHT, _COLUMNS = 3.7, 2.6, 3  # inches of a panel; panels side by side


@dataclass(frozen=True)
class Setting:
    """Runs that differ only in their seed: their name, tasks, and the curves of each seed (see
    `report_curves.run_curves`) with the epoch that was chosen, None where the rule is unknown."""

    name: str
    tasks: Sequence[str]
    seeds: Sequence[tuple[Mapping[str, Any], int | None]]


def settings_of(
    report: Mapping[str, Any], family: Sequence[Sequence[str]], rule: str, dynamic: bool
) -> tuple[list[Setting], int]:
    """The settings of a family whose runs are done, at most MOST_PANELS, and how many are left out.

    Args:
        family: lists of groupings trained together.
        dynamic: only those whose tasks are weighed by their loss.
    """
    grouped: dict[tuple, list[dict[str, Any]]] = {}
    for run in report["runs"]:
        counts = run["state"] == "done" and not run.get("repeats")
        if counts and in_family(run, family) and (run["weighting"] == "dynamic" or not dynamic):
            key = (run["method"], run["weighting"], *run["groupings"], *run["settings"].values())
            grouped.setdefault(key, []).append(run)
    shown = list(grouped.values())[:MOST_PANELS]
    return [_setting(runs, rule) for runs in shown], len(grouped) - len(shown)


def _setting(runs: Sequence[dict[str, Any]], rule: str) -> Setting:
    first = runs[0]
    weighting = WEIGHTINGS.get(first["weighting"], first["weighting"])
    names = [readable(name) for name in first["groupings"]]
    seeds = [(run_curves(Run(run["run"]), run["tasks"]), run["selected"].get(rule)) for run in runs]
    return Setting(
        "\n".join([f"{first['method'].upper()}, {weighting}", *names]), first["tasks"], seeds
    )


def worst_group_by_epoch(settings: Sequence[Setting], note: str = "") -> Figure | None:
    """Validation accuracy of each task's worst group; the epoch that was chosen has a ring.

    None where no run has been validated.
    """

    def draw(axis: Axes, setting: Setting) -> None:
        for curves, chosen in setting.seeds:
            for task, colour in zip(setting.tasks, colour_cycle(len(setting.tasks))):
                values = 100 * known(curves["worst_group"][task])
                axis.plot(curves["epochs"], values, color=colour, lw=1.4, marker="o", ms=2.5)
                if chosen in curves["epochs"]:
                    place = curves["epochs"].index(chosen)
                    ring = {"mfc": "white", "mec": colour, "mew": 1.8, "ms": 7, "zorder": 3}
                    axis.plot(chosen, values[place], "o", **ring)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))

    validated = [s for s in settings if any(curves["epochs"] for curves, _ in s.seeds)]
    title = "Worst-group accuracy on the validation split after each epoch"
    return _panels(title, validated, draw, "epoch", "worst group, %", note)


def weights_by_step(settings: Sequence[Setting], note: str = "") -> Figure | None:
    """Loss-balanced task weights; None where no run's weights move."""

    def draw(axis: Axes, setting: Setting) -> None:
        axis.axhline(1, color=FAINT, lw=0.8, ls=":", zorder=0)
        for curves, _ in setting.seeds:
            for task, colour in zip(setting.tasks, colour_cycle(len(setting.tasks))):
                if curves["weights"]:
                    weights = known(curves["weights"][task])
                    axis.plot(curves["steps"], weights, color=colour, lw=1.2)
        axis.set_ylim(0, None)
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))

    moving = [s for s in settings if any(curves["weights"] for curves, _ in s.seeds)]
    note = f"(L / L0)^alpha: low where the loss has fallen within the epoch; {note}"
    return _panels("Loss-balanced task weights", moving, draw, "step", "weight", note)


def known(values: Sequence[float | None]) -> np.ndarray:
    """A gap of a curve, None, as NaN."""
    return np.array([np.nan if value is None else value for value in values])


def _panels(
    title: str,
    settings: Sequence[Setting],
    draw: Callable[[Axes, Setting], None],
    xlabel: str,
    ylabel: str,
    note: str,
) -> Figure | None:
    """A panel per setting with its tasks as legend; None without a setting."""
    if not settings:
        return None
    columns = min(_COLUMNS, len(settings))
    lines = -(-len(settings) // columns)
    head = 0.19 * max(setting.name.count("\n") + 1 for setting in settings)
    width, height = max(7.4, _WIDTH * columns), (_HEIGHT + head) * lines + 0.85
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained", rect=(0.005, 0.3 / height, 0.99, 1 - 0.75 / height))
    figure.text(0.1 / width, 1 - 0.3 / height, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(0.1 / width, 0.1 / height, note, fontsize=8.5, color=FAINT)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axis in axes[len(settings) :]:
        axis.remove()
    for axis, setting in zip(axes, settings):
        draw(axis, setting)
        axis.set_title(setting.name, loc="left", fontsize=8.5, color=INK)
        axis.set_xlabel(xlabel)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e6e6e6", lw=0.8)
        handles = [
            Line2D([], [], color=colour, lw=2, label=readable(task))
            for task, colour in zip(setting.tasks, colour_cycle(len(setting.tasks)))
        ]
        axis.legend(handles=handles, frameon=False, fontsize=7.5, loc="best")
    for axis in axes[: len(settings) : columns]:
        axis.set_ylabel(ylabel)
    return figure
