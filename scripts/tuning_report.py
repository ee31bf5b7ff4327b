"""Report a hyperparameter grid: a table, a heatmap and the winner."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.experiments import Experiment, Setting
from scripts.jobs.job import Job
from src.evaluation.table import percent
from src.io import UserError
from src.runs.folder import Run

# The rules that select an epoch of each run, and the figure that is averaged over runs.
RULES = {"best-avg": "average accuracy", "best-group": "worst-group accuracy"}


@dataclass(frozen=True)
class Row:
    """A setting and the validation figures of its finished runs, by rule."""

    setting: Setting
    figures: dict[str, list[float]]
    wanted: int

    def mean(self, rule: str) -> float | None:
        """Return the mean over all runs; None while one is missing: tasks differ in difficulty."""
        values = self.figures[rule]
        return sum(values) / self.wanted if len(values) == self.wanted else None


def report(experiment: Experiment, jobs: Sequence[Job], folder: Path) -> None:
    """Print the table and the winners, and write heatmap.png into `folder`."""
    rows = collect(experiment, jobs)
    done = sum(len(row.figures["best-avg"]) for row in rows)
    print(
        f"validation, mean over {rows[0].wanted} runs each; {done} of {len(jobs)} runs are done\n"
    )
    print(
        f"{'weight decay':>12} {'lr':>8} {'batch':>6} {'runs':>6} {'average %':>10} {'worst %':>8}"
    )
    for row in rows:
        s, runs = row.setting, f"{len(row.figures['best-avg'])}/{row.wanted}"
        average, worst = (percent(row.mean(rule), 2) for rule in RULES)
        print(
            f"{s.weight_decay:>12g} {s.lr:>8g} {s.batch_size:>6} {runs:>6} {average:>10} {worst:>8}"
        )
    print()
    for rule, figure in RULES.items():
        print(winner_line(rows, rule, figure))
    if any(row.mean("best-avg") is not None for row in rows):
        path = folder / "heatmap.png"
        plot(rows, path)
        print(f"\n{path}")


def collect(experiment: Experiment, jobs: Sequence[Job]) -> list[Row]:
    """Return a row per setting; `jobs` are those of `grids.train_jobs`, settings slowest."""
    per_setting = len(experiment.runs) * len(experiment.seeds)
    rows = []
    for place, setting in enumerate(experiment.settings):
        figures: dict[str, list[float]] = {rule: [] for rule in RULES}
        for job in jobs[place * per_setting : (place + 1) * per_setting]:
            run = Run(job.run_dir)
            if run.status()["state"] != "done":
                continue
            history = run.history()
            for rule in RULES:
                if rule not in history["selected"]:
                    raise UserError(f"{run.path} has no {rule}: trained without group labels")
                epoch = history["selected"][rule]
                figures[rule].append(history["epochs"][epoch][rule])
        rows.append(Row(setting, figures, per_setting))
    return rows


def winner_line(rows: Sequence[Row], rule: str, figure: str) -> str:
    """Name the best complete setting; of equal ones the first."""
    complete = [row for row in rows if row.mean(rule) is not None]
    if not complete:
        return f"winner by {figure}: no setting has all its runs yet"
    best = max(complete, key=lambda row: row.mean(rule))
    s = best.setting
    line = f"winner by {figure}: lr {s.lr:g}, weight decay {s.weight_decay:g}, batch {s.batch_size}"
    missing = len(rows) - len(complete)
    return f"{line} ({percent(best.mean(rule), 2)} %)" + (
        f"; {missing} settings are not complete yet" if missing else ""
    )


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw weight decay x lr, a panel per batch size and rule."""
    import seaborn
    from matplotlib.figure import Figure

    from src.figures import save_figure

    batches = sorted({row.setting.batch_size for row in rows})
    figure = Figure(figsize=(8, 0.4 + 2.6 * len(batches)), layout="constrained")
    for axes, batch in zip(figure.subplots(len(batches), 2, squeeze=False), batches):
        same = [row for row in rows if row.setting.batch_size == batch]
        for axis, (rule, name) in zip(axes, RULES.items()):
            means = [(row.mean(rule), row.setting) for row in same]
            values = [(s.weight_decay, s.lr, np.nan if m is None else 100 * m) for m, s in means]
            columns = ["weight decay", "lr", "percent"]
            grid = pd.DataFrame(values, columns=columns).pivot(
                index=columns[0], columns=columns[1], values=columns[2]
            )
            seaborn.heatmap(grid, annot=True, fmt=".1f", cmap="viridis", ax=axis, cbar=False)
            axis.set_title(f"{name} %, batch {batch}", fontsize="medium", loc="left")
    save_figure(figure, path)
